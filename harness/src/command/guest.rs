//! `gauntlet repro --kernel`: the case in a guest with another kernel. Kernels, machines and their
//! programs are `cargo xtask matrix`'s; this finds it, and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Failure;
use crate::cli::{Guest, Repro};

/// What only the repository has.
const XTASK: &str = "ci/xtask/Cargo.toml";

impl Guest {
    pub(super) fn is_asked_for(&self) -> bool {
        self.kernel.is_some() || self.kernel_image.is_some()
    }
}

/// Never returns but with the reason why nothing was started.
pub(super) fn repro(arguments: &Repro) -> Result<u8, Failure> {
    let here = std::env::current_dir().unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let repository = repository(&here).or_else(|| repository(&program));
    let repository = repository.ok_or_else(|| {
        Failure::infra(
            "--kernel boots a guest by the repository's `cargo xtask matrix`: run this inside the repository",
        )
    })?;
    let mut matrix = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    matrix
        .args(["xtask", "matrix"])
        .args(options(arguments, &here))
        .current_dir(repository);
    let error = matrix.exec();
    Err(Failure::infra(format!("cargo cannot be started: {error}")))
}

fn repository(place: &Path) -> Option<&Path> {
    place
        .ancestors()
        .find(|folder| folder.join(XTASK).is_file())
}

/// As `cargo xtask matrix` takes them, which is started elsewhere.
fn options(arguments: &Repro, here: &Path) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec!["--repro".into(), arguments.case.clone().into()];
    let mut option = |name: &str, value: OsString| options.extend([name.into(), value]);
    let guest = &arguments.guest;
    if let Some(series) = &guest.kernel {
        option("--kernel", series.into());
    }
    let absolute = |path: &PathBuf| here.join(path).into_os_string();
    if let Some(image) = &guest.kernel_image {
        option("--kernel-image", absolute(image));
    }
    if let Some(modules) = &guest.modules {
        option("--modules", absolute(modules));
    }
    if let Some(seed) = arguments.seed {
        option("--seed", seed.to_string().into());
    }
    if arguments.keep {
        options.push("--keep".into());
    }
    options
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn of(line: &str) -> String {
        let words = ["gauntlet", "repro", "a::b"].into_iter();
        let Command::Repro(arguments) = Cli::parse_from(words.chain(line.split(' '))).command
        else {
            panic!("`repro` is `repro`");
        };
        let options = options(&arguments, Path::new("/here")).into_iter();
        let words: Vec<String> = options
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn what_was_asked_reaches_the_matrix() {
        assert_eq!(
            of("--kernel 5.10 --seed 7 --keep"),
            "--repro a::b --kernel 5.10 --seed 7 --keep"
        );
        assert_eq!(
            of("--kernel-image bzImage --modules /lib/modules"),
            "--repro a::b --kernel-image /here/bzImage --modules /lib/modules"
        );
    }

    #[test]
    fn the_repository_is_found_from_below_and_nowhere_else() {
        let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(repository(&harness.join("src")), harness.parent());
        assert_eq!(repository(Path::new("/")), None);
    }
}

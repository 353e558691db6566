//! `vmtest.toml`: the file that is checked in, and one for a kernel of one's own.

use std::{fmt::Write, path::Path};

use super::series;

const HEAD: &str = "\
# The kernels of the matrix, for vmtest: one target for each series, named by it.
#
# `cargo xtask matrix --prepare` fetches the kernels and puts everything below target/matrix; after
# that plain `vmtest` works here, and `vmtest -f '^6\\.1$'` is one kernel. `cargo xtask matrix` runs the
# same targets with time limits, judges the kernels' logs, and makes reports.
#
# The list is ci/xtask/src/matrix/series.rs; a test there compares it with this file.
";

/// The text of `vmtest.toml`.
pub(crate) fn checked_in() -> String {
    let mut text = HEAD.to_owned();
    for series in &series::ALL {
        text.push_str(&target(
            series.name,
            "target/matrix",
            "/mnt/vmtest/target/matrix",
        ));
    }
    text
}

/// A configuration with one target, whose folder is `root`/`name`. The guest's root is the host's.
pub(crate) fn own(name: &str, root: &Path) -> String {
    let root = root.display().to_string();
    target(name, &root, &root)
}

fn target(name: &str, host: &str, guest: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"
[[target]]
name = "{name}"
kernel = "{host}/{name}/vmlinuz"
qemu_command = "{host}/bin/gauntlet-qemu" # the host's root read-only, its results folder writable
command = "{guest}/bin/gauntlet-suite"
[target.vm]
num_cpus = 2
memory = "2G"
extra_args = ["-initrd", "{host}/{name}/initramfs"] # modules of a stock kernel, and 9p as its root
"#
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn the_file_of_the_repository_has_every_series() {
        let file = std::fs::read_to_string(paths::repo_root().join("vmtest.toml")).unwrap();
        assert_eq!(
            file,
            checked_in(),
            "write vmtest.toml anew with: cargo xtask matrix --targets > vmtest.toml"
        );
    }

    #[test]
    fn both_are_toml() {
        toml::from_str::<toml::Table>(&checked_in()).unwrap();
        toml::from_str::<toml::Table>(&own("own", Path::new("/a b/target/matrix"))).unwrap();
    }
}

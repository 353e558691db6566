//! Makes the machine able to build and run gauntlet, and says each thing it
//! does in one line. What is there already costs a look, not an installation.
//!
//! Only Debian packages need root; everything else goes into our cache folder
//! or the user's toolchain. Without root this module does the rest, and then
//! says the line to run: it never calls sudo.

use std::{fs, fs::File, path::Path};

use anyhow::{Context, Result};

use crate::{exit, paths, toolchain::Toolchain};

mod boring;
mod bpf_linker;
mod cargo_tool;
mod components;
mod debian;
mod llvm_tools;
mod rust_src;

pub(crate) use cargo_tool::CargoTool;
pub(crate) use llvm_tools::folder as llvm_tools;

/// How much to install.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What building, running and testing needs.
    Build,
    /// What building needs, and fuzzing.
    Fuzz,
    /// What building needs, and mutation testing.
    Mutants,
    /// What building needs, and coverage.
    Coverage,
    /// What building needs, and virtual machines.
    Vm,
    /// What virtual machines need, where everything was built before.
    Boot,
    /// What building needs, and BoringSSL's part in the suite.
    Boring,
    /// All that any command needs.
    All,
}

/// What came of it.
#[must_use = "a machine that is not ready cannot build"]
pub(crate) enum Setup {
    /// All there; true when something had to be installed for it.
    Ready { changed: bool },
    /// Each entry is one line that says what is missing and what to run.
    Incomplete(Vec<String>),
}

/// Installs what `scope` lacks.
///
/// # Errors
/// When the cache folder or the toolchain cannot be used at all. One thing that
/// cannot be installed is no error but an entry of [`Setup::Incomplete`], so
/// that a person learns of everything at once.
pub(crate) fn ensure(scope: Scope) -> Result<Setup> {
    let cache = paths::cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _one_setup_at_a_time = lock(&cache)?;
    let toolchain = Toolchain::detect()?;

    let mut steps = vec![("Debian packages", debian::ensure(scope))];
    if scope != Scope::Boot {
        steps.extend([
            ("rustfmt and clippy", components::ensure(&toolchain)),
            ("rust-src", rust_src::ensure(&toolchain, &cache)),
            ("bpf-linker", bpf_linker::ensure(&toolchain, &cache)),
        ]);
    }
    if matches!(scope, Scope::Fuzz | Scope::All) {
        steps.push(("cargo-fuzz", CargoTool::FUZZ.ensure(&cache)));
    }
    if matches!(scope, Scope::Mutants | Scope::All) {
        steps.push(("cargo-mutants", CargoTool::MUTANTS.ensure(&cache)));
    }
    if matches!(scope, Scope::Coverage | Scope::All) {
        steps.push(("cargo-llvm-cov", CargoTool::LLVM_COV.ensure(&cache)));
        steps.push(("LLVM's tools", llvm_tools::ensure(&toolchain)));
    }
    if matches!(scope, Scope::Vm | Scope::Boot | Scope::All) {
        steps.push(("vmtest", CargoTool::VMTEST.ensure(&cache)));
    }

    // It cannot be built without its packages, and would only say so at length.
    let packages = matches!(steps[0].1, Ok(Step::Present | Step::Installed));
    if scope == Scope::Boring && packages {
        steps.push(("the BoringSSL peer", boring::ensure()));
    }

    let mut changed = false;
    let mut missing = Vec::new();
    for (what, step) in steps {
        match step {
            Ok(Step::Present) => {}
            Ok(Step::Installed) => changed = true,
            Ok(Step::ByHand(line)) => missing.push(line),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    Ok(if missing.is_empty() {
        Setup::Ready { changed }
    } else {
        Setup::Incomplete(missing)
    })
}

/// Says how it ended and gives the exit code.
pub(crate) fn report(setup: Setup) -> u8 {
    match setup {
        Setup::Ready { changed: false } => say("nothing is missing"),
        Setup::Ready { changed: true } => say("done"),
        Setup::Incomplete(missing) => {
            missing.iter().for_each(say);
            return exit::NO_VERDICT;
        }
    }
    exit::OK
}

/// For commands that go on only when the machine is ready: `Some` is the code
/// to exit with.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn blocked(scope: Scope) -> Result<Option<u8>> {
    Ok(match ensure(scope)? {
        Setup::Ready { .. } => None,
        incomplete @ Setup::Incomplete(_) => Some(report(incomplete)),
    })
}

/// What one step did.
enum Step {
    Present,
    Installed,
    /// Cannot be done from here; the line says what a person has to run.
    ByHand(String),
}

fn say(line: impl AsRef<str>) {
    eprintln!("setup: {}", line.as_ref());
}

/// Held until dropped; the kernel drops it too if we are killed.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("setup.lock");
    let open = || File::options().create(true).append(true).open(&path);
    let file = open().with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        say("waiting for another setup to end");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

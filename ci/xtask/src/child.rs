//! Running other programs: quietly, with the output kept for the case that they
//! fail, or live. Decides nothing about what their exit codes mean.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// The cargo that runs this xtask, told nothing of it: what `cargo run` says of xtask's own package
/// would count as a change to every build script that asks, and builds by hand and from here would
/// undo one another.
pub(crate) fn cargo() -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if of_package(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn of_package(variable: &str) -> bool {
    [
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|prefix| variable.starts_with(prefix))
}

/// A command in the environment that xtask itself was started from.
///
/// `cargo run` puts its own folders into `LD_LIBRARY_PATH`. Passed on, they
/// would hide a linker that no longer finds its LLVM by itself.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        match without_cargo_folders(&path) {
            Some(rest) => command.env("LD_LIBRARY_PATH", rest),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// `None` when nothing is left.
fn without_cargo_folders(library_path: &OsStr) -> Option<OsString> {
    let own_target = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_path_buf()));
    let rest: Vec<PathBuf> = env::split_paths(library_path)
        .filter(|dir| !dir.as_os_str().is_empty())
        .filter(|dir| {
            own_target
                .as_ref()
                .is_none_or(|target| !dir.starts_with(target))
        })
        // A sysroot of Rust is known by what it holds.
        .filter(|dir| !dir.join("rustlib").is_dir() && !dir.to_string_lossy().contains("/rustlib/"))
        .collect();
    if rest.is_empty() {
        None
    } else {
        env::join_paths(rest).ok()
    }
}

/// Runs to the end and returns what was printed on standard output.
///
/// # Errors
/// When the program cannot start or fails; the error carries all of its output.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{} ({})\n{}{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end and returns whatever came out of it.
///
/// # Errors
/// When the program cannot start.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    output.with_context(|| format!("cannot start `{}`", line(command)))
}

/// Runs to the end with our own terminal; true when it succeeded.
///
/// # Errors
/// When the program cannot start.
pub(crate) fn live(command: &mut Command) -> Result<bool> {
    let status = command.status();
    Ok(status
        .with_context(|| format!("cannot start `{}`", line(command)))?
        .success())
}

/// The command as a person would type it, for messages.
pub(crate) fn line(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    [name]
        .into_iter()
        .chain(command.get_args())
        .fold(String::new(), |mut line, word| {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word.to_string_lossy());
            line
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_hears_nothing_of_xtask_s_own_package() {
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some(), "a test has it");
        let cargo = cargo();
        let removed = |name: &str| {
            let mut changes = cargo.get_envs();
            changes.any(|(changed, value)| changed == name && value.is_none())
        };
        assert!(removed("CARGO_MANIFEST_DIR") && removed("CARGO_PKG_NAME"));
        assert!(!of_package("CARGO_HOME") && !of_package("CARGO_TARGET_DIR"));
    }

    #[test]
    fn failure_carries_the_output() {
        let error =
            quiet(command("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("out\nerr"), "{text}");
    }

    #[test]
    fn library_path_of_the_user_survives() {
        let own = env::current_exe().unwrap();
        let path = env::join_paths([own.parent().unwrap(), "/opt/mine".as_ref()]).unwrap();
        assert_eq!(without_cargo_folders(&path), Some("/opt/mine".into()));
        assert_eq!(
            without_cargo_folders(own.parent().unwrap().as_os_str()),
            None
        );
    }

    #[test]
    fn line_names_the_program_without_its_folder() {
        let mut command = Command::new("/a/b/cargo");
        command.args(["fmt", "--all"]);
        assert_eq!(line(&command), "cargo fmt --all");
    }
}

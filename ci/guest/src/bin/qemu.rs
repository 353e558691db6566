//! The QEMU that `vmtest.toml` names: the real one, with a guest that cannot write the host's files.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use gauntlet_guest::qemu::{Accelerator, PROGRAM, kernel_folder, rewrite, terminal};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

fn main() -> ExitCode {
    // vmtest may be killed at a time limit, and does not end its QEMU then.
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        eprintln!("cannot tie QEMU to vmtest: {error}");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let arguments = match kernel_folder(&arguments) {
        None => arguments,
        Some(folder) => rewrite(
            &arguments,
            &folder,
            Accelerator::read(&folder),
            terminal(&folder).as_ref(),
        ),
    };
    let error = Command::new(PROGRAM).args(arguments).exec();
    eprintln!("cannot start {PROGRAM}: {error}");
    ExitCode::FAILURE
}

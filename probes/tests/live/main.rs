//! The shipped `mtls-probe` against live traffic: real packets between anonymous network namespaces,
//! real OpenSSL where it matters, raw sockets where OpenSSL cannot be made to misbehave.
//!
//! | file | claims |
//! |---|---|
//! | `openssl` | what Debian's `openssl s_server` and `s_client` do to each other is named |
//! | `library` | what their libraries say of it is joined to it, and nothing else is |
//! | `boring` | so is what BoringSSL says, inside a program that is named |
//! | `cgroup` | the sockets of a cgroup are watched, once, and nobody else's |
//! | `clsact`, `tcx` | attaching, and what is left after every kind of end |
//! | `exits` | privileges, bad usage, signals, exit codes, one clear line |
//! | `interfaces` | interfaces that come and go are watched while they are there |
//! | `namespaces` | so are namespaces that a pattern finds |
//! | `keylog` | with a key log that OpenSSL writes meanwhile, hidden alerts have their names |
//! | `losses` | what is not reported is counted, exactly: offered = delivered + lost, by cause |
//! | `paths` | tagged frames, tunnels, loopback, namespaces that look alike |
//! | `perf` | by perf event array the same is told |
//! | `replay` | recorded captures say the same in the kernel as on the host |
//! | `refusal` | a verifier's refusal keeps the whole log |
//!
//! Needs root, `openssl` and `ip`. Without them the trials are shown as ignored, with the reason, and
//! the run fails when `GAUNTLET_REQUIRE=bpf` says that this machine must be able to run them.

mod boring;
mod cgroup;
mod clsact;
mod exits;
mod flood;
mod interfaces;
mod keylog;
mod library;
mod losses;
mod namespaces;
mod openssl;
mod orphans;
mod paths;
mod perf;
mod raw;
#[expect(dead_code, reason = "the host's test reads more of a case")]
#[path = "../recorded/mod.rs"]
mod recorded;
mod refusal;
mod replay;
mod stand;
mod tcx;
mod watch;

use std::process::{Command, ExitCode, Stdio};

use gauntlet_probes::privileges;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = [
        openssl::trials(),
        cgroup::trials(),
        clsact::trials(),
        tcx::trials(),
        exits::trials(),
        interfaces::trials(),
        namespaces::trials(),
        keylog::trials(),
        library::trials(),
        boring::trials(),
        losses::trials(),
        paths::trials(),
        perf::trials(),
        replay::trials(),
        refusal::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(reason) = lacking() {
        let count = trials.len();
        if std::env::var("GAUNTLET_REQUIRE")
            .is_ok_and(|list| list.split(',').any(|name| name.trim() == "bpf"))
        {
            eprintln!("GAUNTLET_REQUIRE names bpf, but {count} trials cannot run: {reason}");
            return ExitCode::FAILURE;
        }
        eprintln!("{count} trials ignored: {reason}");
        trials = trials
            .into_iter()
            .map(|trial| trial.with_ignored_flag(true))
            .collect();
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Why the trials cannot run here.
fn lacking() -> Option<String> {
    if let Err(missing) = privileges::check(true) {
        return Some(missing.to_string());
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("not root, which the trials need to become somebody else".into());
    }
    [
        ("ip", "-V"),
        ("tc", "-V"),
        ("openssl", "version"),
        ("setpriv", "-V"),
    ]
    .into_iter()
    .find(|(program, version)| {
        let quiet = Command::new(program)
            .arg(version)
            .stdout(Stdio::null())
            .status();
        !quiet.is_ok_and(|status| status.success())
    })
    .map(|(program, _)| format!("{program} is not installed"))
}

//! `cargo xtask matrix --repro`: one case in one guest, shown as `gauntlet repro` shows it; with `--keep`,
//! at a terminal in that guest.

use std::{
    fs,
    io::{Write, stdout},
    time::Duration,
};

use anyhow::{Context, Result};
use gauntlet_guest::protocol;

use super::{
    Options, Target, console, results, say,
    terminal::Terminal,
    verdict::{self, Seen},
};
use crate::exit;

/// With a person at the terminal, there is no limit that anybody would notice.
const NO_LIMIT: Duration = Duration::MAX;

/// Runs the case; its exit code is that of `gauntlet repro`, where the guest came to its end.
///
/// # Errors
/// When vmtest cannot be started.
pub(super) fn repro(target: &Target, options: &Options, limit: Duration) -> Result<u8> {
    let terminal = if options.keep {
        Terminal::here()?
    } else {
        None
    };
    target.folder.ask(&options.request())?;
    if let Some(terminal) = &terminal {
        let told = terminal.told().to_text();
        fs::write(target.folder.results().join(protocol::TERMINAL), told)
            .context("cannot write the terminal's name")?;
    }
    let limit = if options.keep { NO_LIMIT } else { limit };
    let seen = target.boot(limit, terminal.as_ref())?;
    // Gives the terminal back.
    drop(terminal);
    show(target, seen)
}

/// Prints what a guest showed; the exit code is that of what it ran, where it came to its end in a healthy
/// kernel.
///
/// # Errors
/// When nothing can be printed.
pub(super) fn show(target: &Target, seen: Seen) -> Result<u8> {
    let shown = fs::read_to_string(target.folder.results().join(protocol::SHOWN));
    let mut out = stdout().lock();
    write!(out, "{}", for_the_host(&shown.unwrap_or_default(), target))?;
    out.flush()?;
    let log = fs::read_to_string(target.folder.results().join(protocol::LOG));
    eprint!("{}", log.unwrap_or_default());
    let ended = results::ended(&target.folder.results()).and_then(|code| code.try_into().ok());
    match ended {
        Some(code) if console::judge(&seen.console).is_none() => Ok(code),
        ended => {
            let seen = Seen {
                results: Err("no end marker came back".into()),
                ..seen
            };
            let judged = verdict::judge(&seen, &[]);
            for reason in &judged.reasons {
                say(format!(
                    "{}: {}: {reason}",
                    target.name,
                    judged.verdict.name()
                ));
            }
            Ok(if ended.is_some() {
                exit::UNEXPECTED
            } else {
                exit::NO_VERDICT
            })
        }
    }
}

/// Names in the guest as names here.
fn for_the_host(shown: &str, target: &Target) -> String {
    let results = target.folder.results().display().to_string();
    let mut text = String::new();
    for line in shown.lines() {
        text.push_str(&line.replace(protocol::RESULTS_FOLDER, &results));
        if line.starts_with("again:") {
            text.push_str(&target.again());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::folder::Folder;

    #[test]
    fn places_and_the_reproducer_are_those_of_the_host() {
        let target = Target {
            name: "5.10".into(),
            folder: Folder::of("5.10"),
            configuration: "vmtest.toml".into(),
            own: None,
        };
        let shown = "artifacts: /mnt/results/artifacts/run-1/a.b\nagain:     gauntlet repro a::b --seed 1\n";
        let text = for_the_host(shown, &target);
        assert!(
            text.ends_with("again:     gauntlet repro a::b --seed 1 --kernel 5.10\n"),
            "{text}"
        );
        let folder = target.folder.results().join("artifacts/run-1/a.b");
        assert!(text.contains(&folder.display().to_string()), "{text}");
    }
}

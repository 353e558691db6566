//! `cargo xtask matrix --repro`: one case in one guest, shown as `gauntlet repro` shows it; with `--keep`,
//! at a terminal in that guest.

use std::{
    fs,
    io::{Write, stdout},
    time::Duration,
};

use anyhow::Result;
use gauntlet_guest::{protocol, qemu::Accelerator};

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
pub(super) fn repro(
    target: &Target,
    options: &Options,
    limit: Duration,
    accelerator: Accelerator,
) -> Result<u8> {
    let terminal = if options.keep {
        Terminal::here()?
    } else {
        None
    };
    let Some(terminal) = terminal else {
        let seen = target.ask(&options.request(), None, limit, accelerator)?;
        return Ok(show(target, seen)?.code);
    };
    let told = terminal.told().to_text();
    let told = Some((protocol::TERMINAL, &*told));
    target.folder.ask(&options.request(), told)?;
    let seen = target.boot(NO_LIMIT, Some(&terminal))?;
    // Gives the terminal back.
    drop(terminal);
    Ok(show(target, seen)?.code)
}

/// How a guest ended that was shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The exit code of what it ran, where it came to its end in a healthy kernel.
    pub(super) code: u8,
    /// Why that is not [`exit::OK`], a line each.
    pub(super) reasons: Vec<String>,
}

/// Prints what a guest showed.
///
/// # Errors
/// When nothing can be printed.
pub(super) fn show(target: &Target, seen: Seen) -> Result<Shown> {
    let results = target.folder.results();
    let shown = fs::read_to_string(results.join(protocol::SHOWN)).unwrap_or_default();
    let shown = for_the_host(&shown, target);
    let mut out = stdout().lock();
    write!(out, "{shown}")?;
    out.flush()?;
    eprint!("{}", seen.suite);
    let code = results::ended(&results).and_then(|code| code.try_into().ok());
    let ended = judge(code, &shown, seen);
    for reason in &ended.reasons {
        say(format!("{}: {reason}", target.name));
    }
    Ok(ended)
}

/// How the lines begin that tell of a finding: `gauntlet recut`'s, and the differential's.
const FINDINGS: [&str; 2] = ["fail ", "FOUND:"];

/// How it ended, of the code of what it ran, if that came to its end.
fn judge(code: Option<u8>, shown: &str, seen: Seen) -> Shown {
    let Some(code) = code.filter(|_| console::judge(&seen.console).is_none()) else {
        let seen = Seen {
            results: Err("no end marker came back".into()),
            ..seen
        };
        let judged = verdict::judge(&seen, &[]);
        let reasons = judged.reasons.iter();
        return Shown {
            code: match code {
                Some(_) => exit::UNEXPECTED,
                None => exit::NO_VERDICT,
            },
            reasons: reasons
                .map(|reason| format!("{}: {reason}", judged.verdict.name()))
                .collect(),
        };
    };
    let last = |text: &str| {
        let lines = text.lines().rev().map(str::trim);
        lines.map(String::from).find(|line| !line.is_empty())
    };
    // What was found is shown; why nothing could be is complained of. Beside both, some tell how far they are.
    let found = || {
        let mut lines = shown.lines().map(str::trim);
        lines
            .find(|line| FINDINGS.iter().any(|begin| line.starts_with(begin)))
            .map(String::from)
    };
    let why = match code {
        exit::UNEXPECTED => found()
            .or_else(|| last(shown))
            .or_else(|| last(&seen.suite)),
        _ => last(&seen.suite).or_else(|| last(shown)),
    };
    let why = why.unwrap_or_else(|| "it did not say why".into());
    Shown {
        code,
        reasons: (code != exit::OK)
            .then(|| format!("it ended with code {code}: {why}"))
            .into_iter()
            .collect(),
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

    #[test]
    fn what_is_not_green_has_a_reason() {
        let seen = |suite: &str, console: &str| Seen {
            timed_out: None,
            begun: true,
            console: console.into(),
            results: Err("no case".into()),
            vmtest: String::new(),
            suite: suite.into(),
        };
        let of = |code, shown: &str, seen| {
            let Shown { code, reasons } = judge(code, shown, seen);
            (code, reasons.join("; "))
        };
        assert_eq!(of(Some(0), "fine\n", seen("x\n", "")), (0, String::new()));
        let (code, why) = of(Some(2), "", seen("one\ngauntlet: no memory\n\n", ""));
        assert_eq!(
            (code, &*why),
            (2, "it ended with code 2: gauntlet: no memory")
        );
        let shown = "1 case\nfail  a, way 3\n1 says something else\n";
        let (code, why) = of(Some(1), shown, seen("9 packets\n", ""));
        assert_eq!((code, &*why), (1, "it ended with code 1: fail  a, way 3"));
        let (code, why) = of(Some(1), "a budget is missed\n", seen("half\n", ""));
        assert_eq!(
            (code, &*why),
            (1, "it ended with code 1: a budget is missed")
        );
        let (code, why) = of(Some(4), "", seen("", ""));
        assert_eq!(
            (code, &*why),
            (4, "it ended with code 4: it did not say why")
        );
        // No end, and an end in a kernel that is not well.
        let (code, why) = of(None, "half\n", seen("", ""));
        assert_eq!(
            (code, &*why),
            (exit::NO_VERDICT, "infra: no end marker came back")
        );
        let (code, why) = of(Some(0), "", seen("", "[    1.0] BUG: x\n"));
        assert_eq!(code, exit::UNEXPECTED);
        assert!(
            why.starts_with("fail: the guest's kernel reported"),
            "{why}"
        );
    }
}

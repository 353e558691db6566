//! The matrix, tested on guests that go wrong on purpose: each has to end as the right verdict, with
//! the right reason. The judging alone has tests of its own; these boot, and run one real case where the
//! fault leaves anything to run.

use std::{fs, time::Duration};

use anyhow::Result;
use gauntlet_guest::{
    protocol::{self, Fault, Request, Task},
    qemu::Accelerator,
};

use super::{Judgement, Target, say, support, verdict::Verdict, vm};

/// A case that takes no time.
const CASE: &str = "unknown_ca::tls1_2::client_rejects::rustls::ipv4";

/// How long a suite that hangs is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The verdict that a fault has to become, and parts of its reasons.
fn expected(fault: Fault) -> (Verdict, &'static [&'static str]) {
    match fault {
        Fault::Panic => (Verdict::Fail, &["a panic: Kernel panic - not syncing"]),
        Fault::Hang => (Verdict::Hang, &["the suite did not end within"]),
        Fault::NeverRan => (Verdict::Infra, &["no end marker came back"]),
        Fault::CutShort => (Verdict::Infra, &["cases.ndjson"]),
        // No case can be judged then, and the reason is there beside that.
        Fault::Refused => (
            Verdict::Infra,
            &[
                "gauntlet_watch was refused by 5.10; support.toml says `works`",
                ": invalid func unknown#208",
            ],
        ),
    }
}

/// What a snapshot of the planted refusal has to say: the helper that 5.10 does not have, and the line
/// of the source that calls it.
const SNAPSHOT: [&str; 3] = [
    "program: gauntlet_watch\n",
    "programs/src/planted.rs:",
    "invalid func unknown#208\n",
];

/// Makes every fault on one kernel; a line for each that was not told as it should be.
///
/// # Errors
/// When vmtest cannot be started.
pub(super) fn check(target: &Target, accelerator: Accelerator) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for fault in Fault::ALL {
        let judged = make(fault, target, accelerator)?;
        let (verdict, parts) = expected(fault);
        let reason = judged.reasons.join("; ");
        say(format!(
            "a guest with the fault `{}`: {}: {reason}",
            fault.name(),
            judged.verdict.name()
        ));
        if judged.verdict != verdict || !parts.iter().all(|part| reason.contains(part)) {
            wrong.push(format!(
                "the fault `{}` was told as {}: {reason}; expected {}: {}",
                fault.name(),
                judged.verdict.name(),
                verdict.name(),
                parts.join("; ")
            ));
        }
    }
    let about = super::refusal::place(&target.name, "gauntlet_watch").join("about.txt");
    let snapshot = fs::read_to_string(&about).unwrap_or_default();
    for part in SNAPSHOT.iter().filter(|part| !snapshot.contains(**part)) {
        wrong.push(format!(
            "{} does not say `{}`: {snapshot:?}",
            about.display(),
            part.trim_end()
        ));
    }
    Ok(wrong)
}

/// One guest, and how it is told.
fn make(fault: Fault, target: &Target, accelerator: Accelerator) -> Result<Judgement> {
    let mut limit = vm::Limit::from(vm::limit(accelerator));
    if fault == Fault::Hang {
        limit.suite = PATIENCE;
    }
    let request = Request {
        task: Task::Test,
        arguments: vec![CASE.into(), "--exact".into()],
    };
    let fault = Some((protocol::FAULT, fault.name()));
    let seen = target.ask(&request, fault, limit, accelerator)?;
    super::judge(target, &seen, &support::Table::read()?)
}

//! The matrix, tested on guests that go wrong on purpose: each has to end as the right verdict, with
//! the right reason. The judging alone has tests of its own; these boot.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use gauntlet_guest::{protocol, protocol::Fault, qemu::Accelerator};

use super::{
    Target, say,
    verdict::{self, Verdict},
    vm,
};

/// How long a guest may hang, at least: it has to boot first.
const PATIENCE: Duration = Duration::from_secs(15);

/// What has to come of a fault, and a part of the reason.
fn expected(fault: Fault) -> (Verdict, &'static str) {
    match fault {
        Fault::Panic => (Verdict::Fail, "a panic: Kernel panic - not syncing"),
        Fault::Hang => (Verdict::Hang, "the suite did not end within"),
        Fault::NeverRan => (Verdict::Infra, "no end marker came back"),
        Fault::CutShort => (Verdict::Infra, "cases.ndjson is cut short"),
    }
}

/// Makes every fault on one kernel; a line for each that was not told as it should be.
///
/// # Errors
/// When vmtest cannot be started.
pub(super) fn check(target: &Target, accelerator: Accelerator) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for fault in Fault::ALL {
        let limit = match fault {
            Fault::Hang => PATIENCE + vm::limit(accelerator) / 32,
            _ => vm::limit(accelerator),
        };
        target.folder.ask(&[])?;
        fs::write(target.folder.results().join(protocol::FAULT), fault.name())
            .context("cannot write the fault")?;
        let seen = vm::run(&target.name, &target.folder, &target.configuration, limit)?;
        let judged = verdict::judge(&seen, &[]);
        let (verdict, part) = expected(fault);
        let reason = judged.reasons.join("; ");
        say(format!(
            "a guest with the fault `{}`: {}: {reason}",
            fault.name(),
            judged.verdict.name()
        ));
        if judged.verdict != verdict || !reason.contains(part) {
            wrong.push(format!(
                "the fault `{}` was told as {}: {reason}; expected {}: {part}",
                fault.name(),
                judged.verdict.name(),
                verdict.name()
            ));
        }
    }
    Ok(wrong)
}

//! What a guest's kernel said, judged: one line that should never be there makes a run red.

/// Parts of lines that are red, with what they mean.
const DENIED: [(&str, &str); 14] = [
    ("Kernel panic", "a panic"),
    ("Oops:", "an oops"),
    ("BUG:", "a bug the kernel noticed"),
    ("kernel BUG at", "a failed assertion"),
    ("WARNING:", "a warning with a stack"),
    ("general protection fault", "a general protection fault"),
    ("UBSAN:", "undefined behaviour"),
    ("KASAN:", "a bad memory access"),
    ("soft lockup", "a lockup"),
    ("hard LOCKUP", "a lockup"),
    ("rcu_sched self-detected stall", "an RCU stall"),
    ("detected stalls on CPUs", "an RCU stall"),
    ("blocked for more than", "a hung task"),
    (
        "ut of memory: Killed process",
        "that its memory was used up",
    ),
];

/// Parts of lines that would be denied and mean nothing, each with the reason. None of the series
/// needs one today.
const ALLOWED: [(&str, &str); 0] = [];

/// The first line that is red, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) line: String,
}

/// Only the kernel's own lines count, which begin with its clock: a test may print anything.
pub(crate) fn judge(log: &str) -> Option<Finding> {
    judge_but(log, &ALLOWED)
}

fn judge_but(log: &str, allowed: &[(&str, &str)]) -> Option<Finding> {
    log.lines().map(str::trim_end).find_map(|line| {
        let message = of_kernel(line)?;
        if allowed.iter().any(|(part, _)| message.contains(part)) {
            return None;
        }
        let (_, what) = DENIED.iter().find(|(part, _)| message.contains(part))?;
        Some(Finding {
            what,
            line: message.to_owned(),
        })
    })
}

/// A breakpoint that an emulated processor took though memory has none there: the oops's line.
///
/// Linux patches its code by way of `int3`, and QEMU before 8.1 may run what it had translated of the code meanwhile
/// ("qemu-x86_64 booting with 8.0.0 stil see int3", linux-kernel, July 2023). The oops shows the code as it is in memory;
/// a breakpoint that is there is the kernel's own affair.
pub(crate) fn phantom_breakpoint(log: &str) -> Option<&str> {
    let mut lines = log.lines().map(str::trim_end).filter_map(of_kernel);
    let oops = lines.find(|line| DENIED.iter().any(|(part, _)| line.contains(part)))?;
    if !oops.contains("int3:") {
        return None;
    }
    let code = lines.find_map(|line| line.strip_prefix("Code: "))?;
    // The processor has gone past it.
    let before = code.split_once('<')?.0.split_whitespace().last()?;
    (before != "cc").then_some(oops)
}

/// What follows `[   12.345678] `, with the caller's id where the kernel prints one.
fn of_kernel(line: &str) -> Option<&str> {
    let (clock, message) = line.split_once('[')?.1.split_once(']')?;
    let is_clock = clock.trim().contains('.')
        && clock
            .trim()
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_clock.then(|| message.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: &str = include_str!("fixtures/healthy.console");
    const PANIC: &str = include_str!("fixtures/panic.console");

    #[test]
    fn a_healthy_boot_is_green() {
        assert_eq!(judge(HEALTHY), None);
        assert_eq!(judge(""), None);
    }

    #[test]
    fn a_panic_is_red_and_named() {
        let found = judge(PANIC).unwrap();
        assert_eq!(found.what, "a panic");
        assert!(
            found.line.starts_with("Kernel panic - not syncing"),
            "{found:?}"
        );
    }

    #[test]
    fn only_a_breakpoint_that_is_not_there_is_the_emulators() {
        let oops = |kind: &str, code: &str| {
            format!(
                "[    1.0] fine\n[   26.093098] Oops: {kind}: 0000 [#1] SMP NOPTI\n\
                 [   26.093098] RIP: 0010:__mod_timer+0x1c3/0x370\n\
                 [   26.093098] Code: 8b 4f 20 {code} f7 c1 00 00\n"
            )
        };
        let phantom = |log: &str| phantom_breakpoint(log).map(str::to_owned);
        assert_eq!(
            phantom(&oops("int3", "66 <90>")).as_deref(),
            Some("Oops: int3: 0000 [#1] SMP NOPTI")
        );
        assert_eq!(phantom(&oops("int3", "cc <90>")), None);
        assert_eq!(phantom(&oops("invalid opcode", "66 <90>")), None);
        assert_eq!(phantom(HEALTHY), None);
        // What comes first counts, and without the code nothing is known.
        let panic = format!("[    0.1] BUG: x\n{}", oops("int3", "66 <90>"));
        assert_eq!(phantom(&panic), None);
        assert_eq!(phantom("[    1.0] Oops: int3: 0000 [#1] SMP NOPTI\n"), None);
        // Red all the same, if it is not run again.
        assert_eq!(judge(&oops("int3", "66 <90>")).unwrap().what, "an oops");
    }

    #[test]
    fn every_kind_is_red_as_its_kernel_writes_it() {
        for (line, what) in [
            ("[    9.1] Oops: 0002 [#1] SMP PTI", "an oops"),
            ("[   31.024160] Oops: Oops: 0000 [#1] SMP NOPTI", "an oops"),
            (
                "[    3.000001] BUG: kernel NULL pointer dereference, address: 0000000000000008",
                "a bug the kernel noticed",
            ),
            (
                "[   12.345678] WARNING: CPU: 1 PID: 88 at kernel/bpf/core.c:99 bpf_check+0x1/0x2",
                "a warning with a stack",
            ),
            (
                "[   12.345678] WARNING: kernel/bpf/verifier.c:20100 at do_check+0x1/0x2, CPU#0: x/1",
                "a warning with a stack",
            ),
            (
                "[  120.1] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kworker/0:1:9]",
                "a bug the kernel noticed",
            ),
            (
                "[  243.5] INFO: task mtls-probe:120 blocked for more than 120 seconds.",
                "a hung task",
            ),
            (
                "[   88.2] Out of memory: Killed process 412 (conformance) total-vm:912340kB, anon-rss:5432kB",
                "that its memory was used up",
            ),
            (
                "[   88.2] Memory cgroup out of memory: Killed process 412 (mtls-probe) total-vm:912340kB",
                "that its memory was used up",
            ),
            (
                "[   61.0] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
                "an RCU stall",
            ),
            (
                "[   61.0][  T120] general protection fault, probably for non-canonical address",
                "a general protection fault",
            ),
        ] {
            let found = judge(line).unwrap_or_else(|| panic!("{line} must be red"));
            assert_eq!(found.what, what, "{line}");
        }
    }

    #[test]
    fn what_a_program_prints_is_not_the_kernels() {
        assert_eq!(
            judge("Kernel panic, says a test\n[core] WARNING: of a program"),
            None
        );
    }

    #[test]
    fn an_allowed_line_is_passed_over_and_the_next_is_not() {
        let log = "[    0.1] WARNING: harmless here\n[    0.2] WARNING: CPU: 0 PID: 1 at x.c:1\n";
        let found = judge_but(log, &[("harmless here", "a reason")]).unwrap();
        assert!(found.line.contains("x.c:1"));
    }

    #[test]
    fn every_allowed_line_would_be_denied() {
        for (part, _) in ALLOWED {
            assert!(
                DENIED.iter().any(|(denied, _)| part.contains(denied)),
                "{part}"
            );
        }
    }
}

//! One request in one guest, and when it is asked a second time: only where the first time said nothing of what is
//! tested, so that nothing is covered up. Every guest goes this way but one with a person in it.

use std::fs;

use anyhow::{Context, Result};
use gauntlet_guest::{protocol::Request, qemu::Accelerator};

use super::{
    Target, console, say,
    verdict::{self, Seen, Verdict},
    vm,
};

/// Why a guest that said nothing of what is tested is asked again; for each of them, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excuse {
    /// It ended before the suite began.
    NoBoot,
    /// QEMU took a breakpoint that memory does not have.
    PhantomBreakpoint,
}

impl Excuse {
    /// The excuse, and what was seen of it.
    fn of(seen: &Seen, accelerator: Accelerator) -> Option<(Self, String)> {
        if accelerator == Accelerator::Tcg
            && let Some(oops) = console::phantom_breakpoint(&seen.console)
        {
            let what = format!("QEMU took a breakpoint that memory does not have ({oops})");
            return Some((Self::PhantomBreakpoint, what));
        }
        let judged = verdict::judge(seen, &[]);
        let no_boot = judged.verdict == Verdict::Infra && !seen.begun;
        no_boot.then(|| (Self::NoBoot, judged.reasons.join("; ")))
    }

    /// Its part of the name that the first console is kept by.
    fn name(self) -> &'static str {
        match self {
            Self::NoBoot => "no-boot",
            Self::PhantomBreakpoint => "breakpoint",
        }
    }
}

impl Target {
    /// Runs what is asked for to its end or the limit's, in a guest of its own, and in another where the first gave
    /// an excuse. Both are told, and the first console is kept. `more` is as [`Folder::ask`](super::Folder::ask) takes it.
    ///
    /// # Errors
    /// When vmtest cannot be started, or a file not be written.
    pub(super) fn ask(
        &self,
        request: &Request,
        more: Option<(&str, &str)>,
        limit: impl Into<vm::Limit>,
        accelerator: Accelerator,
    ) -> Result<Seen> {
        let limit = limit.into();
        let mut excused = Vec::new();
        loop {
            self.folder.ask(request, more)?;
            let seen = self.boot(limit, None)?;
            match Excuse::of(&seen, accelerator) {
                Some((excuse, what)) if !excused.contains(&excuse) => {
                    excused.push(excuse);
                    let kept = self.folder.console();
                    let kept = kept.with_extension(format!("{}.log", excuse.name()));
                    fs::write(&kept, &seen.console)
                        .with_context(|| format!("cannot write {}", kept.display()))?;
                    say(format!(
                        "{}: {what}; in another guest once more ({})",
                        self.name,
                        kept.display()
                    ));
                }
                _ => return Ok(seen),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::matrix::results;

    const PANIC: &str = include_str!("fixtures/panic.console");
    const PHANTOM: &str = "[   26.0] Oops: int3: 0000 [#1] SMP NOPTI\n\
                           [   26.0] Code: 8b 4f 20 66 <90> f7 c1 00 00\n";

    fn seen(begun: bool, console: &str) -> Seen {
        Seen {
            timed_out: None,
            begun,
            console: console.into(),
            results: Ok(results::tests::whole()),
            vmtest: String::new(),
            suite: String::new(),
        }
    }

    fn excuse(seen: &Seen, accelerator: Accelerator) -> Option<Excuse> {
        Excuse::of(seen, accelerator).map(|(excuse, _)| excuse)
    }

    #[test]
    fn only_what_said_nothing_of_what_is_tested_is_asked_again() {
        use Accelerator::{Kvm, Tcg};
        assert_eq!(excuse(&seen(true, ""), Tcg), None);
        assert_eq!(excuse(&seen(false, ""), Tcg), Some(Excuse::NoBoot));
        assert_eq!(excuse(&seen(false, ""), Kvm), Some(Excuse::NoBoot));
        // What the kernel complained of is the kernel's, also before the suite.
        assert_eq!(excuse(&seen(false, PANIC), Tcg), None);
        assert_eq!(excuse(&seen(true, PANIC), Tcg), None);
        // Nor is waiting a second time as long worth it.
        let late = Seen {
            timed_out: Some(Duration::from_secs(240)),
            ..seen(false, "")
        };
        assert_eq!(excuse(&late, Tcg), None);
        // No result comes back then, or one: an oops is red either way.
        for begun in [false, true] {
            let phantom = seen(begun, PHANTOM);
            assert_eq!(excuse(&phantom, Tcg), Some(Excuse::PhantomBreakpoint));
            assert_eq!(excuse(&phantom, Kvm), None);
        }
        let broken_off = Seen {
            results: Err("no end marker came back".into()),
            ..seen(true, "")
        };
        assert_eq!(excuse(&broken_off, Tcg), None);
    }
}

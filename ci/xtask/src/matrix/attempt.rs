//! One request in one guest, and when it is asked a second time: only where the first guest was none, by what was seen of
//! it and not by what it said of what is tested. What that was is told and kept. Every guest goes this way but one with a
//! person in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use gauntlet_guest::{protocol::Request, qemu::Accelerator};

use super::{
    Folder, Target, console, kernel, results, say,
    verdict::{self, Seen, Verdict},
    vm,
};

/// Why there is another guest; for each of them, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excuse {
    /// It ended before the suite began.
    NoBoot,
    /// QEMU took a breakpoint that memory does not have.
    PhantomBreakpoint,
}

impl Excuse {
    const ALL: [Self; 2] = [Self::NoBoot, Self::PhantomBreakpoint];

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

    /// Its part of the names by which the first guest is kept.
    fn name(self) -> &'static str {
        match self {
            Self::NoBoot => "no-boot",
            Self::PhantomBreakpoint => "breakpoint",
        }
    }
}

impl Folder {
    /// Keeps what is there of a guest, which the next one would write over.
    fn keep(&self, excuse: Excuse) -> Result<()> {
        for path in [self.console(), self.vmtest(), self.results()] {
            let kept = self.kept(&path, excuse);
            if path.exists() {
                fs::rename(&path, &kept)
                    .with_context(|| format!("cannot make {}", kept.display()))?;
            }
        }
        Ok(())
    }

    /// Forgets what was kept for the request before.
    fn forget(&self) -> Result<()> {
        for excuse in Excuse::ALL {
            for path in [self.console(), self.vmtest()] {
                let _most_were_never_there = fs::remove_file(self.kept(&path, excuse));
            }
            kernel::remove(&self.kept(&self.results(), excuse))?;
        }
        Ok(())
    }

    /// `console.log` is kept as `console.no-boot.log`.
    fn kept(&self, path: &Path, excuse: Excuse) -> PathBuf {
        let mut name = path.file_stem().unwrap_or_default().to_os_string();
        name.push(format!(".{}", excuse.name()));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    }
}

impl Target {
    /// Runs what is asked for to its end or the limit's, in a guest of its own, and in another where the first gave
    /// an excuse. `more` is as [`Folder::ask`] takes it.
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
        self.folder.forget()?;
        until_none_is_excused(
            accelerator,
            || {
                self.folder.ask(request, more)?;
                self.boot(limit, None)
            },
            |excuse, what, seen| {
                let ended = results::ended(&self.folder.results());
                self.folder.keep(excuse)?;
                say(format!(
                    "{}: {what}; in another guest once more; {} has the first one's files, with `{}` in their names",
                    self.name,
                    self.folder.path().display(),
                    excuse.name()
                ));
                if let Some(code) = ended {
                    let name = &self.name;
                    say(format!(
                        "{name}: the first one came to its end, with code {code}"
                    ));
                }
                if let Ok(results) = &seen.results {
                    let (red, all) = (results.red(), results.cases.len());
                    say(format!(
                        "{}: in the first one, {red} of {all} cases were red",
                        self.name
                    ));
                }
                Ok(())
            },
        )
    }
}

/// Boots until nothing is to be excused, each excuse once.
fn until_none_is_excused(
    accelerator: Accelerator,
    mut boot: impl FnMut() -> Result<Seen>,
    mut tell: impl FnMut(Excuse, &str, &Seen) -> Result<()>,
) -> Result<Seen> {
    let mut excused = Vec::new();
    loop {
        let seen = boot()?;
        match Excuse::of(&seen, accelerator) {
            Some((excuse, what)) if !excused.contains(&excuse) => {
                excused.push(excuse);
                tell(excuse, &what, &seen)?;
            }
            _ => return Ok(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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

    /// The excuses that were told of guests like these, and how many were booted.
    fn excused(guests: Vec<Seen>) -> (Vec<Excuse>, usize) {
        let (mut told, mut booted) = (Vec::new(), 0);
        let mut guests = guests.into_iter();
        let last = until_none_is_excused(
            Accelerator::Tcg,
            || {
                booted += 1;
                Ok(guests.next().expect("no more guests than these"))
            },
            |excuse, _, _| {
                told.push(excuse);
                Ok(())
            },
        );
        last.expect("nothing fails here");
        (told, booted)
    }

    #[test]
    fn each_excuse_counts_once() {
        use Excuse::{NoBoot, PhantomBreakpoint};
        let (no_boot, phantom) = (|| seen(false, ""), || seen(true, PHANTOM));
        let sound = || seen(true, "");
        assert_eq!(excused(vec![sound()]), (vec![], 1));
        assert_eq!(excused(vec![no_boot(), sound()]), (vec![NoBoot], 2));
        assert_eq!(excused(vec![no_boot(), no_boot()]), (vec![NoBoot], 2));
        assert_eq!(
            excused(vec![no_boot(), phantom(), sound()]),
            (vec![NoBoot, PhantomBreakpoint], 3)
        );
    }

    #[test]
    fn what_is_left_of_a_guest_is_kept_until_the_next_request() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(place.path());
        let request = Request::default();
        let leave = |text: &str| {
            folder.ask(&request, Some(("more", text))).expect("asks");
            fs::write(folder.console(), text).expect("writes");
        };
        let kept = |name: &str| fs::read_to_string(place.path().join(name)).ok();
        leave("one");
        folder.keep(Excuse::NoBoot).expect("keeps");
        leave("two");
        assert_eq!(kept("console.no-boot.log").as_deref(), Some("one"));
        assert_eq!(kept("results.no-boot/more").as_deref(), Some("one"));
        assert_eq!(kept("results/more").as_deref(), Some("two"));
        folder.forget().expect("forgets");
        assert_eq!(kept("console.no-boot.log"), None);
        assert!(!place.path().join("results.no-boot").exists());
        assert_eq!(kept("console.log").as_deref(), Some("two"));
    }
}

//! What a test needs that not every machine has. A test that cannot run here is ignored when the list
//! is made, with the reason; where `GAUNTLET_REQUIRE` names it (`bpf`, `netem`, `library`, `gnutls`, `go`,
//! `boring`) it
//! fails instead.

use std::collections::BTreeMap;
use std::env;

use gauntlet_harness::run::check_privileges;
use libtest_mimic::{Failed, Trial};

/// Makes trials, and counts those that cannot run.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// How many, by reason.
    ignored: BTreeMap<String, usize>,
}

impl Gate {
    /// A trial that needs BPF: it runs, or, with an obstacle, is ignored or fails.
    pub(crate) fn trial(
        &mut self,
        name: impl Into<String>,
        obstacle: Option<&str>,
        test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Trial {
        self.needing("bpf", name, obstacle, test)
    }

    /// A trial that needs something by this name in `GAUNTLET_REQUIRE`.
    pub(crate) fn needing(
        &mut self,
        need: &str,
        name: impl Into<String>,
        obstacle: Option<&str>,
        test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Trial {
        let Some(reason) = obstacle.map(String::from) else {
            return Trial::test(name, test);
        };
        let fails = reason.clone();
        let trial = Trial::test(name, move || Err(fails.into()));
        if required(need) {
            return trial;
        }
        *self.ignored.entry(reason).or_default() += 1;
        trial.with_ignored_flag(true)
    }

    /// Says on stderr how many trials are ignored, and why.
    pub(crate) fn tell(&self) {
        for (reason, count) in &self.ignored {
            eprintln!("{count} tests are ignored: {reason}");
        }
    }
}

/// Why there can be no lane here, if so.
pub(crate) fn no_lane() -> Option<String> {
    check_privileges().err().map(|missing| missing.to_string())
}

fn required(need: &str) -> bool {
    env::var("GAUNTLET_REQUIRE").is_ok_and(|list| list.split(',').any(|name| name.trim() == need))
}

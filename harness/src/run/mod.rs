//! The orchestrator: deals cases to lanes, and turns each into a report.
//!
//! scenario → case → observation → verdict → report: everything that is done rather than decided
//! happens here. A [`Fleet`] is as many lanes as there are cores, each a thread with its own pair
//! of namespaces, capture and probe, so that cases never share a wire.

mod artifacts;
mod kernel_log;
mod lane;
mod privileges;
mod queue;
mod standstill;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::lacks_netem;
use crate::peer;
use crate::probe::{Program, Spec, lacks_libraries};
use crate::report::{CaseReport, Expected, Witnesses};
use crate::scenario::model::Stack;
use crate::scenario::{Case, Deviations};
use crate::verdict::Verdict;

use queue::Queue;

pub use artifacts::{ArtifactError, Shelf};
pub use lane::{BEACON_PORT, Worker};
pub use privileges::{Missing, check as check_privileges};

/// What a case's endpoints may take; the longest scripts take about two seconds.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What holds for every case of a run.
#[derive(Debug)]
pub struct Settings {
    /// The probe under test, as it was named.
    pub probe: Spec,
    /// The program that is.
    pub program: Program,
    /// The folder of scenarios, where one was named.
    pub scenarios: Option<PathBuf>,
    /// Seeds certificates, and the port each lane begins with.
    pub seed: u64,
    /// How long both endpoints of a case may take, on an ordinary machine.
    pub deadline: Duration,
    /// What is known to deviate.
    pub deviations: Deviations,
    /// Where artifacts go.
    pub shelf: Shelf,
    /// Keep artifacts of cases that pass, too.
    pub keep_all: bool,
}

/// Set when the run must end before its cases do.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// From now on, no case begins.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that a case needs and this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Its name in `GAUNTLET_REQUIRE`.
    pub need: &'static str,
    /// Why it is not there, one line.
    pub why: String,
}

/// What a case needs beyond privileges and this machine does not have, if anything: the case is skipped.
#[must_use]
pub fn lacks(case: &Case) -> Option<Lacking> {
    let lacking = |need: &'static str, why: &str| Lacking {
        need,
        why: why.to_owned(),
    };
    let netem = || {
        case.network?;
        Some(lacking("netem", lacks_netem()?))
    };
    let libraries = || {
        case.beside.hears_libraries().then_some(())?;
        Some(lacking("library", lacks_libraries()?))
    };
    let programs = || {
        let ends = [&case.scenario.client, &case.scenario.server];
        let stacks = ends.map(|peer| peer.stack);
        let lacks = |stack: Stack| Some(lacking(stack.as_str(), peer::lacks(stack)?));
        stacks.into_iter().find_map(lacks)
    };
    netem().or_else(libraries).or_else(programs)
}

/// The report of a case that is not run.
#[must_use]
pub fn skipped(case: &Case, settings: &Settings, lacking: Lacking) -> CaseReport {
    CaseReport {
        verdict: Verdict::Skip,
        reason: Some(lacking.why),
        lacks: Some(lacking.need.into()),
        ..report_of(case, settings)
    }
}

/// The report of a case of which nothing is known yet.
fn report_of(case: &Case, settings: &Settings) -> CaseReport {
    CaseReport {
        id: case.id.clone(),
        expected: case.scenario.expect.as_ref().map(|expect| Expected {
            class: expect.class.clone(),
            confidence: expect.confidence.clone(),
        }),
        reported: Vec::new(),
        verdict: Verdict::Infra,
        reason: None,
        witnesses: Witnesses::default(),
        duration_ms: 0,
        artifacts: None,
        lacks: None,
        first_attempt: None,
        repro: repro(
            &case.id,
            settings.seed,
            &settings.probe,
            settings.scenarios.as_deref(),
        ),
    }
}

#[derive(Debug)]
struct Job {
    case: Case,
    reply: Sender<CaseReport>,
}

/// Lanes at work.
#[derive(Debug)]
pub struct Fleet {
    jobs: Arc<Queue<Job>>,
    lanes: Vec<JoinHandle<LaneEnd>>,
}

/// How one lane ended, or all of them.
#[derive(Debug, Default)]
pub struct LaneEnd {
    /// What the probe says it lost, by cause.
    pub lost: BTreeMap<String, u64>,
    /// What the probe reported when there was nothing left to report, or counted and did not: it is wrong.
    pub late: Vec<String>,
    /// What went wrong beside the cases: a probe that did not end in order, artifacts not kept.
    pub errors: Vec<String>,
}

impl Fleet {
    /// Starts `lanes` lanes; each sets itself up when the first case reaches it.
    #[must_use]
    pub fn start(settings: Arc<Settings>, lanes: usize, cancel: &Cancel) -> Self {
        let lanes = lanes.max(1);
        let jobs = Arc::new(Queue::new(lanes));
        let lanes = (0..lanes)
            .map(|index| {
                let (settings, jobs, cancel) =
                    (Arc::clone(&settings), Arc::clone(&jobs), cancel.clone());
                thread::spawn(move || work(index, &settings, &jobs, &cancel))
            })
            .collect();
        Self { jobs, lanes }
    }

    /// Queues cases, each with where its report is sent, or never if the run is cancelled. The more at once, the
    /// better they are dealt.
    pub fn submit(&self, cases: impl IntoIterator<Item = (Case, Sender<CaseReport>)>) {
        let job = |(case, reply): (Case, _)| (case.beside, Job { case, reply });
        self.jobs.put(cases.into_iter().map(job));
    }

    /// Ends every lane, and the probe in it.
    ///
    /// # Panics
    /// When a lane did.
    #[must_use]
    pub fn finish(self) -> LaneEnd {
        self.jobs.close();
        let mut end = LaneEnd::default();
        for lane in self.lanes {
            let one = lane
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (cause, count) in one.lost {
                *end.lost.entry(cause).or_default() += count;
            }
            end.late.extend(one.late);
            end.errors.extend(one.errors);
        }
        end
    }
}

impl LaneEnd {
    /// Everything lost.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// The life of a lane: the thread that starts the probe is the one it dies with.
fn work(index: usize, settings: &Settings, jobs: &Queue<Job>, cancel: &Cancel) -> LaneEnd {
    let lane = jobs.join(index);
    let mut worker: Option<Worker> = None;
    while let Some(Job { case, reply }) = lane.take() {
        if cancel.is_cancelled() {
            break;
        }
        let worker = worker.get_or_insert_with(|| Worker::new(index, settings));
        let report = worker.run(&case, settings);
        // Nobody waits for it when the run was cancelled meanwhile.
        let _ = reply.send(report);
    }
    worker.map_or_else(LaneEnd::default, Worker::finish)
}

/// The command that runs one case again, for a shell: with the same probe and scenarios, where they
/// are not what it takes unasked.
#[must_use]
pub fn repro(id: &str, seed: u64, probe: &Spec, scenarios: Option<&Path>) -> String {
    let mut line = format!("gauntlet repro {} --seed {seed}", quoted(id));
    if *probe != Spec::Shipped {
        line = format!("{line} --probe {}", quoted(&probe.to_string()));
    }
    if let Some(folder) = scenarios {
        line = format!("{line} --scenarios {}", quoted(&folder.to_string_lossy()));
    }
    line
}

/// One word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The release of the kernel that all of this runs on.
#[must_use]
pub fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".into(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// The folder for artifacts where none is asked for.
#[must_use]
pub fn default_artifacts() -> PathBuf {
    PathBuf::from("target/gauntlet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reproducer_names_what_is_not_the_default_and_quotes_it() {
        let line = |probe: &str, scenarios: Option<&str>| {
            repro("a::b", 7, &probe.parse().unwrap(), scenarios.map(Path::new))
        };
        assert_eq!(line("shipped", None), "gauntlet repro a::b --seed 7");
        assert_eq!(
            line("null", Some("my/scenarios")),
            "gauntlet repro a::b --seed 7 --probe null --scenarios my/scenarios"
        );
        assert_eq!(
            line("exec:echo 'x' $$", Some("a b")),
            r"gauntlet repro a::b --seed 7 --probe 'exec:echo '\''x'\'' $$' --scenarios 'a b'"
        );
    }
}

//! Which instructions of the BPF programs, of those that the verifier leaves, are run by the corpus (every seed and
//! every finding that is scripts of conversations), by the same in other segments and frames, and by conversations from a seed.
//!
//! The shipped object gets a mark at each basic block ([`instrument`]) and goes to the ordinary loader; packets
//! come by BPF_PROG_TEST_RUN. Interface programs are compared with the host build meanwhile, those of a cgroup with
//! the object as it is shipped: instrumented wrongly, they would tell something else.
//!
//! Refuses the programs of the library object: BPF_PROG_TEST_RUN runs none that is attached to functions.

mod blocks;
mod instruction;
mod lines;
mod marks;
mod object_file;
mod report;
mod rewrite;

use std::fs;
use std::io;
use std::path::Path;

use fastrand::Rng;
use gauntlet_probes::load::Settings;
use gauntlet_probes::object::{self, CGROUP, Family, INTERFACE};
use gauntlet_probes::probe::ProbeError;
use gauntlet_probes::replay_engine::{Both, Engine, HostEngine, Kernel};

use crate::conversation::{BEGINS, again, conversations};
use crate::differential::Round;
use crate::kernel::settings;
use crate::links::carried;
use crate::player::{Player, Stopped};
use crate::script::{Next, play};
use crate::seeds;
use crate::stories::Stories;

pub use lines::Line;
pub use marks::Blocks;
pub use object_file::{Instrumented, Measured, instrument};
pub use report::Report;

use marks::Marks;

/// Why an object cannot be instrumented.
#[derive(Debug, thiserror::Error)]
#[error("the BPF object cannot be instrumented: {0}")]
pub struct Unusable(pub String);

impl From<::object::build::Error> for Unusable {
    fn from(error: ::object::build::Error) -> Self {
        Self(error.to_string())
    }
}

/// Targets whose inputs are scripts.
const SCRIPTS: [&str; 2] = ["kernel", "conversation"];
/// The port of servers in scripts, as one that is said to speak TLS.
const SERVER: u16 = 443;

/// How often the corpus is played in other segments, and in other frames.
const CARRIED: usize = 4;

/// What is played.
#[derive(Debug)]
pub struct Corpus {
    /// Seeds and findings.
    scripts: Vec<Vec<u8>>,
    stories: Stories,
}

impl Corpus {
    /// Reads a repository's.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(repository: &Path) -> io::Result<Self> {
        let recorded = seeds::of("kernel", repository)?;
        let mut scripts = recorded.clone();
        for target in SCRIPTS {
            for finding in fs::read_dir(repository.join("fuzz/regressions").join(target))? {
                scripts.push(fs::read(finding?.path())?);
            }
        }
        scripts.sort();
        scripts.dedup();
        Ok(Self {
            scripts,
            stories: Stories::new(recorded),
        })
    }

    /// Only every so-many-th script.
    #[must_use]
    pub fn every(mut self, step: usize) -> Self {
        self.scripts = self.scripts.into_iter().step_by(step.max(1)).collect();
        self
    }

    /// How many scripts it has.
    #[must_use]
    pub fn scripts(&self) -> usize {
        self.scripts.len()
    }
}

/// Which blocks were run, of which that could be.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Blocks that the verifier left in some program.
    pub reachable: Blocks,
    /// Blocks that the corpus ran.
    pub by_corpus: Blocks,
    /// Blocks that the corpus and conversations ran.
    pub by_all: Blocks,
    /// Packets so far.
    pub packets: u64,
}

impl Run {
    /// Plays the corpus, and then so many packets of conversations, through both families, with and without a port
    /// that is said to speak TLS; `told` hears what is done next.
    ///
    /// # Errors
    /// What the kernel refuses, and what engines tell differently.
    pub fn play(
        instrumented: &[u8],
        corpus: &Corpus,
        seed: u64,
        packets: u64,
        mut told: impl FnMut(&str),
    ) -> Result<Self, Stopped> {
        let plain = settings();
        let known = Settings {
            tls_ports: vec![SERVER],
            ..settings()
        };
        let mut run = Self::default();
        let share = packets / 4;
        for (settings, port) in [(&plain, ""), (&known, ", 443 said to speak TLS")] {
            told(&format!("interface programs, and the host build{port}"));
            let kernel = Kernel::load_object(instrumented, settings, INTERFACE)?;
            run.engine(
                kernel,
                INTERFACE,
                HostEngine::new(settings),
                corpus,
                seed,
                share,
            )?;
            told(&format!(
                "cgroup programs, and the same as they are shipped{port}"
            ));
            let kernel = Kernel::load_object(instrumented, settings, CGROUP)?;
            let shipped = Kernel::load_object(object::OBJECT, settings, CGROUP)?;
            run.engine(kernel, CGROUP, shipped, corpus, seed, share)?;
        }
        for (family, name) in [(INTERFACE, "interface"), (CGROUP, "cgroup")] {
            told(&format!(
                "{name} programs with the kernel's clock, by themselves"
            ));
            run.live(instrumented, family, corpus)?;
        }
        Ok(run)
    }

    /// One family, compared with another engine.
    fn engine(
        &mut self,
        kernel: Kernel,
        family: Family,
        other: impl Engine,
        corpus: &Corpus,
        seed: u64,
        packets: u64,
    ) -> Result<(), Stopped> {
        let marks = self.loaded(&kernel, family)?;
        let mut player = Player::new(Both::new(kernel, other));
        for (number, script) in (0..).zip(&corpus.scripts) {
            player.play(vec![play(script, false, number)], 1, |_| 0)?;
        }
        marks.read(&mut self.by_corpus).map_err(ProbeError::from)?;
        let mut rng = Rng::with_seed(seed);
        for _ in 0..CARRIED {
            for (number, script) in (0..).zip(&corpus.scripts) {
                for conversation in conversations(script, number) {
                    player.play(vec![again(&conversation, rng.u64(1..))], 1, |_| 0)?;
                }
                let steps = carried(play(script, false, number), &mut rng);
                player.play(vec![steps], 1, |_| 0)?;
            }
        }
        let corpus_packets = player.packets;
        let mut round = 0;
        while player.packets - corpus_packets < packets {
            // Rounds begin with the addresses that the corpus had: nothing is left of them.
            Round::new(&corpus.stories, seed, round).play(&mut player)?;
            round += 1;
        }
        marks.read(&mut self.by_all).map_err(ProbeError::from)?;
        self.packets += player.packets;
        Ok(())
    }

    /// The corpus's packets as they would come to a probe that watches: at the kernel's own time, which nothing
    /// that is told can be compared with.
    fn live(
        &mut self,
        instrumented: &[u8],
        family: Family,
        corpus: &Corpus,
    ) -> Result<(), Stopped> {
        let settings = Settings {
            capture_time: false,
            ..settings()
        };
        let mut kernel = Kernel::load_object(instrumented, &settings, family)?;
        let marks = self.loaded(&kernel, family)?;
        let mut events = Vec::new();
        for (number, script) in (0..).zip(&corpus.scripts) {
            for step in play(script, false, number) {
                if let Next::Frame(_, frame) = step {
                    kernel.packet(&frame, BEGINS, 1)?;
                    self.packets += 1;
                }
            }
            kernel.drain(&mut events);
            events.clear();
        }
        for blocks in [&mut self.by_corpus, &mut self.by_all] {
            marks.read(blocks).map_err(ProbeError::from)?;
        }
        Ok(())
    }

    fn loaded(&mut self, kernel: &Kernel, family: Family) -> Result<Marks, ProbeError> {
        let loaded = kernel.loaded();
        marks::left(loaded, family, &mut self.reachable)?;
        Marks::of(loaded).map_err(ProbeError::from)
    }
}

#[cfg(test)]
mod tests;

//! The long run: conversations from a seed, in rounds, through an engine on every core. A round's number and the
//! seed say all of its packets, whoever plays it and when, so that any round can be played again by itself.
//!
//! Refuses to print: the program does.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use fastrand::Rng;
use gauntlet_probes::replay_engine::{Engine, HostEngine};

use crate::kernel::{RUNS, both, settings};
use crate::player::{Player, Stopped};
use crate::script::{Next, play, steps};
use crate::stories::Stories;

/// Most conversations of a round, more than there is room for at once.
const MOST: u32 = 512;
/// Conversations of most rounds.
const SOME: u32 = 64;
/// How many at a time; more than [`SOME`] is all of [`MOST`].
const WIDTHS: [usize; 8] = [1, 1, 1, 2, 8, 32, 64, MOST as usize];
/// Most packets of a conversation: one in segments of a byte each would be all that a round has.
const LONGEST: usize = 2_000;
/// After so many findings nothing new is learned.
const FINDINGS: usize = 5;

/// Who reads the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The programs in the kernel, and the host build, compared.
    Both,
    /// The host build by itself: it ends every connection once, and what it counts adds up.
    Host,
}

impl Readers {
    /// An engine that has seen nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn player(self) -> Result<Player<Box<dyn Engine>>, Stopped> {
        let engine: Box<dyn Engine> = match self {
            Self::Both => Box::new(both()?),
            Self::Host => Box::new(HostEngine::new(&settings())),
        };
        Ok(Player::new(engine))
    }
}

/// Conversations that are played together.
#[derive(Debug, Clone)]
pub struct Round {
    /// Their scripts.
    pub scripts: Vec<Vec<u8>>,
    width: usize,
    /// Of the order of their packets.
    order: u64,
    number: u64,
}

impl Round {
    /// One of those that `seed` has.
    #[must_use]
    pub fn new(stories: &Stories, seed: u64, number: u64) -> Self {
        // An odd factor, so that neighbours have nothing in common.
        let own =
            (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut rng = Rng::with_seed(own);
        let width = WIDTHS[rng.usize(..WIDTHS.len())];
        let many = if width > SOME as usize { MOST } else { SOME };
        Self {
            scripts: (0..many).map(|_| stories.tell(&mut rng)).collect(),
            width,
            order: rng.u64(..),
            number,
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn play<E: Engine>(&self, player: &mut Player<E>) -> Result<(), Stopped> {
        // Addresses that no other round has.
        let first = (self.number as u32).wrapping_mul(MOST);
        let conversations = (first..).zip(&self.scripts).map(|(number, script)| {
            let mut packets = play(script, false, number);
            packets.truncate(LONGEST);
            packets
        });
        let mut rng = Rng::with_seed(self.order);
        player.play(conversations.collect(), self.width, |open| {
            rng.usize(..open)
        })
    }
}

/// Something that does not hold.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The round that showed it.
    pub round: u64,
    /// In words.
    pub why: String,
    /// The smallest script that shows it by itself; `None`: none does.
    pub script: Option<Vec<u8>>,
}

/// A run, and how far it is.
#[derive(Debug)]
pub struct Run {
    stories: Stories,
    readers: Readers,
    seed: u64,
    /// Packets that are wanted.
    wanted: u64,
    next: AtomicU64,
    stop: AtomicBool,
    /// Packets through every reader.
    pub packets: AtomicU64,
    /// Conversations that they were of.
    pub conversations: AtomicU64,
    /// Events that were told, and compared.
    pub events: AtomicU64,
    /// Rounds that were played.
    pub rounds: AtomicU64,
    findings: Mutex<Vec<Finding>>,
    refused: Mutex<Option<String>>,
}

impl Run {
    /// So many packets, or a few more: rounds are played to their ends.
    #[must_use]
    pub fn new(stories: Stories, readers: Readers, seed: u64, wanted: u64) -> Self {
        Self {
            stories,
            readers,
            seed,
            wanted,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            packets: AtomicU64::new(0),
            conversations: AtomicU64::new(0),
            events: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            findings: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// Begins with this round instead of the first.
    #[must_use]
    pub fn from(self, round: u64) -> Self {
        self.next.store(round, Ordering::Relaxed);
        self
    }

    /// What was found so far.
    pub fn findings(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays on so many threads, to the end; `watch` is called again and again meanwhile, and waits by itself.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn play(&self, threads: NonZeroUsize, mut watch: impl FnMut(&Self)) -> Result<(), String> {
        thread::scope(|scope| {
            let all: Vec<_> = (0..threads.get())
                .map(|_| scope.spawn(|| self.rounds()))
                .collect();
            while all.iter().any(|thread| !thread.is_finished()) {
                watch(self);
            }
        });
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone().map_or(Ok(()), Err)
    }

    /// One round after another, of those that nobody else has.
    fn rounds(&self) {
        if let Err(stopped) = self.some_rounds() {
            self.stop.store(true, Ordering::Relaxed);
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(stopped.to_string());
        }
    }

    fn some_rounds(&self) -> Result<(), Stopped> {
        let mut player = self.readers.player()?;
        let mut seen = 0;
        while !self.stop.load(Ordering::Relaxed)
            && self.packets.load(Ordering::Relaxed) < self.wanted
        {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let round = Round::new(&self.stories, self.seed, number);
            let (packets, events) = (player.packets, player.events());
            match round.play(&mut player) {
                Ok(()) => {}
                Err(Stopped::Broken(why)) => {
                    self.found(&round, why)?;
                    player = self.readers.player()?;
                    seen = 0;
                    continue;
                }
                Err(refused) => return Err(refused),
            }
            let add = |to: &AtomicU64, what: u64| to.fetch_add(what, Ordering::Relaxed);
            add(&self.packets, player.packets - packets);
            add(&self.events, player.events() - events);
            add(&self.conversations, round.scripts.len() as u64);
            add(&self.rounds, 1);
            seen += round.scripts.len() as u32;
            if seen > RUNS {
                // What is remembered of connections would not end.
                player = self.readers.player()?;
                seen = 0;
            }
        }
        Ok(())
    }

    fn found(&self, round: &Round, why: String) -> Result<(), Stopped> {
        let script = smallest(round, || self.readers.player())?;
        let mut findings = self.findings();
        findings.push(Finding {
            round: round.number,
            why,
            script,
        });
        if findings.len() >= FINDINGS {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The first of a round's conversations that breaks something by itself, with no step that it can do without.
///
/// # Errors
/// When the kernel refuses.
pub fn smallest<E: Engine>(
    round: &Round,
    player: impl Fn() -> Result<Player<E>, Stopped>,
) -> Result<Option<Vec<u8>>, Stopped> {
    let mut ready = player()?;
    let mut number = 0;
    let mut breaks = |script: &[u8]| {
        number += 1;
        let mut packets: Vec<Next> = play(script, false, number);
        packets.truncate(LONGEST);
        match ready.play(vec![packets], 1, |_| 0) {
            Ok(()) => Ok(false),
            Err(Stopped::Broken(_)) => {
                ready = player()?;
                Ok(true)
            }
            Err(refused) => Err(refused),
        }
    };
    for script in &round.scripts {
        if !breaks(script)? {
            continue;
        }
        let (begin, whole) = steps(script);
        let mut kept = whole;
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.remove(at);
            if breaks(&[begin, &fewer.concat()].concat())? {
                kept = fewer;
            } else {
                at += 1;
            }
        }
        return Ok(Some([begin, &kept.concat()].concat()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests;

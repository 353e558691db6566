//! Conversations on an engine, and what must hold of it: it says, counts and keeps what adds up, and where the
//! engine is two ([`gauntlet_probes::replay_engine::Both`]), what both agree on.
//!
//! The one definition of the comparison of kernel and host: the fuzz target, its regressions and the long run all
//! play here. Refuses to make conversations.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gauntlet_probes::probe::ProbeError;
use gauntlet_probes::replay_engine::Engine;
use gauntlet_wire::event::Event;

use crate::conversation::{BEGINS, Told, printed, told_as_counted};
use crate::script::{Next, PATIENCE};

/// Time after the last packet at which stalls are looked for: nothing is left of a connection then.
const AFTER: u64 = 300_000_000_000;

/// Why nothing more can be played on an engine.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It is no finding: the kernel refused.
    #[error("the kernel refuses: {0}")]
    Refused(#[from] ProbeError),
    /// What must hold does not.
    #[error("{0}")]
    Broken(String),
}

/// An engine, and what it did so far.
pub struct Player<E> {
    engine: E,
    now: u64,
    told: Told,
    events: Vec<Event>,
    /// Packets so far.
    pub packets: u64,
}

impl<E: Engine> Player<E> {
    /// Takes an engine that has seen nothing yet.
    pub fn new(engine: E) -> Self {
        Self {
            engine,
            now: BEGINS,
            told: Told::default(),
            events: Vec::new(),
            packets: 0,
        }
    }

    /// How many events were told so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.told.failed + self.told.undecided
    }

    /// Plays conversations to their ends, as many at a time as `width`; `next` says whose step is next of so many.
    /// After an error the engine is of no more use.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn play(
        &mut self,
        conversations: Vec<Vec<Next>>,
        width: usize,
        next: impl FnMut(usize) -> usize,
    ) -> Result<(), Stopped> {
        let played = catch_unwind(AssertUnwindSafe(|| {
            self.play_all(conversations, width, next)
        }));
        played.unwrap_or_else(|panic| Err(Stopped::Broken(said(&*panic))))
    }

    fn play_all(
        &mut self,
        conversations: Vec<Vec<Next>>,
        width: usize,
        mut next: impl FnMut(usize) -> usize,
    ) -> Result<(), Stopped> {
        let mut waiting = conversations.into_iter().map(Vec::into_iter);
        let mut open: Vec<_> = waiting.by_ref().take(width.max(1)).collect();
        while !open.is_empty() {
            let at = next(open.len()) % open.len();
            match open[at].next() {
                Some(step) => self.step(step)?,
                None => match waiting.next() {
                    Some(another) => open[at] = another,
                    None => drop(open.swap_remove(at)),
                },
            }
        }
        self.take();
        // What is kept, before it is all taken for stalled.
        self.engine.under_way()?;
        self.now += AFTER;
        self.sweep(PATIENCE)?;
        let left = self.engine.under_way()?;
        let counts = self.engine.counts()?;
        if let Some(difference) = self.engine.difference() {
            return Err(Stopped::Broken(difference.into()));
        }
        assert!(left.flows.is_empty(), "connections without an end");
        assert!(left.windows.is_empty(), "segments of no connection");
        told_as_counted(self.told, &counts);
        Ok(())
    }

    fn step(&mut self, step: Next) -> Result<(), ProbeError> {
        match step {
            Next::Frame(after, frame) => {
                self.now += after;
                self.packets += 1;
                self.engine.packet(&frame, self.now, 1)
            }
            Next::Look(after) => {
                self.now += after;
                self.take();
                self.sweep(PATIENCE)
            }
        }
    }

    fn take(&mut self) {
        self.engine.drain(&mut self.events);
        self.note();
    }

    fn sweep(&mut self, patience: Duration) -> Result<(), ProbeError> {
        self.events.extend(self.engine.sweep(self.now, patience)?);
        self.note();
        Ok(())
    }

    /// Every event can be printed, and is counted.
    fn note(&mut self) {
        for event in &self.events {
            printed(event);
        }
        self.told.add(&self.events);
        self.events.clear();
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned()
}

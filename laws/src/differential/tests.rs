//! That a reader which is wrong is found out, whatever it is wrong about, and by a script of few steps. The kernel's
//! share of this is in `tests/regressions.rs`.

use std::time::Duration;

use gauntlet_probes::probe::{Counts, ProbeError};
use gauntlet_probes::replay_engine::{Both, UnderWay};
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::Event;

use super::*;

/// What a reader does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// A byte of every event, which no report shows.
    EventByte,
    /// It tells no alert of one kind.
    EventMissing,
    /// It tells one twice.
    EventTwice,
    /// It does not see stalls.
    Stall,
    /// A count is one too high.
    Count,
    /// A byte of what is kept of a connection.
    State,
    /// A byte of what came early.
    Early,
    /// It does not see packets of one length.
    Packet,
    /// It has no more room than this.
    Room,
    /// It stops.
    Panic,
}

/// The host build, with a fault.
struct Faulty(HostEngine, Fault);

impl Faulty {
    fn new(fault: Fault) -> Self {
        let mut settings = settings();
        if fault == Fault::Room {
            settings.flows = std::num::NonZeroU32::new(255).unwrap();
        }
        Self(HostEngine::new(&settings), fault)
    }
}

impl Engine for Faulty {
    fn packet(&mut self, frame: &[u8], time: u64, interface: u32) -> Result<(), ProbeError> {
        assert!(self.1 != Fault::Panic || frame.len() != 61, "planted");
        if self.1 == Fault::Packet && frame.len() == 61 {
            return Ok(());
        }
        self.0.packet(frame, time, interface)
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        let from = events.len();
        self.0.drain(events);
        let mut own = events.split_off(from);
        match self.1 {
            Fault::EventByte => own.iter_mut().for_each(|event| event.flow.bytes[9] ^= 1),
            Fault::EventMissing => own.retain(|event| event.verdict.description != 48),
            Fault::EventTwice => own.extend_from_within(own.len().saturating_sub(1)..),
            _ => {}
        }
        events.extend(own);
    }

    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError> {
        let events = self.0.sweep(now, patience)?;
        Ok(match self.1 {
            Fault::Stall => Vec::new(),
            _ => events,
        })
    }

    fn counts(&mut self) -> Result<Counts, ProbeError> {
        let mut counts = self.0.counts()?;
        if self.1 == Fault::Count
            && let Some(count) = counts.counters.get_mut(&Counter::Gap)
            && *count > 0
        {
            *count += 1;
        }
        Ok(counts)
    }

    fn under_way(&mut self) -> Result<UnderWay, ProbeError> {
        let mut under_way = self.0.under_way()?;
        match self.1 {
            Fault::State => {
                let flow = under_way.flows.values_mut().next();
                flow.into_iter().for_each(|flow| flow.sides[1].heard ^= 1);
            }
            Fault::Early => {
                let window = under_way.windows.values_mut().next();
                window.into_iter().for_each(|window| window.bytes[0] ^= 1);
            }
            _ => {}
        }
        Ok(under_way)
    }
}

fn stories() -> Stories {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let recorded = crate::seeds::of("kernel", repository.as_ref()).expect("recordings");
    assert!(recorded.len() > 200);
    Stories::new(recorded)
}

fn player(fault: Fault) -> Player<Both<Faulty, HostEngine>> {
    let host = HostEngine::new(&settings());
    Player::new(Both::new(Faulty::new(fault), host))
}

/// The first of some rounds that finds a fault out, and what it said.
fn found(stories: &Stories, fault: Fault) -> Option<(Round, String)> {
    let mut player = player(fault);
    for number in 0..40 {
        let round = Round::new(stories, 1, number);
        match round.play(&mut player) {
            Ok(()) => {}
            Err(Stopped::Broken(why)) => return Some((round, why)),
            Err(stopped) => panic!("{stopped}"),
        }
    }
    None
}

#[test]
fn whatever_a_reader_does_wrong_is_found_out() {
    let stories = stories();
    for fault in [
        Fault::EventByte,
        Fault::EventMissing,
        Fault::EventTwice,
        Fault::Stall,
        Fault::Count,
        Fault::State,
        Fault::Early,
        Fault::Packet,
        Fault::Panic,
    ] {
        let (round, why) = found(&stories, fault).unwrap_or_else(|| panic!("{fault:?}"));
        let script = smallest(&round, || Ok(player(fault))).expect("the host refuses nothing");
        let script = script.unwrap_or_else(|| panic!("{fault:?}: by no script alone: {why}"));
        let (_, left) = steps(&script);
        println!("{fault:?}: {} steps: {why}", left.len());
        assert!(left.len() <= 4, "{fault:?}: {left:?}");
    }
    // Only many at once show that there is less room.
    let (round, why) = found(&stories, Fault::Room).expect("less room");
    assert_eq!(smallest(&round, || Ok(player(Fault::Room))).unwrap(), None);
    println!("{:?}: {why}", Fault::Room);
}

#[test]
fn readers_that_are_the_same_agree() {
    assert!(found(&stories(), Fault::None).is_none());
}

#[test]
fn a_run_counts_what_it_played_and_a_round_can_be_played_again() {
    let threads = NonZeroUsize::new(2).unwrap();
    let run = Run::new(stories(), Readers::Host, 7, 20_000);
    run.play(threads, |_| thread::yield_now()).unwrap();
    assert!(run.findings().is_empty());
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    assert!(count(&run.packets) >= 20_000);
    assert!(count(&run.conversations) >= count(&run.rounds) * u64::from(SOME));
    assert!(count(&run.events) > 0);
    let scripts = |number| Round::new(&run.stories, 7, number).scripts;
    assert_eq!(scripts(3), scripts(3));
    assert_ne!(scripts(3), scripts(4));
    assert_ne!(scripts(3), Round::new(&run.stories, 8, 3).scripts);
}

//! The programs in the kernel (BPF_PROG_TEST_RUN) against the host build, on the same packets: events byte by
//! byte, which hold the whole state of their flow; what is left in the flow table, which the last look turns
//! into events; and every counter. Needs what [`gauntlet_probes::load`] needs.

use std::cell::RefCell;

use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::{Counts, ProbeError};
use gauntlet_probes::replay_engine::{Engine, HostEngine, Kernel};
use gauntlet_wire::event::Event;

use crate::conversation::{BEGINS, adds_up, printed};
use crate::script::{Next, PATIENCE, play};

/// Conversations that one set of loaded programs sees: each has addresses of its own, and they are remembered.
const RUNS: u32 = 1 << 20;

thread_local! {
    static LOADED: RefCell<Option<(Kernel, u32)>> = const { RefCell::new(None) };
}

/// Loads the programs, so that the first input does not take the time for it.
pub fn load() {
    LOADED.with_borrow_mut(|loaded| *loaded = Some(loaded_now()));
}

fn settings() -> Settings {
    Settings {
        capture_time: true,
        ..Settings::default()
    }
}

fn loaded_now() -> (Kernel, u32) {
    (Kernel::load(&settings()).unwrap_or_else(refused), 0)
}

/// Kernel and host say, count and keep the same.
pub fn kernel(input: &[u8]) {
    LOADED.with_borrow_mut(|loaded| {
        let settings = settings();
        let (mut kernel, number) = match loaded.take() {
            Some((kernel, number)) if number < RUNS => (kernel, number),
            _ => loaded_now(),
        };
        let mut host = HostEngine::new(&settings);
        let steps = play(input, false, number);
        let before = kernel.counts().unwrap_or_else(refused);
        let theirs = run(&mut kernel, &steps).unwrap_or_else(refused);
        let ours = run(&mut host, &steps).unwrap_or_else(refused);
        let after = kernel.counts().unwrap_or_else(refused);
        let counted = host.counts().unwrap_or_else(refused);
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(
                printed(theirs),
                printed(ours),
                "the kernel's event, and the host's"
            );
            assert!(
                theirs == ours,
                "both say {}, of flows that differ",
                printed(ours)
            );
        }
        assert_eq!(
            theirs.len(),
            ours.len(),
            "events of the kernel, and of the host"
        );
        assert_eq!(since(&after, &before), since(&counted, &Counts::default()));
        adds_up(&ours, &counted);
        *loaded = Some((kernel, number + 1));
    });
}

fn refused<T>(error: ProbeError) -> T {
    // Not a finding, but nothing can be found without.
    eprintln!("the kernel refuses: {error}");
    std::process::exit(2)
}

fn run(engine: &mut impl Engine, steps: &[Next]) -> Result<Vec<Event>, ProbeError> {
    let mut now = BEGINS;
    let mut events = Vec::new();
    let look = |engine: &mut dyn FnMut() -> Result<Vec<Event>, ProbeError>| {
        let mut found = engine()?;
        // Tables have no order.
        found.sort_by_key(|event| (event.key.ports, event.key.addresses));
        Ok::<_, ProbeError>(found)
    };
    for step in steps {
        match step {
            Next::Frame(after, frame) => {
                now += after;
                engine.packet(frame, now, 1)?;
            }
            Next::Look(after) => {
                now += after;
                engine.drain(&mut events);
                events.extend(look(&mut || engine.sweep(now, PATIENCE))?);
            }
        }
    }
    engine.drain(&mut events);
    events.extend(look(&mut || engine.sweep(u64::MAX, PATIENCE))?);
    Ok(events)
}

/// What was counted meanwhile, by name.
fn since(after: &Counts, before: &Counts) -> Vec<(String, u64)> {
    let counters = after.counters.iter().map(|(counter, count)| {
        let earlier = before.counters.get(counter).copied().unwrap_or(0);
        (counter.name().to_owned(), count - earlier)
    });
    let classes = after.classes.iter().map(|(class, count)| {
        let earlier = before.classes.get(class).map_or(0, |count| count.count);
        (format!("{class:?}"), count.count - earlier)
    });
    counters
        .chain(classes)
        .filter(|(_, count)| *count > 0)
        .collect()
}

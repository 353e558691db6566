//! The programs in the kernel (BPF_PROG_TEST_RUN) against the host build, on the same packets: events byte by
//! byte, which hold the whole state of their flow; what is left in the tables; and every counter. Needs what
//! [`gauntlet_probes::load`] needs.

use std::cell::RefCell;
use std::num::NonZeroU32;

use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::ProbeError;
use gauntlet_probes::replay_engine::{Both, HostEngine, Kernel};

use crate::player::{Player, Stopped};
use crate::script::play;

/// Conversations that one set of loaded programs sees: each has addresses of its own, and they are remembered.
pub(crate) const RUNS: u32 = 1 << 20;
/// Most connections at once: few enough that there are not always that few.
const ROOM: NonZeroU32 = NonZeroU32::new(256).unwrap();

thread_local! {
    static LOADED: RefCell<Option<(Player<Both>, u32)>> = const { RefCell::new(None) };
}

/// Loads the programs, so that the first input does not take the time for it.
pub fn load() {
    LOADED.with_borrow_mut(|loaded| *loaded = Some(fresh()));
}

/// With packets that bring their time.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        capture_time: true,
        flows: ROOM,
        ..Settings::default()
    }
}

/// Kernel and host, which have seen nothing yet.
pub(crate) fn both() -> Result<Both, ProbeError> {
    let settings = settings();
    let kernel = Kernel::load(&settings)?;
    Ok(Both::new(kernel, HostEngine::new(&settings)))
}

fn fresh() -> (Player<Both>, u32) {
    let both = both().unwrap_or_else(|error| refused(error.into()));
    (Player::new(both), 0)
}

/// Kernel and host say, count and keep the same.
pub fn kernel(input: &[u8]) {
    LOADED.with_borrow_mut(|loaded| {
        let (mut player, number) = match loaded.take() {
            Some((player, number)) if number < RUNS => (player, number),
            _ => fresh(),
        };
        match player.play(vec![play(input, false, number)], 1, |_| 0) {
            Ok(()) => *loaded = Some((player, number + 1)),
            Err(Stopped::Broken(why)) => panic!("{why}"),
            Err(stopped @ Stopped::Refused(_)) => refused(stopped),
        }
    });
}

fn refused<T>(stopped: Stopped) -> T {
    // Not a finding, but nothing can be found without.
    eprintln!("{stopped}");
    std::process::exit(2)
}

//! The maps. Names are the contract with the loader (`probes/src/library/object.rs`); the types come from
//! the wire crate.
//!
//! Whatever is kept for a thread, a session or a connection gives way to newer ones when there is no room,
//! since a thread may be killed inside a call, and nobody says so.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use gauntlet_wire::library::{Counter, Ends, InCall, Session, SessionKey, Standing, WORDS_BYTES};

/// Threads inside a library, by what bpf_get_current_pid_tgid says.
#[map]
pub(crate) static CALLS: LruHashMap<u64, InCall> = LruHashMap::with_max_entries(16_384, 0);

/// Sessions between their calls.
#[map]
pub(crate) static SESSIONS: LruHashMap<SessionKey, Session> =
    LruHashMap::with_max_entries(32_768, 0);

/// What is known of connections whose library has not failed.
#[map]
pub(crate) static STANDINGS: LruHashMap<Ends, Standing> = LruHashMap::with_max_entries(16_384, 0);

/// What libraries say ([`gauntlet_wire::library::Word`]).
#[map]
pub(crate) static WORDS: RingBuf = RingBuf::with_byte_size(WORDS_BYTES, 0);

/// [`Counter`]s.
#[map]
pub(crate) static LIBRARY_COUNTS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Adds one to a counter. Per CPU, so that no increment is lost.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = LIBRARY_COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer is this CPU's own slot.
        unsafe { *value += 1 };
    }
}

/// Of no program, and none is called: see `keep_own_stack`.
#[map]
pub(crate) static NEVER: ProgramArray = ProgramArray::with_max_entries(1, 0);

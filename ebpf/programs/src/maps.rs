//! The maps, and the few operations on them that the programs need. Names are the contract with the
//! loader (`probes/src/object.rs`); the types come from the wire crate.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{
    Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, PerfEventArray, ProgramArray, RingBuf,
};
use gauntlet_wire::counters::{COUNTERS, ClassCount, Counter, class_key};
use gauntlet_wire::event::Event;
use gauntlet_wire::flow::Flow;
use gauntlet_wire::packet::{Endpoint, FlowKey, Parsed};
use gauntlet_wire::rules::Failure;
use gauntlet_wire::window::{Window, WindowKey};

use crate::atomic::add;
use crate::skb::Skb;

/// Connections between SYN and the end of the handshake. Preallocated: without, newer kernels keep
/// only a few elements of this size at hand for each CPU, and a burst of connections finds none.
/// The loader sets its size.
#[map]
pub(crate) static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(8_192, 0);

/// Failed handshakes, where they go by ring buffer ([`crate::offer`]). The loader sets its size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// The same where they go by perf event array: as many elements as there may be CPUs, which the loader knows.
#[map]
pub(crate) static PERF_EVENTS: PerfEventArray<Event> = PerfEventArray::new(0);

/// An event that is about to go by perf event array, by place.
#[map]
pub(crate) static NEW_EVENT: PerCpuArray<Event> = PerCpuArray::with_max_entries(PLACES, 0);

/// [`Counter`]s.
#[map]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS as u32, 0);

/// Failures by class and version, [`class_key`].
#[map]
pub(crate) static CLASSES: PerCpuHashMap<u32, ClassCount> = PerCpuHashMap::with_max_entries(256, 0);

/// Addresses and ports that have answered in TLS. The oldest are forgotten when it is full.
#[map]
pub(crate) static TLS_SERVERS: LruHashMap<Endpoint, u8> = LruHashMap::with_max_entries(16_384, 0);

/// Ports that speak TLS at any address, because the user says so. One entry a port, so that no
/// hashing is needed.
#[map]
pub(crate) static TLS_PORTS: Array<u8> = Array::with_max_entries(65_536, 0);

/// Programs that may be at work at once on one CPU: what a cgroup sends may be interrupted by what it
/// receives. Those of an interface do not nest, and have the first place.
pub(crate) const PLACES: u32 = 4;

/// How many programs want a place. Who finds itself alone has it ([`crate::place`]).
#[map]
pub(crate) static TAKEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(PLACES, 0);

/// The packet in hand, by place: too large for the stack, and it must outlive a tail call.
#[map]
pub(crate) static PACKET: PerCpuArray<Parsed> = PerCpuArray::with_max_entries(PLACES, 0);

/// A flow that is about to be inserted, by place; all zero but for what [`Flow::open`] writes.
#[map]
pub(crate) static NEW_FLOW: PerCpuArray<Flow> = PerCpuArray::with_max_entries(PLACES, 0);

/// Segments that came before the ones they follow. Preallocated as well: 20 KiB are not always to be had
/// at once. The loader sets its size.
#[map]
pub(crate) static WINDOWS: HashMap<WindowKey, Window> = HashMap::with_max_entries(256, 0);

/// A window that is about to be inserted; all zero.
#[map]
pub(crate) static NEW_WINDOW: Array<Window> = Array::with_max_entries(1, 0);

/// The programs that go on with a packet, by [`WALK_ON`] and so on.
#[map]
pub(crate) static NEXT: ProgramArray = ProgramArray::with_max_entries(3, 0);

/// Where `gauntlet_more` is in [`NEXT`].
pub(crate) const WALK_ON: u32 = 0;
/// Where `gauntlet_keep` is in [`NEXT`].
pub(crate) const KEEP: u32 = 1;
/// Where `gauntlet_replay` is in [`NEXT`].
pub(crate) const REPLAY: u32 = 2;

/// 1 where packets are those of a capture file, run one by one (BPF_PROG_TEST_RUN): each comes with its
/// time. Set by the loader, so that live programs have no trace of it.
#[unsafe(no_mangle)]
static CAPTURE_TIME: u8 = 0;

/// The time of a packet from a capture file, nanoseconds: the first two words of `skb->cb`, low word first.
#[inline(always)]
pub(crate) fn capture_time(skb: Skb) -> Option<u64> {
    // SAFETY: a constant of this object, which only the loader changes, before the kernel sees it.
    if unsafe { core::ptr::read_volatile(&CAPTURE_TIME) } == 0 {
        return None;
    }
    let [low, high] = [skb.control(0), skb.control(1)];
    Some(u64::from(low) | u64::from(high) << 32)
}

/// Adds one to a counter. Per CPU, so that no increment is lost.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer is this CPU's own slot.
        unsafe { add(value, 1) };
    }
}

/// Adds one to a class's count.
#[inline(always)]
pub(crate) fn count_class(failure: &Failure, version: u16, now: u64) {
    let key = class_key(failure.class(), version);
    if let Some(entry) = CLASSES.get_ptr_mut(&key) {
        // SAFETY: the pointer is this CPU's own slot.
        let counted = unsafe { &raw mut (*entry).count };
        // SAFETY: the same.
        unsafe { add(counted, 1) };
        // SAFETY: the same; whoever interrupts this writes nearly the same time.
        unsafe { (*entry).last_seen = now };
    } else {
        // There is room for every key.
        let _ = CLASSES.insert(
            &key,
            &ClassCount {
                count: 1,
                last_seen: now,
            },
            0,
        );
    }
}

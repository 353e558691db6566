//! The end of a flow: it is removed from the table, and if its handshake failed, reported.
//!
//! Two CPUs may come to an end of the same flow at once, one for each direction. Whoever removes it
//! from the table reports it; the other finds it gone.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::programs::TcContext;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::{ABI, Event};
use gauntlet_wire::flow::Flow;
use gauntlet_wire::packet::Parsed;
use gauntlet_wire::rules::{Failure, Outcome};
use gauntlet_wire::side::{Side, Stage};

use crate::maps::{EVENTS, FLOWS, count, count_class};

/// Removes a flow; `true`: it is this packet's to report, since nobody else removed it.
///
/// A kernel may also refuse, where it could not get the lock of the table (it gives up rather than
/// risk a deadlock). Then the flow stays, marked as told, and the next packet tries again.
#[inline(always)]
fn forget(flow: &mut Flow, parsed: &Parsed) -> bool {
    match FLOWS.remove(&parsed.key) {
        Ok(()) => true,
        Err(GONE) => false,
        Err(_) => {
            flow.sides[usize::from(parsed.segment.role & 1)].flags |= Side::TOLD;
            true
        }
    }
}

/// Tries again to remove a flow that is [`Side::TOLD`].
#[inline(always)]
pub(crate) fn forget_told(parsed: &Parsed) {
    let _ = FLOWS.remove(&parsed.key);
}

/// What the kernel says to the removal of what is not there: ENOENT.
const GONE: i32 = -2;

/// A flow is over.
#[inline(always)]
pub(crate) fn over(context: &TcContext, flow: &mut Flow, parsed: &Parsed, outcome: Outcome) {
    match outcome {
        Outcome::On(_) => {}
        Outcome::Done => {
            if forget(flow, parsed) {
                count(Counter::HandshakeDone);
            }
        }
        Outcome::Ignore => {
            let begun = flow.client().stage >= Stage::GREETING;
            if forget(flow, parsed) {
                count(if begun {
                    Counter::Unseen
                } else {
                    Counter::NotTls
                });
            }
        }
        Outcome::Undecided => {
            if forget(flow, parsed) {
                count(Counter::Undecided);
            }
        }
        Outcome::Failed(failure) => failed(context, flow, parsed, failure),
    }
}

#[inline(always)]
fn failed(context: &TcContext, flow: &mut Flow, parsed: &Parsed, failure: Failure) {
    let version = flow.server().version;
    let flags = flow.client().flags | flow.server().flags;
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        if forget(flow, parsed) {
            count(Counter::HandshakeFailed);
            count(Counter::RingFull);
            count_class(&failure, version, parsed.segment.time);
        }
        return;
    };
    let event = entry.as_mut_ptr();
    // The flow is copied before it is removed: after that another connection may take its memory.
    // SAFETY: `event` is the reserved record, which holds a whole `Event`.
    let to = unsafe { &raw mut (*event).flow };
    // SAFETY: source and destination are both as large as a `Flow`.
    unsafe {
        bpf_probe_read_kernel(
            to.cast(),
            size_of::<Flow>() as u32,
            (&raw const *flow).cast(),
        );
    }
    // SAFETY: the context is readable as long as the program runs.
    let ifindex = unsafe { (*context.skb.skb).ifindex };
    // SAFETY: `event` is the reserved record; every field but `flow` is written here.
    let event = unsafe { &mut *event };
    event.time = parsed.segment.time;
    event.abi = ABI;
    event.ifindex = ifindex;
    event.key = parsed.key;
    event.verdict = failure.into();
    event.reserved = [0; 6];
    if !forget(flow, parsed) {
        entry.discard(0);
        return;
    }
    entry.submit(0);
    count(Counter::HandshakeFailed);
    count_class(&failure, version, parsed.segment.time);
    if flags & Side::TRUNCATED != 0 {
        count(Counter::CaptureTruncated);
    }
    if flags & Side::MALFORMED != 0 {
        count(Counter::Malformed);
    }
}

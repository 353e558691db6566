//! The BPF programs. Thin: an attach point, the maps, and the wire crate between them. They read
//! packets and never change, drop or redirect one.
//!
//! `gauntlet_watch` finds the connection of a packet and walks over its bytes; where a packet holds more
//! records than one program may walk, it goes on in `gauntlet_more` by tail call.
//!
//! # Kernel
//! 5.10: ring buffer (5.8), bounded loops (5.3), `bpf_probe_read_kernel` (5.5). Loading needs
//! CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;
mod report;
mod skb;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::flow::{Flow, Place, Segment, Walked};
use gauntlet_wire::packet::{self, Parsed, Skipped};
use gauntlet_wire::side::{Side, Stage};

use crate::maps::{FLOWS, NEW_FLOW, NEXT, PACKET, TLS_PORTS, TLS_SERVERS, count};
use crate::skb::{Linear, Skb};

/// Fields walked over in one program before it hands over to the next. The verifier walks the loop's
/// body this many times.
const STEPS: u32 = 16;

/// Looks at every packet of an interface, in either direction.
#[classifier]
fn gauntlet_watch(context: TcContext) -> i32 {
    watch(&context);
    TC_ACT_UNSPEC
}

/// Goes on with the packet in [`PACKET`].
#[classifier]
fn gauntlet_more(context: TcContext) -> i32 {
    if let Some(parsed) = PACKET.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot; programs do not nest on a CPU.
        let parsed = unsafe { &mut *parsed };
        if let Some(flow) = FLOWS.get_ptr_mut(&parsed.key) {
            // SAFETY: the element stays readable while the program runs, and each side of it has
            // one writer (gauntlet_wire's documentation).
            walk(&context, unsafe { &mut *flow }, parsed);
        }
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn watch(context: &TcContext) {
    let Some(parsed) = PACKET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot; programs do not nest on a CPU.
    let parsed = unsafe { &mut *parsed };
    let found = match packet::parse(&Linear(context), parsed) {
        Err(Skipped::Link | Skipped::Network) => packet::parse(&Skb(context), parsed),
        found => found,
    };
    match found {
        Ok(()) => {}
        Err(Skipped::NotTcp) => return,
        Err(Skipped::Link) => return count(Counter::UnparsedLink),
        Err(Skipped::Network) => return count(Counter::UnparsedNetwork),
        Err(Skipped::Fragment) => return count(Counter::Fragment),
    }
    let flags = parsed.segment.flags;
    if flags & Segment::SYN != 0 {
        open(context, parsed);
    } else if parsed.segment.at == parsed.segment.end && flags & (Segment::FIN | Segment::RST) == 0
    {
        return; // a bare acknowledgement
    }
    let Some(flow) = FLOWS.get_ptr_mut(&parsed.key) else {
        return;
    };
    // SAFETY: the element stays readable while the program runs, and each side of it has one
    // writer (gauntlet_wire's documentation).
    let flow = unsafe { &mut *flow };
    if flow.told() {
        return report::forget_told(parsed);
    }
    let segment = &mut parsed.segment;
    segment.role = (parsed.sender_first ^ flow.client_first) & 1;
    // SAFETY: the helper has no preconditions.
    segment.time = unsafe { bpf_ktime_get_ns() };
    if flags & Segment::SYN != 0 {
        flow.synchronize(segment);
        segment.sequence = segment.sequence.wrapping_add(1);
    }
    match flow.place(segment) {
        Place::Next => walk(context, flow, parsed),
        Place::Again => count(Counter::Duplicate),
        Place::Ahead => count(Counter::Gap),
    }
}

/// Makes room for a connection, unless this is the SYN of one that is known.
#[inline(always)]
fn open(context: &TcContext, parsed: &Parsed) {
    let answer = parsed.segment.flags & Segment::ACK != 0;
    if let Some(flow) = FLOWS.get_ptr_mut(&parsed.key) {
        // SAFETY: the element stays readable while the program runs.
        let flow = unsafe { &*flow };
        let client = flow.client();
        let again = parsed.segment.sequence.wrapping_add(1) == client.next;
        if answer || (again && client.is(Side::SYNCED)) {
            return;
        }
        if client.stage >= Stage::GREETING && !flow.told() {
            count(Counter::FlowReplaced);
        }
    }
    let Some(flow) = NEW_FLOW.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot; programs do not nest on a CPU.
    let flow = unsafe { &mut *flow };
    let client_first = (parsed.sender_first ^ u8::from(answer)) & 1;
    let server = parsed.key.endpoint(usize::from(client_first));
    let known = TLS_PORTS
        .get(u32::from(server.port))
        .is_some_and(|said| *said != 0)
        || TLS_SERVERS.get_ptr(&server).is_some();
    // SAFETY: the context is readable as long as the program runs.
    let ifindex = unsafe { (*context.skb.skb).ifindex };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    flow.open(now, ifindex, known, client_first == 1);
    if FLOWS.insert(&parsed.key, &*flow, 0).is_ok() {
        count(Counter::FlowOpened);
    } else if answer {
        // Once for a connection, and not for a SYN that nobody answers.
        count(Counter::FlowTableFull);
    }
}

/// Takes a packet's bytes field by field until it ends, the flow does, or this program may do no more.
#[inline(always)]
fn walk(context: &TcContext, flow: &mut Flow, parsed: &mut Parsed) {
    let walked = flow.walk::<STEPS>(&Skb(context), &mut parsed.segment);
    learn(flow, parsed);
    match walked {
        Walked::On => {}
        Walked::More => {
            // SAFETY: the context is the one this program was given.
            unsafe { NEXT.tail_call(context, 0) };
            // It returns only on failure: the packet has more records than the kernel allows to follow.
            flow.lose(parsed.segment.from());
            count(Counter::StepsExhausted);
        }
        Walked::Unreadable => {
            flow.lose(parsed.segment.from());
            count(Counter::Unreadable);
        }
        Walked::Over(outcome) => report::over(context, flow, parsed, outcome),
    }
}

/// Remembers a server that has answered in TLS, unless it was behind a proxy.
#[inline(always)]
fn learn(flow: &mut Flow, parsed: &Parsed) {
    if parsed.segment.role & 1 == 0
        || flow.known != 0
        || flow.tunnel != 0
        || !flow.server().is(Side::SPOKE_TLS)
    {
        return;
    }
    flow.known = 1;
    let server = parsed.key.endpoint(usize::from(flow.client_first & 1));
    let _ = TLS_SERVERS.insert(&server, &1, 0);
}

/// A panic that could be reached would fail to load: the verifier refuses endless loops.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

//! The BPF programs. Thin: an attach point, the maps, and the wire crate between them. They read
//! packets and never change, drop or redirect one.
//!
//! | program | does |
//! |---|---|
//! | `gauntlet_watch` | attached: finds the connection of a packet and walks over its bytes |
//! | `gauntlet_more` | goes on with a packet that holds more records than one program may walk |
//! | `gauntlet_keep` | keeps a packet that came before the ones it follows |
//! | `gauntlet_replay` | walks over those that were kept, once nothing is missing before them |
//!
//! All but the first are reached by tail call.
//!
//! # Kernel
//! 5.10: ring buffer (5.8), bounded loops (5.3), `bpf_probe_read_kernel` (5.5). Loading needs
//! CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod deliver;
mod glance;
mod held;
mod maps;
#[cfg(feature = "planted-refusal")]
mod planted;
mod skb;
mod tables;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::machine::{self, Todo};
use gauntlet_wire::packet::{self, Parsed, Skipped};

use crate::maps::{KEEP, NEXT, PACKET, REPLAY, WALK_ON, count};
use crate::skb::{Linear, Skb};
use crate::tables::Maps;

/// Fields walked over in one program before it hands over to the next. The verifier walks the loop's
/// body this many times.
const STEPS: u32 = 16;

/// Looks at every packet of an interface, in either direction.
#[classifier]
#[inline(always)]
fn gauntlet_watch(context: TcContext) -> i32 {
    #[cfg(feature = "planted-refusal")]
    planted::needs_6_1();
    if glance::allowed() && glance::nothing_to_do(&context) {
        return TC_ACT_UNSPEC;
    }
    if let Some(parsed) = packet()
        && parse(&context, parsed)
    {
        let todo = machine::arrive::<STEPS, _>(&Maps(&context), &Skb(&context), parsed);
        go_on(&context, parsed, todo);
    }
    TC_ACT_UNSPEC
}

/// Goes on with the packet in [`PACKET`].
#[classifier]
#[inline(always)]
fn gauntlet_more(context: TcContext) -> i32 {
    if let Some(parsed) = packet() {
        let todo = machine::walk_on::<STEPS, _>(&Maps(&context), &Skb(&context), parsed);
        go_on(&context, parsed, todo);
    }
    TC_ACT_UNSPEC
}

/// Keeps the packet in [`PACKET`].
#[classifier]
#[inline(always)]
fn gauntlet_keep(context: TcContext) -> i32 {
    if let Some(parsed) = packet() {
        machine::keep(&Maps(&context), &Skb(&context), parsed);
    }
    TC_ACT_UNSPEC
}

/// Walks over what was kept of the direction of the packet in [`PACKET`].
#[classifier]
#[inline(always)]
fn gauntlet_replay(context: TcContext) -> i32 {
    if let Some(parsed) = packet() {
        let todo = machine::replay::<STEPS, _>(&Maps(&context), parsed);
        go_on(&context, parsed, todo);
    }
    TC_ACT_UNSPEC
}

/// The packet in hand.
#[inline(always)]
fn packet() -> Option<&'static mut Parsed> {
    let parsed = PACKET.get_ptr_mut(0)?;
    // SAFETY: this CPU's own slot; programs do not nest on a CPU.
    Some(unsafe { &mut *parsed })
}

/// Reads a packet's headers; `false`: there is nothing to follow.
#[inline(always)]
fn parse(context: &TcContext, parsed: &mut Parsed) -> bool {
    let found = match packet::parse(&Linear(context), parsed) {
        Err(Skipped::Link | Skipped::Network) => packet::parse(&Skb(context), parsed),
        found => found,
    };
    match found {
        Ok(()) => return true,
        Err(Skipped::NotTcp) => {}
        Err(Skipped::Link) => count(Counter::UnparsedLink),
        Err(Skipped::Network) => count(Counter::UnparsedNetwork),
        Err(Skipped::Fragment) => count(Counter::Fragment),
    }
    false
}

/// Hands over to the program that goes on, if one is to.
#[inline(always)]
fn go_on(context: &TcContext, parsed: &mut Parsed, todo: Todo) {
    let program = match todo {
        Todo::Nothing => return,
        Todo::WalkOn => WALK_ON,
        Todo::Keep => KEEP,
        Todo::Replay => REPLAY,
    };
    // SAFETY: the context is the one this program was given.
    unsafe { NEXT.tail_call(context, program) };
    // It returns only on failure: the kernel allows no more of them for one packet.
    machine::give_up(&Maps(context), parsed);
}

/// A panic that could be reached would fail to load: the verifier refuses endless loops.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

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
//! All but the first are reached by tail call. Those are for interfaces (tc); `cgroup_watch` and so on are
//! the same for the sockets of a cgroup, whose packets begin with their IP header.
//!
//! # Kernel
//! 5.10: ring buffer (5.8), bounded loops (5.3), `bpf_probe_read_kernel` (5.5). Loading needs
//! CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod deliver;
mod glance;
mod held;
mod maps;
mod offer;
mod place;
#[cfg(feature = "planted-refusal")]
mod planted;
mod skb;
mod tables;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::{cgroup_skb, classifier};
use aya_ebpf::programs::{SkBuffContext, TcContext};
use gauntlet_wire::counters::Counter;
use gauntlet_wire::machine::{self, Todo};
use gauntlet_wire::packet::{self, Frame, Parsed, Skipped};

use crate::maps::{KEEP, NEXT, PACKET, REPLAY, WALK_ON, count};
use crate::skb::{Linear, Skb};
use crate::tables::Maps;

/// Fields walked over in one program before it hands over to the next. The verifier walks the loop's
/// body this many times.
const STEPS: u32 = 16;

/// What a program of a cgroup says so that the packet goes on its way.
const ALLOW: i32 = 1;

/// Looks at every packet of an interface, in either direction.
#[classifier]
#[inline(always)]
fn gauntlet_watch(context: TcContext) -> i32 {
    #[cfg(feature = "planted-refusal")]
    planted::needs_6_1();
    if !(glance::allowed() && glance::nothing_to_do(&context)) {
        Step::of_interface(&context).arrive::<false, STEPS>();
    }
    TC_ACT_UNSPEC
}

/// Goes on with the packet in [`PACKET`].
#[classifier]
#[inline(always)]
fn gauntlet_more(context: TcContext) -> i32 {
    Step::of_interface(&context).walk_on();
    TC_ACT_UNSPEC
}

/// Keeps the packet in [`PACKET`].
#[classifier]
#[inline(always)]
fn gauntlet_keep(context: TcContext) -> i32 {
    Step::of_interface(&context).keep();
    TC_ACT_UNSPEC
}

/// Walks over what was kept of the direction of the packet in [`PACKET`].
#[classifier]
#[inline(always)]
fn gauntlet_replay(context: TcContext) -> i32 {
    Step::of_interface(&context).replay();
    TC_ACT_UNSPEC
}

/// Looks at every packet that a socket of the cgroup sends or receives.
#[cgroup_skb]
#[inline(always)]
fn cgroup_watch(context: SkBuffContext) -> i32 {
    if place::take(Skb(context.skb.skb)) {
        let step = Step::of_cgroup(&context);
        // Found here, walked over in the next program: in one, the verifier takes four times as long.
        step.arrive::<true, 0>();
        place::give_back(step.place);
    } else {
        count(Counter::Nested);
    }
    ALLOW
}

/// `gauntlet_more`, of a cgroup.
#[cgroup_skb]
#[inline(always)]
fn cgroup_more(context: SkBuffContext) -> i32 {
    let step = Step::of_cgroup(&context);
    step.walk_on();
    place::give_back(step.place);
    ALLOW
}

/// `gauntlet_keep`, of a cgroup.
#[cgroup_skb]
#[inline(always)]
fn cgroup_keep(context: SkBuffContext) -> i32 {
    let step = Step::of_cgroup(&context);
    step.keep();
    place::give_back(step.place);
    ALLOW
}

/// `gauntlet_replay`, of a cgroup.
#[cgroup_skb]
#[inline(always)]
fn cgroup_replay(context: SkBuffContext) -> i32 {
    let step = Step::of_cgroup(&context);
    step.replay();
    place::give_back(step.place);
    ALLOW
}

/// What one program does with a packet.
struct Step {
    skb: Skb,
    /// Where in [`PACKET`] and the like this program's own is.
    place: u32,
}

impl Step {
    #[inline(always)]
    fn of_interface(context: &TcContext) -> Self {
        Self {
            skb: Skb(context.skb.skb),
            place: 0,
        }
    }

    /// One that goes on where the first program of a cgroup has taken a place.
    #[inline(always)]
    fn of_cgroup(context: &SkBuffContext) -> Self {
        let skb = Skb(context.skb.skb);
        Self {
            skb,
            place: place::of(skb),
        }
    }

    /// Reads the packet's headers, and walks over so many fields of what there is to be followed. `BARE`: it
    /// begins with its IP header.
    #[inline(always)]
    fn arrive<const BARE: bool, const FIRST: u32>(&self) {
        if let Some(parsed) = self.packet()
            && self.parse::<BARE>(parsed)
        {
            let todo = machine::arrive::<FIRST, _>(&self.maps(), &self.skb, parsed);
            self.go_on(parsed, todo);
        }
    }

    #[inline(always)]
    fn walk_on(&self) {
        if let Some(parsed) = self.packet() {
            let todo = machine::walk_on::<STEPS, _>(&self.maps(), &self.skb, parsed);
            self.go_on(parsed, todo);
        }
    }

    #[inline(always)]
    fn keep(&self) {
        if let Some(parsed) = self.packet() {
            machine::keep(&self.maps(), &self.skb, parsed);
        }
    }

    #[inline(always)]
    fn replay(&self) {
        if let Some(parsed) = self.packet() {
            let todo = machine::replay::<STEPS, _>(&self.maps(), parsed);
            self.go_on(parsed, todo);
        }
    }

    #[inline(always)]
    fn maps(&self) -> Maps {
        Maps {
            skb: self.skb,
            place: self.place,
        }
    }

    /// The packet in hand.
    #[inline(always)]
    fn packet(&self) -> Option<&'static mut Parsed> {
        let parsed = PACKET.get_ptr_mut(self.place)?;
        // SAFETY: this CPU's own slot, and this program's place in it.
        Some(unsafe { &mut *parsed })
    }

    /// Reads a packet's headers; `false`: there is nothing to follow.
    #[inline(always)]
    fn parse<const BARE: bool>(&self, parsed: &mut Parsed) -> bool {
        let found = match headers::<BARE>(&Linear(self.skb), parsed) {
            Err(Skipped::Link | Skipped::Network) => headers::<BARE>(&self.skb, parsed),
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
    fn go_on(&self, parsed: &mut Parsed, todo: Todo) {
        let program = match todo {
            Todo::Nothing => return,
            Todo::WalkOn => WALK_ON,
            Todo::Keep => KEEP,
            Todo::Replay => REPLAY,
        };
        // SAFETY: the context is the one this program was given.
        unsafe { NEXT.tail_call(&SkBuffContext::new(self.skb.0), program) };
        // It returns only on failure: the kernel allows no more of them for one packet.
        machine::give_up(&self.maps(), parsed);
    }
}

#[inline(always)]
fn headers<const BARE: bool>(packet: &impl Frame, parsed: &mut Parsed) -> Result<(), Skipped> {
    if BARE {
        packet::parse_network(packet, parsed)
    } else {
        packet::parse(packet, parsed)
    }
}

/// A panic that could be reached would fail to load: the verifier refuses endless loops.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

//! Places on a CPU for programs that may interrupt each other, each with a packet of its own in hand.
//!
//! What a cgroup sends is looked at in the sender's own time, so that a packet which comes meanwhile, or on
//! some kernels another sender, may take the CPU from it. (Programs of an interface do not nest.) Before 5.12
//! a program cannot add to a number and have the sum; so a place belongs to whoever has added to its number
//! and then finds itself alone. Two that meet both go on to the next: a place may stay empty, and is never
//! given twice.

use crate::atomic::add;
use crate::maps::{PLACES, TAKEN};
use crate::skb::Skb;

/// Takes a place, and writes down in the packet which one ([`of`]); `false`: there is none. It is not
/// returned, since the verifier would walk what follows once for each: it does not know what is in a packet.
#[inline(always)]
pub(crate) fn take(skb: Skb) -> bool {
    for place in 0..PLACES {
        let Some(wanting) = TAKEN.get_ptr_mut(place) else {
            return false;
        };
        // SAFETY: the pointer is this CPU's own slot.
        unsafe { add(wanting, 1) };
        // SAFETY: the same.
        if unsafe { wanting.read_volatile() } == 1 {
            skb.set_control(place);
            return true;
        }
        // SAFETY: the same.
        unsafe { add(wanting, 1_u64.wrapping_neg()) };
    }
    false
}

/// The place that was taken for a packet.
#[inline(always)]
pub(crate) fn of(skb: Skb) -> u32 {
    skb.control(0)
}

/// Gives a place back.
#[inline(always)]
pub(crate) fn give_back(place: u32) {
    if let Some(wanting) = TAKEN.get_ptr_mut(place) {
        // SAFETY: the pointer is this CPU's own slot.
        unsafe { add(wanting, 1_u64.wrapping_neg()) };
    }
}

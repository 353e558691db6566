//! Which connections may be in the flow table ([`gauntlet_wire::held`]): what lets a packet of no handshake
//! leave before any table is asked.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use gauntlet_wire::held::{SLOT_AT, SLOTS, hash_of};
use gauntlet_wire::packet::FlowKey;

use crate::skb::opaque;

/// The counts, all in one element. The collector, which removes connections too, has it in its memory.
#[map]
static HELD: Array<[u32; SLOTS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Bytes of a count.
const SIZE: usize = size_of::<u32>();

/// Whether a connection of this hash may be in the table.
#[inline(always)]
pub(crate) fn may_hold(hash: u64) -> bool {
    // Without the counts nothing may be ruled out.
    // SAFETY: inside a map's element, which stays readable while the program runs.
    count(hash).is_none_or(|count| unsafe { count.read_volatile() } != 0)
}

/// It is about to be inserted.
#[inline(always)]
pub(crate) fn add(key: &FlowKey) {
    change(key, 1);
}

/// It was removed.
#[inline(always)]
pub(crate) fn remove(key: &FlowKey) {
    change(key, u32::MAX);
}

/// Adds atomically: two CPUs may have connections of one slot. (BPF_XADD; before 5.12 BPF knows no other.)
#[inline(always)]
fn change(key: &FlowKey, by: u32) {
    if let Some(count) = count(hash_of(key)) {
        // SAFETY: adds to the count it is given, inside a map's element.
        unsafe {
            core::arch::asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) count, in(reg) u64::from(by), options(nostack));
        }
    }
}

#[inline(always)]
fn count(hash: u64) -> Option<*mut u32> {
    let counts = HELD.get_ptr_mut(0)?;
    // In bytes: shifted once, not forth and back.
    let at = (opaque(hash) >> (SLOT_AT - SIZE.ilog2())) & ((SLOTS - 1) * SIZE) as u64;
    // SAFETY: the count of a slot, inside the element.
    Some(unsafe { counts.byte_add(at as usize).cast() })
}

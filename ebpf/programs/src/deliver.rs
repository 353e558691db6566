//! Whether the reader of the ring buffer is to be woken for an event: if it says that it is asleep
//! ([`gauntlet_wire::reader`] says why nothing is missed).

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use gauntlet_wire::reader::{ASLEEP, AWAKE, TOLD, WORD, WORDS};

use crate::atomic::add;

/// The reader's word, and the count of events. The reader has it in its memory.
#[map]
static READER: Array<[u64; WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The flags to submit an event with, which must have been reserved before.
#[inline(always)]
pub(crate) fn wake() -> u64 {
    let Some(words) = READER.get_ptr_mut(0) else {
        return 0;
    };
    let words = words.cast::<u64>();
    // SAFETY: the second of two words.
    let told = unsafe { words.add(TOLD) };
    // The barrier. Where an addition is none (it is on x86-64), the locks that a flow's removal takes, between
    // reserving and this, and the end of the reader's poll remain.
    // SAFETY: the element stays there while the program runs.
    unsafe { add(told, 1) };
    // SAFETY: the first of two words.
    let word = unsafe { words.add(WORD) };
    // SAFETY: the element stays there while the program runs.
    match unsafe { word.read_volatile() } {
        AWAKE => BPF_RB_NO_WAKEUP.into(),
        ASLEEP => {
            // SAFETY: the same.
            unsafe { word.write_volatile(AWAKE) };
            BPF_RB_FORCE_WAKEUP.into()
        }
        _ => 0,
    }
}

//! Where an event is made, and how it leaves: in the ring buffer itself; or, where events go by perf event array,
//! in this program's place on this CPU, from which the kernel copies it.
//!
//! Which of the two is a constant that is asked at every step anew: so the verifier rules the other out each time,
//! and never meets a pointer that may be either.

use core::ptr::{NonNull, null_mut};

use aya_ebpf::bindings::BPF_F_CURRENT_CPU;
use aya_ebpf::helpers::generated::{
    bpf_perf_event_output, bpf_ringbuf_discard, bpf_ringbuf_submit,
};
use gauntlet_wire::event::Event;

use crate::deliver;
use crate::maps::{EVENTS, NEW_EVENT, PERF_EVENTS};
use crate::skb::Skb;

/// 1 where events go by perf event array. Set by the loader.
#[unsafe(no_mangle)]
static PERF: u8 = 0;

#[inline(always)]
fn by_perf() -> bool {
    // SAFETY: a constant of this object, which only the loader changes, before the kernel sees it.
    unsafe { core::ptr::read_volatile(&PERF) != 0 }
}

/// Room for an event. It must be told or withdrawn: the verifier insists.
#[must_use]
pub(crate) struct Offer(NonNull<Event>);

impl Offer {
    /// Room for one, at a place that is this program's; `None`: there is none. Where events go by perf event array,
    /// only telling it shows that.
    #[inline(always)]
    pub(crate) fn new(place: u32) -> Option<Self> {
        // Asked for null once, whichever it is: 5.10's verifier does not know that memory that was there still is.
        let event = if by_perf() {
            NEW_EVENT.get_ptr_mut(place).unwrap_or(null_mut())
        } else {
            EVENTS
                .reserve::<Event>(0)
                .map_or(null_mut(), |mut entry| entry.as_mut_ptr())
        };
        NonNull::new(event).map(Self)
    }

    /// It. Nothing may be read that was not written.
    #[inline(always)]
    pub(crate) fn event(&mut self) -> *mut Event {
        self.0.as_ptr()
    }

    /// Tells it; `false`: there was no room.
    #[inline(always)]
    pub(crate) fn tell(self, skb: Skb) -> bool {
        let event = self.0.as_ptr().cast();
        if by_perf() {
            // SAFETY: the context is the kernel's own, the map a perf event array, and the event whole.
            let error = unsafe {
                bpf_perf_event_output(
                    skb.0.cast(),
                    (&raw const PERF_EVENTS).cast_mut().cast(),
                    u64::from(BPF_F_CURRENT_CPU as u32),
                    event,
                    size_of::<Event>() as u64,
                )
            };
            return error == 0;
        }
        let flags = deliver::wake();
        // SAFETY: what was reserved, and neither submitted nor discarded: that takes the offer.
        unsafe { bpf_ringbuf_submit(event, flags) };
        true
    }

    /// Forgets it.
    #[inline(always)]
    pub(crate) fn withdraw(self) {
        if !by_perf() {
            // SAFETY: as in `tell`.
            unsafe { bpf_ringbuf_discard(self.0.as_ptr().cast(), 0) };
        }
    }
}

//! How events come from the programs: by a ring buffer, or by a perf event array, which has a buffer for each CPU.
//! They are the same, byte by byte.
//!
//! Refuses to count what found no room: the program that wanted to tell it has. (PERF_RECORD_LOST says the same
//! once more.)
//!
//! # Kernel
//! 5.10 for either. A CPU that comes while a perf event array is read has no buffer: its events count as not having
//! found room.

use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{MapData, PerfEventArray, RingBuf};
use gauntlet_wire::event::{ABI, Event};
use nix::libc;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::delivery::Found;
use crate::object;
use crate::probe::{ProbeError, take};

/// By what events come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// One ring buffer, whose reader is woken only if it says that it sleeps.
    #[default]
    Ring,
    /// A perf event array. The kernel wakes the reader for each event. In a flood that does not let it come to the
    /// end of every CPU's buffer, events of two CPUs are in order within each turn only.
    Perf,
}

/// What events are read from.
pub(crate) struct Events {
    buffers: Buffers,
    /// How many events it holds when it is full, rounded up.
    most: usize,
}

enum Buffers {
    Ring(RingBuf<MapData>),
    /// By CPU.
    Perf(Vec<PerfEventArrayBuffer<MapData>>),
}

impl Events {
    /// Takes the maps. `bytes`: how large all buffers together may be, but for one page each.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub(crate) fn new(
        ebpf: &mut Ebpf,
        transport: Transport,
        bytes: NonZeroU32,
    ) -> Result<Self, ProbeError> {
        let most = |bytes: usize| bytes.div_ceil(size_of::<Event>() + HEADER);
        if transport == Transport::Ring {
            return Ok(Self {
                buffers: Buffers::Ring(take(ebpf, object::EVENTS, RingBuf::try_from)?),
                most: most(usize::try_from(bytes.get()).unwrap_or(usize::MAX)),
            });
        }
        let cpus = aya::util::online_cpus().map_err(|(_, error)| ProbeError::Cpus(error))?;
        let pages = pages_of_each(bytes, cpus.len(), page_bytes());
        let mut array = take(ebpf, object::PERF_EVENTS, PerfEventArray::try_from)?;
        let open = |cpu| {
            array
                .open(cpu, Some(pages))
                .map_err(|source| ProbeError::Buffer { cpu, source })
        };
        Ok(Self {
            most: most(pages * page_bytes() * cpus.len()),
            buffers: Buffers::Perf(cpus.into_iter().map(open).collect::<Result<_, _>>()?),
        })
    }

    /// Readable when there are events.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (ring, buffers) = match &self.buffers {
            Buffers::Ring(ring) => (Some(ring.as_fd()), &[][..]),
            Buffers::Perf(buffers) => (None, &buffers[..]),
        };
        ring.into_iter()
            .chain(buffers.iter().map(PerfEventArrayBuffer::as_fd))
    }

    /// Takes every event that is there, but of those that come meanwhile no more than the buffers hold: a
    /// flood does not keep the reader in one turn, nor events in memory. None that was told before another
    /// one comes after it; where perf's buffers of several CPUs were not read to their end, that holds
    /// within each turn only.
    pub(crate) fn drain(&mut self, each: impl FnMut(&Event)) -> Found {
        let taken = match &mut self.buffers {
            Buffers::Ring(ring) => of_ring(ring, self.most, each),
            Buffers::Perf(buffers) => of_buffers(buffers, self.most, each),
        };
        match taken {
            0 => Found::Nothing,
            some if some < self.most => Found::All,
            _ => Found::Part,
        }
    }
}

/// How many it took.
fn of_ring(ring: &mut RingBuf<MapData>, most: usize, mut each: impl FnMut(&Event)) -> usize {
    for taken in 0..most {
        let Some(item) = ring.next() else {
            return taken;
        };
        // The kernel wrote a whole `Event` of this build's layout: both come from one object.
        if let Ok(event) = Event::ref_from_bytes(&item)
            && event.abi == ABI
        {
            each(event);
        }
    }
    most
}

/// The same. Each buffer is read to its end, so that these may be about twice as many.
fn of_buffers(
    buffers: &mut [PerfEventArrayBuffer<MapData>],
    most: usize,
    each: impl FnMut(&Event),
) -> usize {
    let mut events = Vec::new();
    loop {
        let before = events.len();
        for buffer in &mut *buffers {
            buffer.for_each(|record| {
                if let PerfEvent::Sample { head, tail } = record {
                    events.extend(event(head, tail));
                }
            });
        }
        // What was told while one CPU's buffer was read may be in another that was read before.
        if events.len() == before || events.len() >= most {
            break;
        }
    }
    events.sort_by_key(|event| event.time);
    events.iter().for_each(each);
    events.len()
}

/// What the kernel writes before an event, at least: `BPF_RINGBUF_HDR_SZ`; `struct perf_event_header`.
const HEADER: usize = 8;

/// Pages of each CPU's buffer: a power of two, as the kernel wants it, and room for an event at least.
fn pages_of_each(bytes: NonZeroU32, cpus: usize, page: usize) -> usize {
    /// What the kernel writes before an event: `struct perf_event_header` and the length.
    const BEFORE: usize = 8 + 4;
    let all = usize::try_from(bytes.get()).unwrap_or(usize::MAX);
    let least = (size_of::<Event>() + BEFORE)
        .div_ceil(page)
        .next_power_of_two();
    let pages = all / cpus.max(1) / page;
    pages
        .checked_ilog2()
        .map_or(least, |log| least.max(1 << log))
}

fn page_bytes() -> usize {
    // SAFETY: takes a number only.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("every Linux has pages")
}

/// An event of this build's layout, which may go on at the beginning of its buffer, and has padding behind it.
fn event(head: &[u8], tail: &[u8]) -> Option<Event> {
    let mut event = Event::new_zeroed();
    let bytes = event.as_mut_bytes();
    let (before, after) = bytes.split_at_mut(head.len().min(size_of::<Event>()));
    before.copy_from_slice(&head[..before.len()]);
    after.copy_from_slice(tail.get(..after.len())?);
    (event.abi == ABI).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_whole_wherever_the_buffer_ends() {
        let mut told = Event::new_zeroed();
        let bytes = told.as_mut_bytes();
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        told.abi = ABI;
        let padded = [told.as_bytes(), &[0xff; 4]].concat();
        for cut in 0..=padded.len() {
            let (head, tail) = padded.split_at(cut);
            assert_eq!(event(head, tail).as_ref(), Some(&told), "{cut}");
        }
        let short = &padded[..size_of::<Event>() - 1];
        assert_eq!(event(short, &[]), None);
        told.abi += 1;
        assert_eq!(event(told.as_bytes(), &[]), None);
    }

    #[test]
    fn buffers_share_what_there_is_and_hold_an_event_each() {
        let pages = |kib: u32, cpus| {
            pages_of_each(NonZeroU32::new(kib << 10).expect("not none"), cpus, 4_096)
        };
        assert_eq!((pages(4_096, 1), pages(4_096, 2)), (1_024, 512));
        assert_eq!((pages(4_096, 3), pages(4_096, 96)), (256, 8));
        assert_eq!((pages(4, 1), pages(4, 64)), (1, 1));
        assert!(size_of::<Event>() + 12 < 4_096);
    }
}

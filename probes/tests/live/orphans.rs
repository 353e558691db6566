//! The maps of a running `mtls-probe`, held so that they outlive it: what its programs counted, and how far its ring
//! was filled and read. Changes nothing in them.

use std::ffi::c_void;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData, MapInfo, PerCpuArray};
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::Event;
use libtest_mimic::Failed;
use nix::libc;
use nix::unistd::Pid;

/// The two maps that tell what became of each failure.
pub(crate) struct Orphans {
    counts: PerCpuArray<MapData, u64>,
    ring: MapData,
}

/// What went through the ring, in events.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Taken out by whoever reads.
    pub(crate) taken: u64,
    /// In it still.
    pub(crate) left: u64,
}

impl Orphans {
    /// Those that a process holds (`map_id` in `/proc/PID/fdinfo`).
    pub(crate) fn of(process: Pid) -> Result<Self, Failed> {
        let (mut counts, mut ring) = (None, None);
        for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
            let text = fs::read_to_string(entry?.path())?;
            let Some(id) = text.lines().find_map(|line| line.strip_prefix("map_id:")) else {
                continue;
            };
            let id: u32 = id.trim().parse()?;
            match MapInfo::from_id(id)?.name_as_str() {
                Some("COUNTS") => counts = Some(MapData::from_id(id)?),
                Some("EVENTS") => ring = Some(MapData::from_id(id)?),
                _ => {}
            }
        }
        let counts = counts.ok_or("it holds no COUNTS")?;
        Ok(Self {
            counts: PerCpuArray::try_from(Map::PerCpuArray(counts))?,
            ring: ring.ok_or("it holds no EVENTS")?,
        })
    }

    /// A counter, of all CPUs.
    pub(crate) fn count(&self, counter: Counter) -> Result<u64, Failed> {
        let values = self.counts.get(&(counter as u32), 0)?;
        Ok(values.iter().sum())
    }

    /// From its positions (`Documentation/bpf/ringbuf.rst`): the consumer's page is its first, the producer's the next.
    pub(crate) fn ring(&self) -> Result<Ring, Failed> {
        /// Each event is behind a header of eight bytes, and begins at a multiple of eight.
        const STRIDE: u64 = (size_of::<Event>() as u64 + 8).next_multiple_of(8);
        let page =
            nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.ok_or("no page size")?;
        let position = |at: i64| -> Result<u64, Failed> {
            let fd = self.ring.fd().as_fd().as_raw_fd();
            let length = usize::try_from(page)?;
            // SAFETY: a mapping of its own, anywhere.
            let mapped = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    length,
                    libc::PROT_READ,
                    libc::MAP_SHARED,
                    fd,
                    at * page,
                )
            };
            if mapped == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error().into());
            }
            let mapped = NonNull::<c_void>::new(mapped).ok_or("mapped at zero")?;
            // SAFETY: the page is mapped, begins with the position, and is unmapped only below.
            let bytes = unsafe { mapped.cast::<AtomicU64>().as_ref() }.load(Ordering::Acquire);
            // SAFETY: mapped above, and nothing refers to it any more.
            unsafe { libc::munmap(mapped.as_ptr(), length) };
            if bytes % STRIDE != 0 {
                return Err(format!("{bytes} bytes are no number of events").into());
            }
            Ok(bytes / STRIDE)
        };
        let (taken, made) = (position(0)?, position(1)?);
        let left = made.checked_sub(taken).ok_or("read what was not written")?;
        Ok(Ring { taken, left })
    }
}

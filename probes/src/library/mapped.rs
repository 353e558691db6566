//! Notices that some process maps a library as code: when a program starts, and when it loads one later
//! (dlopen, as Python does). The kernel reports each such mapping to a perf event of its own
//! (PERF_RECORD_MMAP2), one for each CPU.
//!
//! Between the mapping and the probe are some milliseconds. A handshake that fails in them, in the first
//! process to use a library that nobody used before, is named by the wire alone.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use perf_event::data::Record;
use perf_event::events::Software;
use perf_event::{Builder, Sampler};

use super::find::worth_opening;

/// Room for the reports of one CPU, bytes: some 500 of them.
const ROOM: usize = 64 << 10;

/// What was mapped since it was last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Processes that mapped what may be a TLS library.
    pub processes: Vec<u32>,
    /// Some reports were lost: any process may have.
    pub lost: bool,
}

/// The reports of all CPUs.
pub struct Mappings(Vec<Sampler>);

impl Mappings {
    /// Begins to be told.
    ///
    /// # Errors
    /// When the kernel refuses (CAP_PERFMON), or has no room under RLIMIT_MEMLOCK.
    pub fn watch() -> io::Result<Self> {
        let cpus = aya::util::online_cpus().map_err(|(_, error)| error)?;
        let watch = |cpu: u32| {
            let mut counter = Builder::new(Software::DUMMY)
                .any_pid()
                .one_cpu(cpu as usize)
                .mmap(true)
                .mmap2(true)
                .wakeup_watermark(1)
                .build()?;
            counter.enable()?;
            counter.sampled(ROOM)
        };
        Ok(Self(cpus.into_iter().map(watch).collect::<Result<_, _>>()?))
    }

    /// Takes all reports there are.
    pub fn take(&mut self) -> News {
        let mut news = News::default();
        for sampler in &mut self.0 {
            while let Some(record) = sampler.next_record() {
                match record.parse_record() {
                    Ok(Record::Mmap2(map)) => {
                        if worth_opening(&String::from_utf8_lossy(&map.filename)) {
                            news.processes.push(map.pid);
                        }
                    }
                    Ok(Record::Lost(_)) | Err(_) => news.lost = true,
                    Ok(_) => {}
                }
            }
        }
        news.processes.sort_unstable();
        news.processes.dedup();
        news
    }

    /// Readable when there are reports.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|sampler| {
            // SAFETY: the descriptor is the sampler's, which this borrow keeps open.
            unsafe { BorrowedFd::borrow_raw(sampler.as_raw_fd()) }
        })
    }
}

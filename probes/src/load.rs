//! From the object to programs and maps in the kernel.
//!
//! # Kernel
//! 5.10. Needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON ([`crate::privileges`]); before 5.11 also room
//! under RLIMIT_MEMLOCK, which is raised where the process may.

use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use aya::maps::{Array, Map, MapData, MapError, ProgramArray};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::bpf;
use crate::object::{self, Family};
use crate::transport::Transport;

/// Most handshakes under way at once, where nothing else is said: some 20 MB of memory.
pub const DEFAULT_FLOWS: NonZeroU32 = NonZeroU32::new(8_192).unwrap();
/// Size of the buffer of events where nothing else is said, KiB.
pub const DEFAULT_RING_KIB: u32 = 4_096;

/// How large the maps are, and what is known beforehand.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most handshakes under way at once.
    pub flows: NonZeroU32,
    /// By what events come.
    pub transport: Transport,
    /// Size of the ring buffer, or of all perf buffers together, bytes; a power of two and a multiple of the page
    /// size. A perf buffer has a page at least.
    pub ring_bytes: NonZeroU32,
    /// Ports that speak TLS, at any address.
    pub tls_ports: Vec<u16>,
    /// Packets come from a capture file, and bring its times ([`object::CAPTURE_TIME`]).
    pub capture_time: bool,
    /// Packets that cannot matter leave at once ([`object::GLANCE`]); without, measurements must notice.
    pub glance: bool,
}

impl Settings {
    /// Most directions in which segments that came early are kept at once: few handshakes have any.
    #[must_use]
    pub fn windows(&self) -> NonZeroU32 {
        NonZeroU32::new(self.flows.get() / 32)
            .map_or(FEWEST_WINDOWS, |n| n.clamp(FEWEST_WINDOWS, MOST_WINDOWS))
    }
}

/// Windows of 20 KiB each that there are at least.
const FEWEST_WINDOWS: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// And that there are at most: 80 MB.
const MOST_WINDOWS: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self {
            flows: DEFAULT_FLOWS,
            transport: Transport::default(),
            ring_bytes: ring_bytes(DEFAULT_RING_KIB).unwrap_or(NonZeroU32::MAX),
            tls_ports: Vec::new(),
            capture_time: false,
            glance: true,
        }
    }
}

/// The size of a ring buffer of so many KiB; `None` unless it is a power of two and at least a page.
#[must_use]
pub fn ring_bytes(kib: u32) -> Option<NonZeroU32> {
    let bytes = kib.checked_mul(1_024)?;
    NonZeroU32::new(bytes).filter(|_| kib >= 4 && kib.is_power_of_two())
}

/// Why the programs are not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused the object's maps, or it is damaged.
    #[error("the BPF object cannot be loaded: {0}")]
    Object(#[from] EbpfError),
    /// The verifier refused a program.
    #[error("the kernel's verifier refused {program}: {last_lines}\nthe whole log: {log}")]
    Verifier {
        /// Which program.
        program: &'static str,
        /// The end of the verifier's log, which says why.
        last_lines: String,
        /// Where all of the log is, or why it is nowhere.
        log: String,
    },
    /// The kernel refused a program, and its verifier said nothing.
    #[error("the kernel refused {program}: {source}")]
    Refused {
        /// Which program.
        program: &'static str,
        /// What it said.
        #[source]
        source: ProgramError,
    },
    /// A map could not be filled.
    #[error("map {map}: {source}")]
    Map {
        /// Which map.
        map: &'static str,
        /// What went wrong.
        #[source]
        source: MapError,
    },
    /// The object cannot be made ready for the kernel.
    #[error("the BPF object is damaged: {0}")]
    Damaged(String),
    /// The object lacks something that this crate was built to find in it.
    #[error("the BPF object has no {0}: it was built from another version")]
    Missing(&'static str),
}

/// Lines of the verifier's log that are shown at once.
const SHOWN: usize = 12;
/// Characters of each that are shown: some list every register and stack slot.
const WIDTH: usize = 160;

/// What the verifier is to say when a program was not taken at once: its complaint. Verification may only have been
/// interrupted, and a whole log of a program that is then taken has no end that fits any buffer: the kernel calls
/// that an error (ENOSPC).
pub(crate) const BRIEF: VerifierLogLevel = VerifierLogLevel::STATS;
/// What it is to say of a program that it refuses: every step.
const WHOLE: VerifierLogLevel = VerifierLogLevel::VERBOSE.union(VerifierLogLevel::STATS);

/// How often a program is loaded again whose verification was interrupted (EAGAIN, as libbpf does).
const ATTEMPTS: u32 = 5;

/// Loads the maps, and the programs of a family.
///
/// # Errors
/// [`LoadError`].
pub fn load(settings: &Settings, family: Family) -> Result<Ebpf, LoadError> {
    load_object(object::OBJECT, settings, family)
}

/// Loads another object with the same programs and maps, an ELF file's bytes.
///
/// # Errors
/// [`LoadError`].
pub fn load_object(object: &[u8], settings: &Settings, family: Family) -> Result<Ebpf, LoadError> {
    // Before 5.11 maps count against RLIMIT_MEMLOCK; later it does not matter that this may fail.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let loaded = match attempt(object, settings, family, BRIEF) {
        Err(Failure::Program { .. }) => attempt(object, settings, family, WHOLE),
        loaded => loaded,
    };
    loaded.map_err(|failure| match failure {
        Failure::Program { name, error } => refusal(name, error),
        Failure::Other(error) => error,
    })
}

/// Why an attempt failed.
enum Failure {
    /// The kernel did not take a program.
    Program {
        name: &'static str,
        error: ProgramError,
    },
    Other(LoadError),
}

impl<E: Into<LoadError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn attempt(
    object: &[u8],
    settings: &Settings,
    family: Family,
    log: VerifierLogLevel,
) -> Result<Ebpf, Failure> {
    let mut ebpf = loader(settings).verifier_log_level(log).load(object)?;
    for name in family.all() {
        load_program(&mut ebpf, name)?;
    }
    for (place, name) in (0..).zip(family.go_on) {
        let loaded = ebpf
            .program(name)
            .ok_or(LoadError::Missing(name))?
            .fd()
            .and_then(|fd| fd.try_clone().map_err(ProgramError::IOError))
            .map_err(|source| LoadError::Refused {
                program: name,
                source,
            })?;
        let mut next: ProgramArray<_> = map(&mut ebpf, object::NEXT)?;
        next.set(place, &loaded, 0)
            .map_err(|source| LoadError::Map {
                map: object::NEXT,
                source,
            })?;
    }
    let mut ports: Array<_, u8> = map(&mut ebpf, object::TLS_PORTS)?;
    for port in &settings.tls_ports {
        ports
            .set(u32::from(*port), 1, 0)
            .map_err(|source| LoadError::Map {
                map: object::TLS_PORTS,
                source,
            })?;
    }
    Ok(ebpf)
}

/// A loader that makes the maps as large as the settings want them, and sets the constants, which the verifier
/// knows: it does not walk what they rule out.
pub(crate) fn loader(settings: &Settings) -> EbpfLoader<'static> {
    let flag = |set| if set { &1_u8 } else { &0 };
    let perf = settings.transport == Transport::Perf;
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(object::FLOWS, settings.flows.get())
        .map_max_entries(object::WINDOWS, settings.windows().get())
        .override_global(object::CAPTURE_TIME, flag(settings.capture_time), true)
        .override_global(object::GLANCE, flag(settings.glance), true)
        // Older objects, which measurements compare with, have ring buffers only.
        .override_global(object::PERF, flag(perf), perf);
    // What is not used is as small as can be: it cannot be left out.
    if perf {
        loader.map_max_entries(object::EVENTS, 1); // rounded up to a page
    } else {
        loader
            .map_max_entries(object::EVENTS, settings.ring_bytes.get())
            .map_max_entries(object::PERF_EVENTS, 1)
            .map_max_entries(object::NEW_EVENT, 1);
    }
    loader
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), Failure> {
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    let mut attempts = 1;
    loop {
        let loaded = match program {
            Program::SchedClassifier(program) => program.load(),
            Program::CgroupSkb(program) => program.load(),
            _ => return Err(LoadError::Missing(name).into()),
        };
        match loaded {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock && attempts < ATTEMPTS =>
            {
                attempts += 1;
            }
            loaded => return loaded.map_err(|error| Failure::Program { name, error }),
        }
    }
}

/// A loaded program's instructions as the verifier has left them, eight bytes each: without those that cannot be
/// reached, and with a map's number where its descriptor was. Needs CAP_BPF and CAP_PERFMON.
///
/// # Errors
/// [`LoadError::Missing`]; what the kernel says.
pub fn translated(ebpf: &Ebpf, name: &'static str) -> Result<Vec<u8>, LoadError> {
    let program = ebpf.program(name).ok_or(LoadError::Missing(name))?;
    let read = program.fd().and_then(|fd| {
        let instructions = bpf::translated(fd.as_fd());
        instructions.map_err(ProgramError::IOError)
    });
    read.map_err(|source| LoadError::Refused {
        program: name,
        source,
    })
}

/// One of the object's programs, of a kind.
///
/// # Errors
/// [`LoadError::Missing`].
pub fn program<'e, P>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut P, LoadError>
where
    &'e mut P: TryFrom<&'e mut Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(LoadError::Missing(name))
}

/// One of the object's maps, to be written.
fn map<'e, M>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<&'e mut Map, Error = MapError>,
{
    let map = ebpf.map_mut(name).ok_or(LoadError::Missing(name))?;
    M::try_from(map).map_err(|source| LoadError::Map { map: name, source })
}

/// The descriptor of a map, of any kind that the objects have.
#[must_use]
pub fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::PerfEventArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}

pub(crate) fn refusal(program: &'static str, error: ProgramError) -> LoadError {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return LoadError::Refused {
            program,
            source: error,
        };
    };
    refused(program, io_error, &verifier_log.to_string())
}

/// A refusal, by the kernel's error and its verifier's log.
pub(crate) fn refused(program: &'static str, io_error: io::Error, log: &str) -> LoadError {
    if log.trim().is_empty() {
        return LoadError::Refused {
            program,
            source: ProgramError::IOError(io_error),
        };
    }
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown: String = lines[lines.len().saturating_sub(SHOWN)..]
        .iter()
        .map(|line| match line.char_indices().nth(WIDTH) {
            Some((end, _)) => format!("\n  {}...", &line[..end]),
            None => format!("\n  {line}"),
        })
        .collect();
    LoadError::Verifier {
        program,
        last_lines: format!("{io_error}{shown}"),
        log: match keep(program, log) {
            Ok(path) => path.display().to_string(),
            Err(error) => format!("not kept: {error}"),
        },
    }
}

/// Keeps a verifier's log in a new file of the temporary folder.
fn keep(program: &str, log: &str) -> io::Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix(&format!("mtls-probe-verifier-{program}-"))
        .suffix(".log")
        .tempfile()?;
    file.write_all(log.as_bytes())?;
    Ok(file.keep()?.1)
}

//! What loading the programs costs a kernel: time, instructions its verifier walked, stack, machine
//! code.
//!
//! aya drops the verifier's log of a program that loads, and kernels before 5.16 say nowhere else how
//! much they verified. So the programs are loaded here once more, by the system call itself, with
//! nothing but statistics in the log. What is loaded is gone when this returns; nothing is attached.
//!
//! # Kernel
//! 5.10, and the capabilities of [`crate::load`].

use std::collections::HashSet;
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::{Object, generated::bpf_insn};
use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::load::Settings;
use crate::object;

/// What one program cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Which program.
    pub program: &'static str,
    /// How long the kernel took.
    pub took: Duration,
    /// Instructions the verifier walked.
    pub verified_instructions: Option<u64>,
    /// Stack of all frames, bytes.
    pub stack_bytes: Option<u64>,
    /// Machine code, bytes.
    pub jited_bytes: Option<u64>,
    /// Whether it goes on in another program by tail call.
    pub calls_on: bool,
    /// What this kernel allows.
    pub limits: Limits,
}

/// What a kernel allows one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instructions its verifier walks before it gives up, in the kernel's own words.
    pub verified_instructions: Option<u64>,
    /// Stack of all frames, bytes: `MAX_BPF_STACK`.
    pub stack_bytes: u64,
    /// Tail calls for one packet: `MAX_TAIL_CALL_CNT`.
    pub tail_calls: u64,
}

/// How far a program is from what a kernel allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// Instructions that its verifier could still walk.
    pub verified_instructions: Option<u64>,
    /// Bytes of stack.
    pub stack_bytes: Option<u64>,
    /// Tail calls. None for a program that goes on by tail call: it does so as often as the packet has
    /// records, to the kernel's limit, and counts what is beyond (`steps_exhausted`).
    pub tail_calls: u64,
}

impl Cost {
    /// What is left.
    #[must_use]
    pub fn headroom(&self) -> Headroom {
        let left = |limit: u64, used: u64| limit.saturating_sub(used);
        let limits = self.limits;
        Headroom {
            verified_instructions: limits
                .verified_instructions
                .zip(self.verified_instructions)
                .map(|(limit, used)| left(limit, used)),
            stack_bytes: self.stack_bytes.map(|used| left(limits.stack_bytes, used)),
            tail_calls: if self.calls_on { 0 } else { limits.tail_calls },
        }
    }
}

/// A kernel that refused a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which program.
    pub program: &'static str,
    /// What the verifier said; without the source's lines.
    pub log: String,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The kernel refused the maps, or the object is damaged.
    #[error("the BPF object cannot be loaded: {0}")]
    Object(#[from] EbpfError),
    /// The object cannot be made ready for the kernel.
    #[error("the BPF object is damaged: {0}")]
    Damaged(String),
}

/// Loads each program, measures, and lets it go.
///
/// # Errors
/// [`CostError`]; a program that is refused is no error of the measurement.
pub fn measure(settings: &Settings) -> Result<Vec<Result<Cost, Refused>>, CostError> {
    // As in `load`: before 5.11 maps count against the limit.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let maps = EbpfLoader::new()
        .map_max_entries(object::FLOWS, settings.flows.get())
        .map_max_entries(object::WINDOWS, settings.windows().get())
        .map_max_entries(object::EVENTS, settings.ring_bytes.get())
        // Known to the verifier, which does not walk what it rules out.
        .override_global(object::CAPTURE_TIME, &u8::from(settings.capture_time), true)
        .load(object::OBJECT)?;
    let relocated = relocated(&maps)?;
    object::GO_ON
        .into_iter()
        .chain([object::WATCH])
        .map(|name| {
            let damaged = || CostError::Damaged(format!("it has no {name}"));
            let program = relocated.programs.get(name).ok_or_else(damaged)?;
            let function = relocated
                .functions
                .get(&program.function_key())
                .ok_or_else(damaged)?;
            Ok(load(name, &function.instructions, &program.license))
        })
        .collect()
}

/// The object once more, with its references to maps and functions resolved.
fn relocated(maps: &Ebpf) -> Result<Object, CostError> {
    let damaged = |error: &dyn std::fmt::Display| CostError::Damaged(error.to_string());
    let mut object = Object::parse(object::OBJECT).map_err(|error| damaged(&error))?;
    let texts: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let described = object.maps.clone();
    let known: Vec<(&str, RawFd, &aya_obj::Map)> = described
        .iter()
        .filter_map(|(name, map)| Some((name.as_str(), descriptor(maps.map(name)?)?, map)))
        .collect();
    object
        .relocate_maps(known.into_iter(), &texts)
        .map_err(|error| damaged(&error))?;
    object
        .relocate_calls(&texts)
        .map_err(|error| damaged(&error))?;
    Ok(object)
}

/// The descriptor of a map of any kind that the object has.
fn descriptor(map: &Map) -> Option<RawFd> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd().as_raw_fd())
}

fn load(
    program: &'static str,
    instructions: &[bpf_insn],
    license: &std::ffi::CStr,
) -> Result<Cost, Refused> {
    let mut log = vec![0; LOG_BYTES];
    let attributes = LoadAttributes {
        program_type: SCHED_CLS,
        instruction_count: instructions.len().try_into().unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: LOG_STATISTICS,
        log_size: LOG_BYTES as u32,
        log: log.as_mut_ptr() as u64,
        kernel_version: 0,
        flags: 0,
    };
    let start = Instant::now();
    // SAFETY: the attributes are the beginning of `union bpf_attr`, and every pointer in them is to
    // a buffer of the size beside it that outlives the call.
    let loaded = unsafe { bpf(BPF_PROG_LOAD, &attributes) };
    let took = start.elapsed();
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]).into_owned();
    match loaded {
        Err(error) => Err(Refused {
            program,
            log: format!("{log}{error}\n"),
        }),
        Ok(descriptor) => {
            // SAFETY: the kernel has just made this descriptor for us.
            let loaded = unsafe { OwnedFd::from_raw_fd(descriptor) };
            Ok(Cost {
                program,
                took,
                verified_instructions: verified_instructions(&log),
                stack_bytes: stack_bytes(&log),
                jited_bytes: jited_bytes(&loaded),
                calls_on: instructions.iter().any(is_tail_call),
                limits: Limits {
                    verified_instructions: verified_limit(&log),
                    stack_bytes: MAX_BPF_STACK,
                    tail_calls: MAX_TAIL_CALL_CNT,
                },
            })
        }
    }
}

/// `processed 44796 insns (limit 1000000) max_states_per_insn 4 ...`
fn verified_instructions(log: &str) -> Option<u64> {
    let line = log
        .lines()
        .find_map(|line| line.strip_prefix("processed "))?;
    line.split_once(" insns")?.0.parse().ok()
}

/// The limit in the same line.
fn verified_limit(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.starts_with("processed "))?;
    let (_, rest) = line.split_once("(limit ")?;
    rest.split_once(')')?.0.parse().ok()
}

fn is_tail_call(instruction: &bpf_insn) -> bool {
    instruction.code == CALL && instruction.src_reg() == 0 && instruction.imm == TAIL_CALL
}

/// `stack depth 152+24`, one number for each function; since 7.2 `stack depth max 176`.
fn stack_bytes(log: &str) -> Option<u64> {
    let said = log
        .lines()
        .find_map(|line| line.strip_prefix("stack depth "))?;
    let frames = said.strip_prefix("max ").unwrap_or(said).trim();
    frames
        .split('+')
        .map(|frame| frame.parse::<u64>().ok())
        .sum()
}

fn jited_bytes(program: &OwnedFd) -> Option<u64> {
    let mut info = ProgramInfo::default();
    let attributes = InfoAttributes {
        descriptor: program.as_raw_fd().try_into().ok()?,
        length: size_of_val(&info) as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attributes are those of BPF_OBJ_GET_INFO_BY_FD, and the kernel writes at most
    // `length` bytes to `info`.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) }.ok()?;
    (info.jited_length > 0).then(|| info.jited_length.into())
}

// include/linux/filter.h and include/linux/bpf.h; 33 calls are what 5.10, which says 32, allows too.
const MAX_BPF_STACK: u64 = 512;
const MAX_TAIL_CALL_CNT: u64 = 33;

// include/uapi/linux/bpf.h
const CALL: u8 = 0x85;
const TAIL_CALL: i32 = 12;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const SCHED_CLS: u32 = 3;
/// Only the numbers at the end, not what the verifier saw on its way.
const LOG_STATISTICS: u32 = 4;
const LOG_BYTES: usize = 64 * 1024;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD; what is left out counts as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct InfoAttributes {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    xlated_length: u32,
    jited: u64,
    xlated: u64,
}

/// The bpf(2) system call.
///
/// # Safety
/// `attributes` must be what `command` takes, and every address in it be of a buffer large enough.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the caller's promise.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of_val(attributes),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer as RawFd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 6.1 writes it.
    const LOG: &str = "verification time 61230 usec\nstack depth 152+24\n\
        processed 44796 insns (limit 1000000) max_states_per_insn 4 total_states 1019 peak_states 204 mark_read 9\n";

    #[test]
    fn numbers_are_read_from_the_verifiers_statistics() {
        assert_eq!(verified_instructions(LOG), Some(44_796));
        assert_eq!(verified_limit(LOG), Some(1_000_000));
        assert_eq!(stack_bytes(LOG), Some(176));
        assert_eq!(stack_bytes("stack depth 0\n"), Some(0));
        assert_eq!(stack_bytes("stack depth max 112\n"), Some(112));
    }

    #[test]
    fn a_log_that_says_nothing_gives_no_numbers() {
        assert_eq!(verified_instructions("func#0 @0\n"), None);
        assert_eq!(verified_limit("processed 7 insns\n"), None);
        assert_eq!(stack_bytes(""), None);
    }

    #[test]
    fn headroom_is_what_is_left_and_unknown_where_the_use_is() {
        let cost = Cost {
            program: "x",
            took: Duration::ZERO,
            verified_instructions: Some(120_000),
            stack_bytes: None,
            jited_bytes: None,
            calls_on: true,
            limits: Limits {
                verified_instructions: Some(1_000_000),
                stack_bytes: MAX_BPF_STACK,
                tail_calls: MAX_TAIL_CALL_CNT,
            },
        };
        let left = cost.headroom();
        assert_eq!(left.verified_instructions, Some(880_000));
        assert_eq!((left.stack_bytes, left.tail_calls), (None, 0));
        let alone = Cost {
            calls_on: false,
            stack_bytes: Some(500),
            ..cost
        };
        let left = alone.headroom();
        assert_eq!((left.stack_bytes, left.tail_calls), (Some(12), 33));
    }
}

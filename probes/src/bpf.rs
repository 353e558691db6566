//! The bpf(2) system call, where aya does not reach: loading a program with the verifier's statistics, or
//! for attaching to many functions at once, and that attaching.
//!
//! Refuses what aya does: maps, and everything that is loaded to be attached in the ordinary way.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Ebpf;
use aya_obj::generated::bpf_insn;
use aya_obj::{Object, ProgramSection};
use nix::libc;

use crate::load::descriptor;

/// The kind of a program (`enum bpf_prog_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Type {
    /// BPF_PROG_TYPE_KPROBE, which is also that of probes in user space.
    Probe = 2,
    /// BPF_PROG_TYPE_SCHED_CLS
    Classifier = 3,
    /// BPF_PROG_TYPE_CGROUP_SKB
    Cgroup = 8,
    /// BPF_PROG_TYPE_RAW_TRACEPOINT
    RawTracepoint = 17,
}

/// How a program will be attached (`enum bpf_attach_type`), where the kernel asks beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Attach {
    /// It does not ask.
    Any = 0,
    /// BPF_TRACE_UPROBE_MULTI, Linux 6.6's.
    ManyFunctions = 48,
}

/// An object whose references to maps and functions are resolved.
pub(crate) struct Relocated(Object);

impl Relocated {
    /// Reads an object once more; `maps` has its maps.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(object: &[u8], maps: &Ebpf) -> Result<Self, String> {
        let mut object = Object::parse(object).map_err(|error| error.to_string())?;
        let texts: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let described = object.maps.clone();
        let known: Vec<(&str, RawFd, &aya_obj::Map)> = described
            .iter()
            .filter_map(|(name, map)| {
                Some((name.as_str(), descriptor(maps.map(name)?)?.as_raw_fd(), map))
            })
            .collect();
        object
            .relocate_maps(known.into_iter(), &texts)
            .map_err(|error| error.to_string())?;
        object
            .relocate_calls(&texts)
            .map_err(|error| error.to_string())?;
        Ok(Self(object))
    }

    /// One of its programs; `None`: it has none of that name, or of a kind that is not known here.
    pub(crate) fn program(&self, name: &str) -> Option<Program<'_>> {
        let program = self.0.programs.get(name)?;
        let function = self.0.functions.get(&program.function_key())?;
        let kind = match program.section {
            ProgramSection::SchedClassifier => Type::Classifier,
            ProgramSection::CgroupSkb { .. } => Type::Cgroup,
            ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. } => Type::Probe,
            ProgramSection::RawTracePoint => Type::RawTracepoint,
            _ => return None,
        };
        Some(Program {
            name: short(name),
            instructions: &function.instructions,
            license: &program.license,
            kind,
            returns: matches!(program.section, ProgramSection::URetProbe { .. }),
        })
    }
}

/// A program that is ready for the kernel.
pub(crate) struct Program<'o> {
    name: [u8; NAME_BYTES],
    instructions: &'o [bpf_insn],
    license: &'o CStr,
    kind: Type,
    /// It is to run when a function returns.
    pub(crate) returns: bool,
}

impl Program<'_> {
    /// Whether it goes on in another program by tail call.
    pub(crate) fn calls_on(&self) -> bool {
        self.instructions.iter().any(|instruction| {
            instruction.code == CALL && instruction.src_reg() == 0 && instruction.imm == TAIL_CALL
        })
    }

    /// Loads it. Also the verifier's log, with nothing but statistics where it had no complaint.
    pub(crate) fn load(&self, attach: Attach) -> (io::Result<OwnedFd>, String) {
        let mut log = vec![0; LOG_BYTES];
        let attributes = LoadAttributes {
            program_type: self.kind as u32,
            instruction_count: self.instructions.len().try_into().unwrap_or(u32::MAX),
            instructions: self.instructions.as_ptr() as u64,
            license: self.license.as_ptr() as u64,
            log_level: LOG_STATISTICS,
            log_size: LOG_BYTES as u32,
            log: log.as_mut_ptr() as u64,
            name: self.name,
            expected_attach_type: attach as u32,
            ..LoadAttributes::default()
        };
        // SAFETY: the attributes are the beginning of `union bpf_attr`, and every pointer in them is to
        // a buffer of the size beside it that outlives the call.
        let loaded = unsafe { bpf(BPF_PROG_LOAD, &attributes) };
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        let log = String::from_utf8_lossy(&log[..end]).into_owned();
        (loaded.map(owned), log)
    }
}

/// Attaches a program to functions of a file, by their offsets in it, as long as the descriptor lives.
///
/// # Errors
/// The kernel's; EINVAL before 6.6.
pub(crate) fn attach_to_functions(
    program: BorrowedFd<'_>,
    file: &Path,
    offsets: &[u64],
    returns: bool,
) -> io::Result<OwnedFd> {
    let path = CString::new(file.as_os_str().as_bytes())?;
    let attributes = LinkAttributes {
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: Attach::ManyFunctions as u32,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        count: offsets.len().try_into().unwrap_or(u32::MAX),
        multi_flags: if returns {
            BPF_F_UPROBE_MULTI_RETURN
        } else {
            0
        },
        ..LinkAttributes::default()
    };
    // SAFETY: the attributes are those of BPF_LINK_CREATE for this attach type; the path ends with a
    // zero, the offsets are as many as is said, and both outlive the call.
    unsafe { bpf(BPF_LINK_CREATE, &attributes) }.map(owned)
}

/// Size of a loaded program's machine code, bytes.
pub(crate) fn jited_bytes(program: &OwnedFd) -> Option<u64> {
    let mut info = ProgramInfo::default();
    // SAFETY: it names no buffers.
    unsafe { program_info(program.as_fd(), &mut info) }.ok()?;
    (info.jited_length > 0).then(|| info.jited_length.into())
}

/// A loaded program's instructions as the verifier has left them: without those that cannot be reached, and with
/// a map's number where its descriptor was.
///
/// # Errors
/// The kernel's; without CAP_BPF and CAP_PERFMON it shows none.
pub(crate) fn translated(program: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut info = ProgramInfo::default();
    // SAFETY: it names no buffers.
    unsafe { program_info(program, &mut info) }?;
    let mut instructions = vec![0; info.xlated_length as usize];
    info = ProgramInfo {
        xlated_length: info.xlated_length,
        xlated: instructions.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    // SAFETY: the buffer has the length that is said.
    unsafe { program_info(program, &mut info) }?;
    if info.xlated == 0 || info.xlated_length as usize != instructions.len() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(instructions)
}

/// What the kernel says of a program.
///
/// # Safety
/// Every buffer that `info` names must be as long as it says.
unsafe fn program_info(program: BorrowedFd<'_>, info: &mut ProgramInfo) -> io::Result<()> {
    let attributes = InfoAttributes {
        descriptor: program.as_raw_fd().cast_unsigned(),
        length: size_of_val(info) as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the attributes are those of BPF_OBJ_GET_INFO_BY_FD, and the kernel writes at most `length` bytes to
    // `info`; the caller vouches for the buffers in it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) }.map(|_| ())
}

/// A program's name, as far as the kernel keeps it.
fn short(name: &str) -> [u8; NAME_BYTES] {
    let mut short = [0; NAME_BYTES];
    let most = name.len().min(NAME_BYTES - 1);
    short[..most].copy_from_slice(&name.as_bytes()[..most]);
    short
}

// include/uapi/linux/bpf.h
const CALL: u8 = 0x85;
const TAIL_CALL: i32 = 12;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;
/// Only the numbers at the end, not what the verifier saw on its way.
const LOG_STATISTICS: u32 = 4;
const LOG_BYTES: usize = 64 * 1024;
/// BPF_OBJ_NAME_LEN, with the zero that ends it.
const NAME_BYTES: usize = 16;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD; what is left out counts as zero.
#[repr(C)]
#[derive(Default)]
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
    name: [u8; NAME_BYTES],
    interface: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` for BPF_LINK_CREATE of BPF_TRACE_UPROBE_MULTI.
#[repr(C)]
#[derive(Default)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    process: u32,
    reserved: u32,
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

/// The descriptor that a command has made.
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
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

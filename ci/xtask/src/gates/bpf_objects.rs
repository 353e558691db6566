//! Lists the BPF programs and links in the kernel. bpftool would do, but is not
//! in every distribution and has to match the kernel. Reads; never opens an
//! object for longer than it takes to ask its name.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd},
};

/// Commands of bpf(2), from `enum bpf_cmd`.
const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_GET_NEXT_ID: libc::c_long = 31;

/// The arguments of the commands that take an id.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The arguments of `OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`; the kernel fills as much as it is given.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    sizes_and_pointers: [u64; 6],
    name: [u8; 16],
}

/// One line for each; empty where the kernel does not tell, which takes
/// `CAP_SYS_ADMIN`.
pub(super) fn list() -> Vec<String> {
    let programs = ids(PROG_GET_NEXT_ID).filter_map(|id| {
        let name = program_name(id);
        // systemd loads and unloads programs for services whenever it likes.
        let foreign = name.as_ref().is_ok_and(|name| name.starts_with("sd_"));
        (!foreign).then(|| format!("program {id} {}", name.unwrap_or_default()))
    });
    let links = ids(LINK_GET_NEXT_ID).map(|id| format!("link {id}"));
    programs
        .chain(links)
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn ids(command: libc::c_long) -> impl Iterator<Item = u32> {
    let mut attr = IdAttr::default();
    // The end is an error too: there is no next one.
    std::iter::from_fn(move || {
        bpf(command, &mut attr).ok()?;
        attr.id = attr.next_id;
        Some(attr.next_id)
    })
}

fn program_name(id: u32) -> io::Result<String> {
    let fd = bpf(
        PROG_GET_FD_BY_ID,
        &mut IdAttr {
            id,
            ..IdAttr::default()
        },
    )?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else closes it.
    let program = unsafe { File::from_raw_fd(fd) };
    let mut info = ProgramInfo::default();
    let mut attr = InfoAttr {
        fd: program.as_raw_fd().cast_unsigned(),
        info_len: u32::try_from(size_of::<ProgramInfo>()).map_err(io::Error::other)?,
        info: (&raw mut info).addr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name = info
        .name
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is one of the structures above, with its own size; where it
    // holds an address, that is of a structure which outlives the call and whose
    // size stands beside it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_size_the_kernel_knows() {
        assert_eq!(size_of::<IdAttr>(), 12);
        assert_eq!(size_of::<InfoAttr>(), 16);
        // As in Linux 4.15, when the name was added.
        assert_eq!(size_of::<ProgramInfo>(), 80);
    }
}

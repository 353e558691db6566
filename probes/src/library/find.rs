//! Which files the processes of this machine run TLS from: what they have mapped, and where the system
//! keeps its own.
//!
//! A file counts once, however many processes, containers or mount namespaces have it under whatever name:
//! a probe is in the file (its inode), not in a process. It is reached through `/proc`, so that a library
//! inside a container, or one that an update has replaced, is the very one that is mapped.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How a library's file is named, if it is worth opening.
const NAMES: [&str; 3] = ["libssl", "libcrypto", "libgnutls"];

/// Where systems keep shared libraries; each also has a folder for each architecture (Debian's multiarch).
const FOLDERS: [&str; 6] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
];

/// A file's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
}

/// A file that may be a TLS library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which file.
    pub inode: Inode,
    /// A path that opens it now.
    pub path: PathBuf,
    /// What to call it.
    pub name: String,
}

impl Found {
    /// The file at a path; `None` if there is none.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            inode: Inode {
                device: metadata.dev(),
                number: metadata.ino(),
            },
            path: path.into(),
            name: path.display().to_string(),
        })
    }
}

/// Whether a file of this name may be a TLS library.
#[must_use]
pub fn worth_opening(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    NAMES.iter().any(|begin| name.starts_with(begin)) && name.contains(".so")
}

/// What the system has for programs that are not running yet.
#[must_use]
pub fn installed() -> Vec<Found> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut files = Vec::new();
    for folder in FOLDERS {
        for path in entries(Path::new(folder)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.contains("-linux-") && path.is_dir() {
                files.extend(entries(&path));
            } else {
                files.push(path);
            }
        }
    }
    files.retain(|path| worth_opening(&path.to_string_lossy()));
    files.iter().filter_map(|path| Found::at(path)).collect()
}

/// What is mapped, as code, by any process that this one may look at.
#[must_use]
pub fn mapped() -> Vec<Found> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .flat_map(mapped_by)
        .collect()
}

/// What one process has mapped as code.
#[must_use]
pub fn mapped_by(process: u32) -> Vec<Found> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let mut found: Vec<Found> = Vec::new();
    for line in maps.lines() {
        let Some((range, path)) = code(line).filter(|(_, path)| worth_opening(path)) else {
            continue;
        };
        let exact = PathBuf::from(format!("/proc/{process}/map_files/{range}"));
        // Without CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE the path, as the process sees it, must do.
        let named = PathBuf::from(format!("/proc/{process}/root{path}"));
        let file = Found::at(&exact).or_else(|| Found::at(&named));
        found.extend(file.map(|file| Found {
            name: path.into(),
            ..file
        }));
    }
    found
}

/// The address range and path in a line of `/proc/PID/maps` that is a file's code.
fn code(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.splitn(6, ' ');
    let range = fields.next()?;
    if !fields.next()?.contains('x') {
        return None;
    }
    let path = fields.nth(3)?.trim_start();
    path.starts_with('/').then_some((range, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_data() {
        let line = "7f1c-7f2d r-xp 00001000 fe:00 123    /usr/lib/a b/libssl.so.3 (deleted)";
        assert_eq!(
            code(line),
            Some(("7f1c-7f2d", "/usr/lib/a b/libssl.so.3 (deleted)"))
        );
        assert_eq!(
            code("7f1c-7f2d r--p 00001000 fe:00 123    /usr/lib/libssl.so.3"),
            None
        );
        assert_eq!(code("7f1c-7f2d r-xp 00000000 00:00 0      [vdso]"), None);
        assert_eq!(code("7f1c-7f2d r-xp 00000000 00:00 0 "), None);
        assert_eq!(code(""), None);
    }

    #[test]
    fn names_of_libraries() {
        for name in [
            "/usr/lib/libssl.so.3",
            "/a/libssl-1a2b.so.1.1",
            "/libcrypto.so.3 (deleted)",
        ] {
            assert!(worth_opening(name), "{name}");
        }
        for name in [
            "/usr/lib/libssl",
            "/libssl.so.d/readme",
            "/usr/lib/libc.so.6",
        ] {
            assert!(!worth_opening(name), "{name}");
        }
    }
}

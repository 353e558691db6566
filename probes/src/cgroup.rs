//! From a loaded program to both directions of a cgroup and all that is below it, and back. The attachment is
//! a pair of links, which the kernel removes with the process however it ends; other programs of the cgroup
//! keep their turn, and packets go on their way.
//!
//! Refuses cgroup v1, which has no such hook.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::cgroup_skb::{CgroupSkbAttachType, CgroupSkbLink};
use aya::programs::{CgroupAttachMode, CgroupSkb, ProgramError};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use crate::load::{LoadError, program};
use crate::object;

/// Why a cgroup is not watched.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It cannot be opened.
    #[error("cgroup {path}: cannot be opened: {source}")]
    Open {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no cgroup.
    #[error("cgroup {0}: no folder of a cgroup v2 file system")]
    Other(PathBuf),
    /// The kernel refused.
    #[error("cgroup {path}: cannot be attached to: {source}")]
    Refused {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: ProgramError,
    },
    /// The object has no such program.
    #[error(transparent)]
    Object(#[from] LoadError),
}

/// A cgroup that is watched in both directions, as long as this lives.
#[derive(Debug)]
pub(crate) struct Cgroup {
    _links: [CgroupSkbLink; 2],
}

/// Attaches the watching program to both directions.
pub(crate) fn attach(ebpf: &mut Ebpf, path: &Path) -> Result<Cgroup, CgroupError> {
    let folder = open(path)?;
    let program: &mut CgroupSkb = program(ebpf, object::CGROUP.watch)?;
    let mut attach = |direction| {
        let link = program
            .attach(&folder, direction, CgroupAttachMode::Single) // a link is always one of several
            .and_then(|id| program.take_link(id));
        link.map_err(|source| CgroupError::Refused {
            path: path.into(),
            source,
        })
    };
    // What is sent first: of an answer that comes before both are there nothing else would be known.
    let egress = attach(CgroupSkbAttachType::Egress)?;
    let ingress = attach(CgroupSkbAttachType::Ingress)?;
    Ok(Cgroup {
        _links: [egress, ingress],
    })
}

fn open(path: &Path) -> Result<File, CgroupError> {
    let fail = |source| CgroupError::Open {
        path: path.into(),
        source,
    };
    let folder = File::open(path).map_err(fail)?;
    let is_folder = folder.metadata().map_err(fail)?.is_dir();
    let kind = fstatfs(&folder).map_err(|error| fail(error.into()))?;
    if is_folder && kind.filesystem_type() == CGROUP2_SUPER_MAGIC {
        Ok(folder)
    } else {
        Err(CgroupError::Other(path.into()))
    }
}

//! From a file to probes in it, once for each file, and away with them when nobody uses the file any more.
//!
//! Where the kernel can attach a program to many functions at once (6.6), it is asked to: letting go of them
//! is then one wait. Before that each function is a perf event of its own, and each takes the kernel a
//! tenth of a second to let go of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::uprobe::{UProbeLink, UProbeScope};
use aya::programs::{ProgramError, RawTracePoint, UProbe};

use super::find::{Found, Inode};
use super::object::{self, FREE, Kernel, PROBES, SOCKET_READ, SOCKET_WRITTEN};
use super::symbols::{Depth, points};
use crate::bpf::{Attach, Relocated, attach_to_functions};
use crate::load::{LoadError, refusal, refused};

/// The programs, and the files they are in. Dropping it detaches everything.
pub(crate) struct Attacher {
    files: BTreeMap<Inode, File>,
    _sockets: Vec<FdLink>,
    /// Programs to attach to many functions at once, by name, and whether they run at their return; none
    /// where the kernel cannot.
    many: BTreeMap<&'static str, (OwnedFd, bool)>,
    ebpf: Ebpf,
    depth: Depth,
    /// Files with places to probe of which some could not be.
    pub(crate) refused: BTreeMap<Inode, String>,
}

struct File {
    /// None for a file that is no TLS library, which need not be opened again.
    links: Vec<Link>,
    /// The system's own: processes may come to use it.
    keep: bool,
}

/// An attachment, as long as it lives.
#[expect(dead_code, reason = "they are there to be dropped")]
enum Link {
    One(UProbeLink),
    Many(OwnedFd),
}

impl Attacher {
    /// Loads the programs; the sockets' are attached, those in libraries are not yet.
    pub(crate) fn new(kernel: &Kernel, depth: Depth) -> Result<Self, LoadError> {
        let mut ebpf = object::loader(&kernel.layout).load(object::OBJECT)?;
        let many = if kernel.many_functions {
            load_many(&ebpf)?
        } else {
            for name in PROBES.into_iter().chain([FREE]) {
                let probe: &mut UProbe = program(&mut ebpf, name)?;
                probe.load().map_err(|error| refusal(name, error))?;
            }
            BTreeMap::new()
        };
        let mut sockets = Vec::new();
        for (name, tracepoint) in [SOCKET_READ, SOCKET_WRITTEN] {
            let refused = |source| LoadError::Refused {
                program: name,
                source,
            };
            let probe: &mut RawTracePoint = program(&mut ebpf, name)?;
            probe.load().map_err(|error| refusal(name, error))?;
            match probe.attach(tracepoint) {
                Ok(id) => sockets.push(probe.take_link(id).map_err(refused)?.into()),
                // An older kernel has no such tracepoint.
                Err(_) if name == SOCKET_WRITTEN.0 => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(Self {
            files: BTreeMap::new(),
            _sockets: sockets,
            many,
            ebpf,
            depth,
            refused: BTreeMap::new(),
        })
    }

    /// The maps, to be taken.
    pub(crate) fn maps(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// How many TLS libraries are probed.
    pub(crate) fn probed(&self) -> usize {
        self.files
            .values()
            .filter(|file| !file.links.is_empty())
            .count()
    }

    /// Attaches to a file, unless that was done. `keep`: also while nobody uses it.
    pub(crate) fn add(&mut self, found: &Found, keep: bool) {
        if let Some(file) = self.files.get_mut(&found.inode) {
            file.keep |= keep;
            return;
        }
        match self.attach(found) {
            Ok(links) => {
                self.files.insert(found.inode, File { links, keep });
            }
            // Tried again whenever it is found again. Where the process has just gone, there is nothing.
            Err(error) => {
                if !found.path.exists() {
                    return;
                }
                self.refused
                    .insert(found.inode, format!("{}: {error}", found.name));
            }
        }
    }

    fn attach(&mut self, found: &Found) -> Result<Vec<Link>, String> {
        let bytes = fs::read(&found.path).map_err(|error| error.to_string())?;
        let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for point in points(&bytes, self.depth).map_err(|error| error.to_string())? {
            places.entry(point.program).or_default().push(point.offset);
        }
        let mut links = Vec::new();
        for (program, offsets) in places {
            let attached = if let Some((descriptor, returns)) = self.many.get(program) {
                let link = attach_to_functions(descriptor.as_fd(), &found.path, &offsets, *returns);
                link.map(|link| vec![Link::Many(link)])
                    .map_err(|error| error.to_string())
            } else {
                let each = offsets
                    .iter()
                    .map(|offset| self.one(found, program, *offset));
                each.collect::<Result<_, _>>()
                    .map_err(|error| whole(&error))
            };
            links.extend(attached.map_err(|error| format!("{program}: {error}"))?);
        }
        self.refused.remove(&found.inode);
        Ok(links)
    }

    fn one(&mut self, found: &Found, name: &str, offset: u64) -> Result<Link, ProgramError> {
        let probe: &mut UProbe = match self.ebpf.program_mut(name) {
            Some(program) => program.try_into()?,
            None => return Err(ProgramError::NotLoaded),
        };
        let id = probe.attach(offset, &found.path, UProbeScope::AllProcesses)?;
        probe.take_link(id).map(Link::One)
    }

    /// Lets go of files that nobody uses, so that what they are on can be unmounted.
    pub(crate) fn keep_only(&mut self, used: &BTreeSet<Inode>) {
        let mut unused = Vec::new();
        self.files.retain(|inode, file| {
            let stays = file.keep || used.contains(inode);
            if !stays {
                unused.append(&mut file.links);
            }
            stays
        });
        self.refused.retain(|inode, _| used.contains(inode));
        release(unused);
    }
}

impl Drop for Attacher {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        release(files.into_values().flat_map(|file| file.links).collect());
    }
}

/// Detaches all at once: for each the kernel waits until nobody can be in it, and the waits go by together,
/// as far as it allows.
fn release(links: Vec<Link>) {
    std::thread::scope(|scope| {
        for link in links {
            scope.spawn(move || drop(link));
        }
    });
}

/// Loads the probes so that each can be attached to many functions at once.
fn load_many(ebpf: &Ebpf) -> Result<BTreeMap<&'static str, (OwnedFd, bool)>, LoadError> {
    let relocated = Relocated::new(object::OBJECT, ebpf).map_err(LoadError::Damaged)?;
    let load = |name| {
        let program = relocated.program(name).ok_or(LoadError::Missing(name))?;
        let (loaded, log) = program.load(Attach::ManyFunctions);
        let loaded = loaded.map_err(|error| refused(name, error, &log))?;
        Ok((name, (loaded, program.returns)))
    };
    PROBES.into_iter().chain([FREE]).map(load).collect()
}

/// An error with its causes, which some of aya's leave out.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn program<'e, P>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut P, LoadError>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(LoadError::Missing(name))
}

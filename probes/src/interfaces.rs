//! The interfaces of one network namespace: which are watched, from the start or from when they come until
//! they go. The kernel says when something has changed (`links`); then they are listed and compared.
//!
//! An interface that cannot be attached to is told and counted once, and tried again when it comes again.
//! Refuses to know what is attached.

mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use nix::ifaddrs::getifaddrs;

use self::links::Links;
use crate::attach::{AttachError, Attachment, Hook, attach};
use crate::netns::{NetNs, NetNsError};

/// Interfaces that have vanished whose names are still known, for what was seen on them before.
const REMEMBERED: usize = 1_024;

/// What to watch in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Names of interfaces, each of which is there at the start; none: all that are there or come.
    pub interfaces: Vec<String>,
    /// How to attach to them.
    pub hook: Hook,
    /// Those that were named may come later, and none needs to be there.
    pub later: bool,
}

impl Selection {
    fn holds(&self, name: &str) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(|wanted| wanted == name)
    }
}

/// Why the interfaces of a namespace are not watched.
#[derive(Debug, thiserror::Error)]
pub enum InterfacesError {
    /// One is not attached to.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// They cannot be listed.
    #[error("network namespace {namespace}: its interfaces cannot be listed: {source}")]
    List {
        /// Which.
        namespace: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Changes cannot be followed, or no longer.
    #[error(
        "network namespace {namespace}: changes of its interfaces cannot be followed: {source}"
    )]
    Follow {
        /// Which.
        namespace: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// There are none.
    #[error("network namespace {0}: there is no interface to watch")]
    None(String),
}

/// An interface, as seen from inside its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What was done to interfaces since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Attached to.
    pub attached: u64,
    /// Let go of while watching: vanished, or called something else now.
    pub detached: u64,
    /// Could not be attached to.
    pub failed: u64,
}

/// The interfaces of a namespace that are watched. Dropping it detaches from all.
#[derive(Debug)]
pub(crate) struct Interfaces {
    // Dropped first.
    attached: BTreeMap<u32, Attachment>,
    namespace: NetNs,
    selection: Selection,
    links: Links,
    there: BTreeMap<u32, Interface>,
    gone: BTreeMap<u32, Interface>,
    /// Those that could not be attached to.
    refused: BTreeSet<u32>,
    changes: Changes,
}

impl Interfaces {
    /// Attaches to every interface of the selection that is there, and says to which of all that are there
    /// it could not.
    ///
    /// # Errors
    /// [`InterfacesError`]; then nothing is left attached.
    pub(crate) fn start(
        ebpf: &mut Ebpf,
        namespace: &NetNs,
        selection: &Selection,
    ) -> Result<(Self, Vec<AttachError>), InterfacesError> {
        // Before they are listed, so that none comes between.
        let links = Links::follow(namespace)?;
        let mut all = Self {
            attached: BTreeMap::new(),
            namespace: namespace.try_clone()?,
            selection: selection.clone(),
            links,
            there: BTreeMap::new(),
            gone: BTreeMap::new(),
            refused: BTreeSet::new(),
            changes: Changes::default(),
        };
        let mut refused = all.look(ebpf)?;
        if selection.later {
            return Ok((all, refused));
        }
        for name in &selection.interfaces {
            if !all.there.values().any(|interface| interface.name == *name) {
                return Err(InterfacesError::Attach(AttachError::NoInterface {
                    interface: name.clone(),
                    namespace: namespace.label().into(),
                }));
            }
        }
        // Among all there are, one may have vanished, or have no room.
        let asked_for = !selection.interfaces.is_empty();
        if (asked_for || all.attached.is_empty()) && !refused.is_empty() {
            return Err(refused.remove(0).into());
        }
        if all.attached.is_empty() {
            return Err(InterfacesError::None(namespace.label().into()));
        }
        Ok((all, refused))
    }

    /// Takes note of what has changed since the last time, and says what could not be attached to.
    ///
    /// # Errors
    /// [`InterfacesError`], where changes can no longer be followed.
    pub(crate) fn follow(&mut self, ebpf: &mut Ebpf) -> Result<Vec<AttachError>, InterfacesError> {
        let changes = self
            .links
            .changes()
            .map_err(|source| InterfacesError::Follow {
                namespace: self.namespace.label().into(),
                source,
            })?;
        let Some(deleted) = changes else {
            return Ok(Vec::new());
        };
        // An interface that has come since may have the index of one that went.
        for index in deleted {
            self.let_go(index);
        }
        self.look(ebpf)
    }

    /// Detaches from all.
    pub(crate) fn detach(&mut self) {
        self.attached.clear();
    }

    /// How many are watched.
    pub(crate) fn watched(&self) -> usize {
        self.attached.len()
    }

    /// The interface with this index, or the last one that had it.
    pub(crate) fn interface(&self, index: u32) -> Option<&Interface> {
        self.there.get(&index).or_else(|| self.gone.get(&index))
    }

    /// What was done so far.
    pub(crate) const fn changes(&self) -> Changes {
        self.changes
    }

    fn look(&mut self, ebpf: &mut Ebpf) -> Result<Vec<AttachError>, InterfacesError> {
        let there = self
            .namespace
            .run(list)?
            .map_err(|source| InterfacesError::List {
                namespace: self.namespace.label().into(),
                source,
            })?;
        let vanished: Vec<u32> = self.there.keys().copied().collect();
        for index in vanished {
            if !there.contains_key(&index) {
                self.let_go(index);
            }
        }
        self.there = there;
        let (wanted, others): (Vec<_>, Vec<_>) = self
            .there
            .iter()
            .map(|(index, interface)| (*index, interface.name.clone()))
            .partition(|(_, name)| self.selection.holds(name));
        for (index, _) in others {
            self.refused.remove(&index);
            if self.attached.remove(&index).is_some() {
                self.changes.detached += 1;
            }
        }
        let mut refused = Vec::new();
        for (index, name) in wanted {
            if self.attached.contains_key(&index) || self.refused.contains(&index) {
                continue;
            }
            match attach(ebpf, &self.namespace, &name, self.selection.hook) {
                Ok(attachment) => {
                    self.changes.attached += 1;
                    self.attached.insert(index, attachment);
                }
                Err(error) => {
                    self.changes.failed += 1;
                    self.refused.insert(index);
                    refused.push(error);
                }
            }
        }
        Ok(refused)
    }

    fn let_go(&mut self, index: u32) {
        if self.attached.remove(&index).is_some() {
            self.changes.detached += 1;
        }
        self.refused.remove(&index);
        if let Some(interface) = self.there.remove(&index) {
            self.gone.insert(index, interface);
        }
        while self.gone.len() > REMEMBERED {
            // The lowest index, as a rule the oldest.
            self.gone.pop_first();
        }
    }
}

impl AsFd for Interfaces {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.links.as_fd()
    }
}

/// The interfaces of the calling thread's namespace, by index.
fn list() -> io::Result<BTreeMap<u32, Interface>> {
    let mut found = BTreeMap::new();
    for interface in &nix::net::if_::if_nameindex()? {
        let name = interface.name().to_string_lossy().into_owned();
        found.insert(
            interface.index(),
            Interface {
                name,
                addresses: Vec::new(),
            },
        );
    }
    for entry in getifaddrs()? {
        let Some(address) = entry.address else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        let address = v4.or_else(v6);
        let interface = found
            .values_mut()
            .find(|found| found.name == entry.interface_name);
        if let (Some(interface), Some(address)) = (interface, address) {
            interface.addresses.push(address);
        }
    }
    Ok(found)
}

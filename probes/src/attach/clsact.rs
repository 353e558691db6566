//! Attaching before tcx (6.6): a filter of the clsact qdisc, in each direction.
//!
//! A filter outlives its process. So each probe on an interface holds a lock, an abstract socket,
//! which the kernel frees with the process; the filters' priority says which lock is theirs. A filter
//! whose lock is free was left by a probe that was killed, and is removed here.
//!
//! The qdisc is made if there is none, and goes with the last probe if a probe made it and nobody
//! else has put a filter into it since. Who made it is written where it outlives a probe that is
//! killed: in the handle of its filters, which the next probes take over.
//!
//! Attaching and detaching pass through a door, another such socket, one probe at a time: else one
//! could remove the qdisc that it has just found empty, and with it the other's first filter.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::tc::{self as aya_tc, NlOptions, SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::{Link as _, ProgramError, SchedClassifier};

use super::DIRECTIONS;
use super::tc::{self, Filter};
use crate::netns::{NetNs, NetNsError};

/// Probes that can watch one interface at once.
const SLOTS: u16 = 8;
/// The priority of the first slot's filters; far from those that `tc` gives by itself (49152 down).
const PRIORITY: u16 = 0x6700;
/// The handle of our filters in a qdisc that was there before any probe: with the priority it says
/// whose they are.
const GUEST: u32 = 0x6761_756e;
/// The same, in a qdisc that a probe made.
const MAKER: u32 = 0x6761_756f;

/// How long another probe may take to attach or detach.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// Why a clsact filter could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum ClsactError {
    /// The qdisc could not be made.
    #[error("clsact qdisc cannot be made: {0}")]
    Qdisc(#[from] TcError),
    /// The interface has a qdisc that excludes clsact.
    #[error("its {0} qdisc leaves no room for clsact, which sees both directions")]
    Occupied(String),
    /// The filter could not be added.
    #[error("clsact filter cannot be added: {0}")]
    Filter(#[from] ProgramError),
    /// All slots are taken.
    #[error("clsact: {SLOTS} probes watch it already")]
    Slots,
    /// Another probe began to attach or detach, and did not end.
    #[error("clsact: another probe has been attaching or detaching for {}s", PATIENCE.as_secs())]
    Door,
    /// The kernel did not say what it has.
    #[error("clsact: netlink: {0}")]
    Netlink(#[from] io::Error),
}

/// Our two filters on an interface.
#[derive(Debug)]
pub struct Filters {
    namespace: NetNs,
    index: u32,
    links: Vec<SchedClassifierLink>,
    made_qdisc: bool,
    // Dropped after the filters are gone.
    _lock: UnixListener,
}

/// Attaches to both directions.
pub(super) fn attach(
    program: &mut SchedClassifier,
    namespace: &NetNs,
    interface: &str,
) -> Result<Result<Filters, ClsactError>, NetNsError> {
    let own = namespace.try_clone()?;
    namespace.run(|| {
        let index = nix::net::if_::if_nametoindex(interface).map_err(io::Error::from)?;
        let door = door(index)?;
        let Slot {
            priority,
            lock,
            inherited,
        } = take_slot(index)?;
        let mut filters = Filters {
            namespace: own,
            index,
            links: Vec::new(),
            made_qdisc: make_qdisc(interface, index)? || inherited,
            _lock: lock,
        };
        let added = filters.add(program, interface, priority);
        // Before the filters, which pass through it when they are dropped.
        drop(door);
        added.map(|()| filters)
    })
}

/// Makes the qdisc unless it is there; `true`: it was not.
fn make_qdisc(interface: &str, index: u32) -> Result<bool, ClsactError> {
    let mut refused = None;
    loop {
        match (tc::qdisc(index)?, refused) {
            (Some(kind), _) if kind == "clsact" => return Ok(false),
            (Some(kind), _) => return Err(ClsactError::Occupied(kind)),
            (None, Some(error)) => return Err(ClsactError::Qdisc(error)),
            (None, None) => match aya_tc::qdisc_add_clsact(interface) {
                Ok(()) => return Ok(true),
                // Somebody may have been faster: look again.
                Err(error) => refused = Some(error),
            },
        }
    }
}

/// A place among the probes of an interface.
struct Slot {
    priority: u16,
    lock: UnixListener,
    /// The qdisc was made by a probe before this one.
    inherited: bool,
}

/// The first free slot, after removing what dead probes left in any that is free.
fn take_slot(index: u32) -> Result<Slot, ClsactError> {
    let ours: Vec<Filter> = tc::filters(index)?
        .into_iter()
        .filter(|filter| filter.handle == GUEST || filter.handle == MAKER)
        .filter(|filter| (PRIORITY..PRIORITY + SLOTS).contains(&filter.priority))
        .collect();
    let mut taken = None;
    for slot in 0..SLOTS {
        let Some(lock) = lock(index, &slot.to_string())? else {
            continue;
        };
        let priority = PRIORITY + slot;
        for left in ours.iter().filter(|filter| filter.priority == priority) {
            tc::remove_filter(index, *left)?;
        }
        taken.get_or_insert((priority, lock));
    }
    let (priority, lock) = taken.ok_or(ClsactError::Slots)?;
    Ok(Slot {
        priority,
        lock,
        inherited: ours.iter().any(|filter| filter.handle == MAKER),
    })
}

/// Waits for the door of an interface.
fn door(index: u32) -> Result<UnixListener, ClsactError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock(index, "door")? {
            Some(door) => return Ok(door),
            None if Instant::now() >= deadline => return Err(ClsactError::Door),
            None => thread::sleep(LOOK),
        }
    }
}

/// Takes a lock of the calling thread's namespace; `None`: another process has it.
fn lock(index: u32, name: &str) -> io::Result<Option<UnixListener>> {
    let address = SocketAddr::from_abstract_name(format!("mtls-probe/clsact/{index}/{name}"))?;
    match UnixListener::bind_addr(&address) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

impl Filters {
    fn add(
        &mut self,
        program: &mut SchedClassifier,
        interface: &str,
        priority: u16,
    ) -> Result<(), ClsactError> {
        let handle = if self.made_qdisc { MAKER } else { GUEST };
        for direction in DIRECTIONS {
            let options = TcAttachOptions::Netlink(NlOptions {
                priority,
                handle: handle.into(),
                ..NlOptions::default()
            });
            let id = program.attach_with_options(interface, direction, options)?;
            self.links.push(program.take_link(id)?);
        }
        Ok(())
    }
}

impl Drop for Filters {
    fn drop(&mut self) {
        let links = std::mem::take(&mut self.links);
        let (index, made_qdisc) = (self.index, self.made_qdisc);
        // An interface or namespace that has vanished took its filters along.
        let _ = self.namespace.run(move || {
            let door = door(index);
            for link in links {
                let _ = link.detach();
            }
            if made_qdisc
                && door.is_ok()
                && matches!(tc::filters(index), Ok(left) if left.is_empty())
            {
                let _ = tc::remove_qdisc(index);
            }
        });
    }
}

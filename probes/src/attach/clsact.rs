//! Attaching before tcx (6.6): a filter of the clsact qdisc, in each direction.
//!
//! A filter outlives its process. So each probe on an interface holds a lock, an abstract socket,
//! which the kernel frees with the process; the filters' priority says which lock is theirs. A filter
//! whose lock is free was left by a probe that was killed, and is removed here.
//!
//! The qdisc is made if there is none, and removed again if it was made here and nobody has put a
//! filter into it since.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{Link as _, ProgramError, SchedClassifier};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle as Parent, TcMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

use super::DIRECTIONS;
use crate::netns::{NetNs, NetNsError};

/// Probes that can watch one interface at once.
const SLOTS: u16 = 8;
/// The priority of the first slot's filters; far from those that `tc` gives by itself (49152 down).
const PRIORITY: u16 = 0x6700;
/// The handle of our filters: with the priority it says whose they are.
const HANDLE: (u16, u16) = (0x6761, 0x756e);

/// `TC_H_CLSACT` and its two parents (linux/pkt_sched.h).
const CLSACT: Parent = Parent {
    major: 0xffff,
    minor: 0xfff1,
};
const PARENTS: [Parent; 2] = [
    Parent {
        major: 0xffff,
        minor: 0xfff2,
    },
    Parent {
        major: 0xffff,
        minor: 0xfff3,
    },
];

/// Why a clsact filter could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum ClsactError {
    /// The qdisc could not be made.
    #[error("clsact qdisc cannot be made: {0}")]
    Qdisc(#[from] TcError),
    /// The filter could not be added.
    #[error("clsact filter cannot be added: {0}")]
    Filter(#[from] ProgramError),
    /// All slots are taken.
    #[error("clsact: {SLOTS} probes watch it already")]
    Slots,
    /// The kernel did not say what it has.
    #[error("clsact: netlink: {0}")]
    Netlink(#[from] io::Error),
}

/// Our two filters on an interface.
#[derive(Debug)]
pub struct Filters {
    namespace: NetNs,
    interface: String,
    links: Vec<SchedClassifierLink>,
    made_qdisc: bool,
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
        let (slot, lock) = take_slot(interface, index)?;
        let made_qdisc = match tc::qdisc_add_clsact(interface) {
            Ok(()) => true,
            Err(TcError::AlreadyAttached) => false,
            Err(error) if exists(index)? => {
                let _there_already = error;
                false
            }
            Err(error) => return Err(error.into()),
        };
        let mut filters = Filters {
            namespace: own,
            interface: interface.into(),
            links: Vec::new(),
            made_qdisc,
            _lock: lock,
        };
        for direction in DIRECTIONS {
            let options = TcAttachOptions::Netlink(NlOptions {
                priority: PRIORITY + slot,
                handle: handle(),
                ..NlOptions::default()
            });
            let id = program.attach_with_options(interface, direction, options)?;
            filters.links.push(program.take_link(id)?);
        }
        Ok(filters)
    })
}

fn handle() -> TcHandle {
    TcHandle::new(HANDLE.0, HANDLE.1)
}

/// The first free slot, after removing what dead probes left in any that is free.
fn take_slot(interface: &str, index: u32) -> Result<(u16, UnixListener), ClsactError> {
    let mut taken = None;
    for slot in 0..SLOTS {
        let address = SocketAddr::from_abstract_name(format!("mtls-probe/clsact/{index}/{slot}"))?;
        let Ok(lock) = UnixListener::bind_addr(&address) else {
            continue;
        };
        for direction in DIRECTIONS {
            // Finding nothing to remove is the ordinary case.
            if let Ok(left) =
                SchedClassifierLink::attached(interface, direction, PRIORITY + slot, handle(), None)
            {
                let _ = left.detach();
            }
        }
        if taken.is_none() {
            taken = Some((slot, lock));
        }
    }
    taken.ok_or(ClsactError::Slots)
}

impl Drop for Filters {
    fn drop(&mut self) {
        let links = std::mem::take(&mut self.links);
        let (interface, made_qdisc) = (&self.interface, self.made_qdisc);
        // An interface or namespace that has vanished took its filters along.
        let _ = self.namespace.run(move || {
            for link in links {
                let _ = link.detach();
            }
            if made_qdisc
                && let Ok(index) = nix::net::if_::if_nametoindex(interface.as_str())
                && matches!(empty(index), Ok(true))
            {
                let _ = remove(index);
            }
        });
    }
}

/// Whether the interface has a clsact qdisc.
fn exists(index: u32) -> io::Result<bool> {
    let found = exchange(
        RouteNetlinkMessage::GetQueueDiscipline(about(index, Parent::UNSPEC)),
        NLM_F_DUMP,
    )?;
    Ok(found.iter().any(|message| {
        matches!(message, RouteNetlinkMessage::NewQueueDiscipline(qdisc)
            if qdisc.header.index == index as i32 && qdisc.header.parent == CLSACT)
    }))
}

/// Whether neither direction has a filter.
fn empty(index: u32) -> io::Result<bool> {
    for parent in PARENTS {
        let filters = exchange(
            RouteNetlinkMessage::GetTrafficFilter(about(index, parent)),
            NLM_F_DUMP,
        )?;
        if !filters.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove(index: u32) -> io::Result<()> {
    exchange(
        RouteNetlinkMessage::DelQueueDiscipline(about(index, CLSACT)),
        NLM_F_ACK,
    )
    .map(drop)
}

fn about(index: u32, parent: Parent) -> TcMessage {
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = parent;
    message
}

/// Sends one request and reads its answers to their end.
fn exchange(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = &received[..];
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Answers are padded to four bytes.
            let length = (answer.header.length as usize).next_multiple_of(4);
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

//! The few things that [`super::clsact`] asks of the kernel's traffic control, over rtnetlink.
//!
//! Reads no more of an answer than its fixed header and TCA_KIND: what other people's qdiscs and
//! filters hold differs from kernel to kernel, and is none of our business.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::libc::{
    RTM_DELQDISC, RTM_DELTFILTER, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `TC_H_CLSACT`, also `TC_H_INGRESS`: an interface has a qdisc of one of both kinds here, or none.
const CLSACT: u32 = 0xffff_fff1;
/// Where the filters of both directions are: `TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`.
pub(super) const PARENTS: [u32; 2] = [0xffff_fff2, 0xffff_fff3];

/// TCA_KIND (linux/rtnetlink.h).
const KIND: u16 = 1;
/// ETH_P_ALL, network byte order, as the lower half of a filter's `info`.
const ALL_PROTOCOLS: u32 = 0x0300;
/// How often a list is asked for again that changed while it was read.
const ATTEMPTS: u32 = 8;

/// `struct tcmsg` (linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TcMessage {
    family: u8,
    padding: [u8; 3],
    index: i32,
    handle: u32,
    parent: u32,
    info: u32,
}

/// A request, or an answer and the name of its kind.
#[derive(Debug)]
struct Message {
    message_type: u16,
    tc: TcMessage,
    kind: Vec<u8>,
}

/// A filter of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter {
    /// Its direction, one of [`PARENTS`].
    pub(super) parent: u32,
    /// Its priority.
    pub(super) priority: u16,
    /// Its handle; 0 stands for a priority as a whole.
    pub(super) handle: u32,
}

/// The kind of the qdisc at [`CLSACT`], if there is one: `clsact`, or `ingress`, which has one
/// direction only and excludes the other.
pub(super) fn qdisc(index: u32) -> io::Result<Option<String>> {
    // The kernel answers with the qdiscs of all interfaces.
    let found = exchange(RTM_GETQDISC, about(index), NLM_F_DUMP)?
        .into_iter()
        .find(|answer| {
            answer.message_type == RTM_NEWQDISC
                && answer.tc.index == about(index).index
                && answer.tc.parent == CLSACT
        });
    Ok(found.map(|qdisc| String::from_utf8_lossy(&qdisc.kind).into_owned()))
}

/// Removes the qdisc at [`CLSACT`].
pub(super) fn remove_qdisc(index: u32) -> io::Result<()> {
    let tc = TcMessage {
        parent: CLSACT,
        ..about(index)
    };
    exchange(RTM_DELQDISC, tc, NLM_F_ACK).map(drop)
}

/// The filters of both directions, whoever's they are.
pub(super) fn filters(index: u32) -> io::Result<Vec<Filter>> {
    let mut filters = Vec::new();
    for parent in PARENTS {
        let tc = TcMessage {
            parent,
            ..about(index)
        };
        let answers = exchange(RTM_GETTFILTER, tc, NLM_F_DUMP)?.into_iter();
        filters.extend(
            answers
                .filter(|answer| answer.message_type == RTM_NEWTFILTER)
                .map(|answer| Filter {
                    parent,
                    priority: (answer.tc.info >> 16) as u16,
                    handle: answer.tc.handle,
                }),
        );
    }
    Ok(filters)
}

/// Removes one filter.
pub(super) fn remove_filter(index: u32, filter: Filter) -> io::Result<()> {
    let tc = TcMessage {
        parent: filter.parent,
        handle: filter.handle,
        info: u32::from(filter.priority) << 16 | ALL_PROTOCOLS,
        ..about(index)
    };
    exchange(RTM_DELTFILTER, tc, NLM_F_ACK).map(drop)
}

fn about(index: u32) -> TcMessage {
    TcMessage {
        index: index as i32,
        ..TcMessage::default()
    }
}

/// Sends one request and reads its answers to their end.
fn exchange(message_type: u16, tc: TcMessage, flags: u16) -> io::Result<Vec<Message>> {
    for _ in 0..ATTEMPTS {
        if let Some(answers) = ask(message_type, tc, flags)? {
            return Ok(answers);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "it changes faster than it can be read",
    ))
}

/// `None`: the list changed while the kernel wrote it.
fn ask(message_type: u16, tc: TcMessage, flags: u16) -> io::Result<Option<Vec<Message>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(Message {
        message_type,
        tc,
        kind: Vec::new(),
    });
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    let mut consistent = true;
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = &received[..];
        while !rest.is_empty() {
            let answer = NetlinkMessage::<Message>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            consistent &= answer.header.flags & NLM_F_DUMP_INTR == 0;
            // Answers are padded to four bytes.
            let length = (answer.header.length as usize).next_multiple_of(4);
            match answer.payload {
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => {
                    return Ok(consistent.then_some(answers));
                }
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.message_type
    }

    fn buffer_len(&self) -> usize {
        size_of::<TcMessage>()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.tc.as_bytes());
    }
}

impl NetlinkDeserializable for Message {
    type Error = io::Error;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> io::Result<Self> {
        let (tc, attributes) = TcMessage::read_from_prefix(payload)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "shorter than a tcmsg"))?;
        let kind = NlasIterator::new(attributes)
            .map_while(Result::ok)
            .find(|attribute| attribute.kind() == KIND)
            .map(|attribute| {
                let name = attribute.value().split(|byte| *byte == 0).next();
                name.unwrap_or_default().to_vec()
            });
        Ok(Self {
            message_type: header.message_type,
            tc,
            kind: kind.unwrap_or_default(),
        })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}

//! What happens with a packet, from its headers to its event: the same steps in the kernel and on a host,
//! which differ in where they keep flows ([`Tables`]) and packets ([`Payload`]).
//!
//! A step does a bounded amount of work and says what is to be done next ([`Todo`]). In the kernel that is
//! a tail call, since the verifier walks every path of a program; a host loops.
//!
//! Refuses to judge ([`crate::rules`] does), and to know how a table is made.

use core::ops::DerefMut;

use crate::counters::Counter;
use crate::flow::{Flow, Place};
use crate::number::{Decision, Ended};
use crate::packet::{Endpoint, FlowKey, Parsed};
use crate::rules::{self, Failure};
use crate::segment::{Keep, Payload, Segment};
use crate::side::{Side, Stage};
use crate::window::{Kept, Window, WindowKey};

/// How many times a packet may be gone on with: what the kernel allows of tail calls
/// (`MAX_TAIL_CALL_CNT`).
pub const MORE: u32 = 33;

/// What is to be done next with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Nothing: it is done with.
    Nothing,
    /// [`walk_on`]: it has more bytes.
    WalkOn,
    /// [`keep`]: it came early.
    Keep,
    /// [`replay`]: it may have filled the hole before segments that came early.
    Replay,
}

/// Whether a flow was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// By this call: whatever is to be said of it is for the caller to say.
    Ours,
    /// It was not there: somebody else has.
    Gone,
    /// The table could not be changed just now; the flow is still there.
    Refused,
}

/// A connection as its first packet shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// When. Nanoseconds, CLOCK_MONOTONIC.
    pub time: u64,
    /// The server's port is known to speak TLS.
    pub known: bool,
    /// The client's address is the first of the key.
    pub client_first: bool,
}

/// Where flows, windows and counters are kept, and events go.
pub trait Tables {
    /// A flow in its table.
    type Flow<'t>: DerefMut<Target = Flow>
    where
        Self: 't;
    /// A window in its table; its payload is [`Window::bytes`].
    type Window<'t>: DerefMut<Target = Window> + Payload
    where
        Self: 't;
    /// Room for an event that is made but not yet told.
    type Offer;

    /// The time of the packet in hand. Nanoseconds, CLOCK_MONOTONIC.
    fn now(&self) -> u64;
    /// The cgroup v2 of the socket that sent the packet in hand, between these ports; 0: not known here.
    fn cgroup(&self, from: u16, to: u16) -> u64;

    /// The flow with this key.
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>>;
    /// Puts a new flow in the place of whatever has this key; `false`: there is no room.
    fn open(&self, key: &FlowKey, opened: &Opened) -> bool;
    /// Removes a flow.
    fn remove(&self, key: &FlowKey) -> Removal;

    /// The window with this key.
    fn window(&self, key: &WindowKey) -> Option<Self::Window<'_>>;
    /// The window with this key, made empty if there was none; `None`: there is no room.
    fn open_window(&self, key: &WindowKey) -> Option<Self::Window<'_>>;
    /// Removes a window.
    fn remove_window(&self, key: &WindowKey);

    /// Whether an address and port are known to speak TLS.
    fn knows(&self, server: &Endpoint) -> bool;
    /// Remembers that they do.
    fn learn(&self, server: &Endpoint);

    /// Adds one to a counter.
    fn count(&self, counter: Counter);
    /// Adds one to the failures of a class.
    fn count_class(&self, failure: &Failure, version: u16, time: u64);

    /// Room for an event; `None`: there is none.
    fn room(&self) -> Option<Self::Offer>;
    /// Makes it the event of a flow as it is now. `undecided`: see [`crate::event::Event::undecided`].
    fn fill(
        &self,
        offer: &mut Self::Offer,
        flow: &Flow,
        parsed: &Parsed,
        failure: Failure,
        undecided: bool,
    );
    /// Tells it; `false`: there was no room after all.
    fn tell(&self, offer: Self::Offer) -> bool;
    /// Forgets it.
    fn withdraw(&self, offer: Self::Offer);
}

/// A packet of which the headers have been read. `STEPS`: most fields that are walked over.
#[inline(always)]
pub fn arrive<const STEPS: u32, T: Tables>(
    tables: &T,
    payload: &impl Payload,
    parsed: &mut Parsed,
) -> Todo {
    let flags = parsed.segment.flags;
    if flags & Segment::SYN != 0 {
        open(tables, parsed);
    } else if parsed.segment.at == parsed.segment.end && flags & (Segment::FIN | Segment::RST) == 0
    {
        return Todo::Nothing; // a bare acknowledgement
    }
    let Some(mut flow) = tables.flow(&parsed.key) else {
        return Todo::Nothing;
    };
    if flow.told() {
        let _again = tables.remove(&parsed.key);
        return Todo::Nothing;
    }
    parsed.replaying = 0;
    let segment = &mut parsed.segment;
    segment.role = (parsed.sender_first ^ flow.client_first) & 1;
    segment.time = tables.now();
    let role = usize::from(segment.role & 1);
    if flow.cgroups[role] == 0 {
        let first = usize::from(parsed.sender_first & 1);
        flow.cgroups[role] = tables.cgroup(parsed.key.ports[first ^ 1], parsed.key.ports[first]);
    }
    if flags & Segment::SYN != 0 {
        flow.synchronize(segment);
        segment.sequence = segment.sequence.wrapping_add(1);
    }
    match flow.place(segment) {
        Place::Next => walk::<STEPS, T>(tables, payload, &mut flow, parsed),
        Place::Again => {
            tables.count(Counter::Duplicate);
            Todo::Nothing
        }
        Place::Ahead => {
            tables.count(Counter::Gap);
            Todo::Keep
        }
    }
}

/// Goes on with a packet that has more bytes.
#[inline(always)]
pub fn walk_on<const STEPS: u32, T: Tables>(
    tables: &T,
    payload: &impl Payload,
    parsed: &mut Parsed,
) -> Todo {
    match tables.flow(&parsed.key) {
        Some(mut flow) => walk::<STEPS, T>(tables, payload, &mut flow, parsed),
        None => Todo::Nothing,
    }
}

/// Keeps a packet that came early.
#[inline(always)]
pub fn keep<T: Tables>(tables: &T, packet: &impl Keep, parsed: &mut Parsed) -> Todo {
    let Some(mut flow) = tables.flow(&parsed.key) else {
        return Todo::Nothing;
    };
    let role = parsed.segment.from();
    let Some(mut window) = tables.open_window(&WindowKey::new(parsed.key, role)) else {
        tables.count(Counter::EarlyDropped);
        return Todo::Nothing;
    };
    let opened = flow.opened;
    let side = &mut flow.sides[role as usize];
    side.flags |= Side::KEPT;
    match window.keep(packet, &parsed.segment, side.next, opened) {
        Kept::Whole => {}
        Kept::Before => tables.count(Counter::Duplicate),
        Kept::NoRoom => tables.count(Counter::EarlyDropped),
        Kept::Unreadable => tables.count(Counter::Unreadable),
    }
    Todo::Nothing
}

/// Walks over segments that came early, as far as nothing is missing before them any more.
#[inline(always)]
pub fn replay<const STEPS: u32, T: Tables>(tables: &T, parsed: &mut Parsed) -> Todo {
    let Some(mut flow) = tables.flow(&parsed.key) else {
        return Todo::Nothing;
    };
    let role = parsed.segment.from();
    let key = WindowKey::new(parsed.key, role);
    let Some(mut window) = tables.window(&key) else {
        return Todo::Nothing;
    };
    if parsed.replaying == 0 {
        let next = flow.sides[role as usize].next;
        if window.opened != flow.opened || !window.take(next, &mut parsed.segment) {
            let over = window.opened != flow.opened || window.is_empty();
            drop(window);
            if over {
                flow.sides[role as usize].flags &= !Side::KEPT;
                tables.remove_window(&key);
            }
            return Todo::Nothing;
        }
        if flow.place(&mut parsed.segment) != Place::Next {
            return Todo::Replay;
        }
        parsed.replaying = 1;
    }
    walk::<STEPS, T>(tables, &window, &mut flow, parsed)
}

/// The packet has more records and messages than are followed in one.
#[inline(always)]
pub fn give_up<T: Tables>(tables: &T, parsed: &Parsed) {
    if let Some(mut flow) = tables.flow(&parsed.key) {
        flow.lose(parsed.segment.from());
    }
    tables.count(Counter::StepsExhausted);
}

/// Makes room for a connection, unless this is the SYN of one that is known.
#[inline(always)]
fn open<T: Tables>(tables: &T, parsed: &Parsed) {
    let answer = parsed.segment.flags & Segment::ACK != 0;
    if let Some(flow) = tables.flow(&parsed.key) {
        let client = flow.client();
        let again = parsed.segment.sequence.wrapping_add(1) == client.next;
        if answer || (again && client.is(Side::SYNCED)) {
            return;
        }
        if client.stage >= Stage::GREETING && !flow.told() {
            tables.count(Counter::FlowReplaced);
        }
    }
    let client_first = (parsed.sender_first ^ u8::from(answer)) & 1;
    let server = parsed.key.endpoint(usize::from(client_first));
    let opened = Opened {
        time: tables.now(),
        known: tables.knows(&server),
        client_first: client_first == 1,
    };
    if tables.open(&parsed.key, &opened) {
        tables.count(Counter::FlowOpened);
    } else if answer {
        // Once for a connection, and not for a SYN that nobody answers.
        tables.count(Counter::FlowTableFull);
    }
}

/// Takes bytes field by field until they end, the flow does, or no more may be done at once.
#[inline(always)]
fn walk<const STEPS: u32, T: Tables>(
    tables: &T,
    payload: &impl Payload,
    flow: &mut Flow,
    parsed: &mut Parsed,
) -> Todo {
    let ended = flow.steps::<STEPS>(payload, &mut parsed.segment);
    learn(tables, flow, parsed);
    match ended {
        Ended::ON => {
            parsed.replaying = 0;
            if flow.sides[usize::from(parsed.segment.role & 1)].is(Side::KEPT) {
                return Todo::Replay;
            }
        }
        Ended::MORE if parsed.replaying != 0 => return Todo::Replay,
        Ended::MORE => return Todo::WalkOn,
        Ended::UNREADABLE => {
            flow.lose(parsed.segment.from());
            tables.count(Counter::Unreadable);
        }
        Ended(decision) => over(tables, flow, parsed, Decision(decision)),
    }
    Todo::Nothing
}

/// Remembers a server that has answered in TLS, unless something else came before.
#[inline(always)]
fn learn<T: Tables>(tables: &T, flow: &mut Flow, parsed: &Parsed) {
    if flow.known != 0 || flow.preamble != 0 || !flow.server().is(Side::SPOKE_TLS) {
        return;
    }
    flow.known = 1;
    tables.learn(&parsed.key.endpoint(usize::from(flow.client_first & 1)));
}

/// A flow is over: it is removed, and if its handshake failed, reported.
///
/// Two CPUs may come to an end of the same flow at once, one for each direction. Whoever removes it
/// from the table reports it; the other finds it gone.
#[inline(always)]
fn over<T: Tables>(tables: &T, flow: &mut Flow, parsed: &Parsed, decision: Decision) {
    let counter = match decision {
        Decision::DONE => Counter::HandshakeDone,
        Decision::IGNORE if flow.client().stage >= Stage::GREETING => Counter::Unseen,
        Decision::IGNORE => Counter::NotTls,
        _ => return report(tables, flow, parsed, decision),
    };
    if forget(tables, flow, parsed) {
        tables.count(counter);
    }
}

/// Removes a flow; `true`: it is this packet's to report.
///
/// The kernel may refuse, where it could not get the lock of the table (it gives up rather than risk a
/// deadlock). Then the flow stays, marked as told, and the next packet tries again.
#[inline(always)]
fn forget<T: Tables>(tables: &T, flow: &mut Flow, parsed: &Parsed) -> bool {
    for role in crate::Role::BOTH {
        if flow.sides[role as usize].is(Side::KEPT) {
            tables.remove_window(&WindowKey::new(parsed.key, role));
        }
    }
    match tables.remove(&parsed.key) {
        Removal::Ours => true,
        Removal::Gone => false,
        Removal::Refused => {
            flow.sides[usize::from(parsed.segment.role & 1)].flags |= Side::TOLD;
            true
        }
    }
}

/// Reports a failed handshake, or one that may have failed.
#[inline(always)]
fn report<T: Tables>(tables: &T, flow: &mut Flow, parsed: &Parsed, decision: Decision) {
    let version = flow.server().version;
    let flags = flow.client().flags | flow.server().flags;
    let undecided = decision == Decision::UNDECIDED;
    let failure = if undecided {
        rules::UNDECIDED
    } else {
        decision.failure()
    };
    let taken = Taken {
        failure,
        undecided,
        version,
        time: parsed.segment.time,
    };
    // Asked once, and let go of on every path by itself: 5.10's verifier does not know that an event's
    // memory that was there is still there.
    let Some(mut offer) = tables.room() else {
        if forget(tables, flow, parsed) {
            tables.count(Counter::RingFull);
            taken.count(tables);
        }
        return;
    };
    // The flow is copied before it is removed: after that another connection may take its memory.
    tables.fill(&mut offer, flow, parsed, failure, undecided);
    if !forget(tables, flow, parsed) {
        return tables.withdraw(offer);
    }
    let told = tables.tell(offer);
    taken.count(tables);
    if !told {
        return tables.count(Counter::RingFull);
    }
    if flags & Side::TRUNCATED != 0 {
        tables.count(Counter::CaptureTruncated);
    }
    if flags & Side::MALFORMED != 0 {
        tables.count(Counter::Malformed);
    }
}

/// What is counted of a report, read before its flow's memory may be another's.
struct Taken {
    failure: Failure,
    undecided: bool,
    version: u16,
    time: u64,
}

impl Taken {
    #[inline(always)]
    fn count<T: Tables>(&self, tables: &T) {
        if self.undecided {
            return tables.count(Counter::Undecided);
        }
        tables.count(Counter::HandshakeFailed);
        tables.count_class(&self.failure, self.version, self.time);
    }
}

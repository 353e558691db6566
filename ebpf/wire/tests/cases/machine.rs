//! A packet's whole way, from its TCP segment to its event, with tables that may refuse whatever the kernel's may.
//! One connection; what of its bytes means what is for the other tests.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use gauntlet_wire::Role::{self, Client, Server};
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::Event;
use gauntlet_wire::flow::{CAPTURE_LABEL, CAPTURE_SPACE, Flow};
use gauntlet_wire::machine::{self, MORE, Opened, Removal, Tables, Todo};
use gauntlet_wire::packet::{Endpoint, FlowKey, Parsed};
use gauntlet_wire::rules::{Failure, Outcome};
use gauntlet_wire::segment::{Payload, Segment};
use gauntlet_wire::side::{GATHER, Side};
use gauntlet_wire::window::{Window, WindowKey};
use zerocopy::FromZeros;

use crate::bytes::{
    alert, certificate, change_cipher_spec, client_hello, client_key_exchange, finished_12,
    handshake, record, server_hello_12, server_hello_done,
};

/// Fields that are walked over at once.
const STEPS: u32 = 16;
/// The server has the lower port, and so comes first.
const KEY: FlowKey = FlowKey {
    addresses: [[1; 16], [2; 16]],
    ports: [443, 50_000],
};
/// Sequence numbers of both SYNs.
const FIRST: [u32; 2] = [1_000, u32::MAX - 3];

/// Tables for one connection.
struct One {
    /// The client has the lower port, and so comes first in the key.
    client_first: Cell<bool>,
    flow: RefCell<Flow>,
    is_open: Cell<bool>,
    windows: [RefCell<Box<Window>>; 2],
    is_kept: [Cell<bool>; 2],
    counters: RefCell<BTreeMap<Counter, u64>>,
    classes: RefCell<Vec<(Class, u16, u64)>>,
    events: RefCell<Vec<Event>>,
    withdrawn: Cell<u32>,
    learned: RefCell<Vec<Endpoint>>,
    now: Cell<u64>,
    /// What the next calls are answered.
    knows: Cell<bool>,
    /// By the port it sends from.
    cgroups: Cell<[(u16, u64); 2]>,
    has_room: Cell<bool>,
    has_way: Cell<bool>,
    has_flow_room: Cell<bool>,
    has_window_room: Cell<bool>,
    removal: Cell<Removal>,
}

struct Lent<'t>(RefMut<'t, Box<Window>>);

impl Deref for Lent<'_> {
    type Target = Window;

    fn deref(&self) -> &Window {
        &self.0
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Window {
        &mut self.0
    }
}

impl Payload for Lent<'_> {
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool {
        Bytes::new(&self.bytes).gather(from, into, at, count)
    }

    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool {
        Bytes::new(&self.bytes).capture(from, into, at, count)
    }

    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, label: [u8; CAPTURE_LABEL as usize]) {
        Bytes::new(&self.bytes).label(into, at, label);
    }

    fn settle(&self, place: &mut u32, number: u32) -> u32 {
        Bytes::new(&self.bytes).settle(place, number)
    }
}

impl Tables for One {
    type Flow<'t> = RefMut<'t, Flow>;
    type Window<'t> = Lent<'t>;
    type Offer = Box<Event>;

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn cgroup(&self, from: u16, to: u16) -> u64 {
        assert!([[443, 50_000], [50_000, 443]].contains(&[from, to]));
        let known = self.cgroups.get();
        known
            .iter()
            .find(|(port, _)| *port == from)
            .map_or(0, |(_, cgroup)| *cgroup)
    }

    fn flow(&self, key: &FlowKey) -> Option<RefMut<'_, Flow>> {
        assert_eq!(*key, KEY);
        self.is_open.get().then(|| self.flow.borrow_mut())
    }

    fn open(&self, key: &FlowKey, opened: &Opened) -> bool {
        assert_eq!(*key, KEY);
        if self.has_flow_room.get() {
            let mut flow = Flow::new_zeroed();
            flow.open(opened.time, 1, opened.known, opened.client_first);
            *self.flow.borrow_mut() = flow;
            self.is_open.set(true);
        }
        self.has_flow_room.get()
    }

    fn remove(&self, _key: &FlowKey) -> Removal {
        if self.removal.get() == Removal::Ours {
            self.is_open.set(false);
        }
        self.removal.get()
    }

    fn window(&self, key: &WindowKey) -> Option<Lent<'_>> {
        let role = usize::from(key.role);
        self.is_kept[role]
            .get()
            .then(|| Lent(self.windows[role].borrow_mut()))
    }

    fn open_window(&self, key: &WindowKey) -> Option<Lent<'_>> {
        let role = usize::from(key.role);
        if !self.is_kept[role].get() {
            if !self.has_window_room.get() {
                return None;
            }
            **self.windows[role].borrow_mut() = Window::new_zeroed();
            self.is_kept[role].set(true);
        }
        self.window(key)
    }

    fn remove_window(&self, key: &WindowKey) {
        self.is_kept[usize::from(key.role)].set(false);
    }

    fn knows(&self, server: &Endpoint) -> bool {
        assert_eq!(*server, KEY.endpoint(usize::from(self.client_first.get())));
        self.knows.get()
    }

    fn learn(&self, server: &Endpoint) {
        self.learned.borrow_mut().push(*server);
    }

    fn count(&self, counter: Counter) {
        *self.counters.borrow_mut().entry(counter).or_default() += 1;
    }

    fn count_class(&self, failure: &Failure, version: u16, time: u64) {
        let counted = (failure.class(), version, time);
        self.classes.borrow_mut().push(counted);
    }

    fn room(&self) -> Option<Box<Event>> {
        self.has_room.get().then(|| Box::new(Event::new_zeroed()))
    }

    fn fill(
        &self,
        offer: &mut Box<Event>,
        flow: &Flow,
        parsed: &Parsed,
        failure: Failure,
        undecided: bool,
    ) {
        offer.flow = *flow;
        offer.time = parsed.segment.time;
        offer.key = parsed.key;
        offer.verdict = failure.into();
        offer.undecided = u8::from(undecided);
    }

    fn tell(&self, offer: Box<Event>) -> bool {
        if self.has_way.get() {
            self.events.borrow_mut().push(*offer);
        }
        self.has_way.get()
    }

    fn withdraw(&self, _offer: Box<Event>) {
        self.withdrawn.set(self.withdrawn.get() + 1);
    }
}

/// A connection, and how far each side has come.
struct Talk {
    tables: One,
    next: [u32; 2],
}

impl Talk {
    /// Nothing was seen yet.
    fn silent() -> Self {
        Self {
            tables: One {
                client_first: Cell::new(false),
                flow: RefCell::new(Flow::new_zeroed()),
                is_open: Cell::new(false),
                windows: [(); 2].map(|()| RefCell::new(Box::new(Window::new_zeroed()))),
                is_kept: Default::default(),
                counters: RefCell::default(),
                classes: RefCell::default(),
                events: RefCell::default(),
                withdrawn: Cell::new(0),
                learned: RefCell::default(),
                now: Cell::new(7),
                knows: Cell::new(false),
                cgroups: Cell::default(),
                has_room: Cell::new(true),
                has_way: Cell::new(true),
                has_flow_room: Cell::new(true),
                has_window_room: Cell::new(true),
                removal: Cell::new(Removal::Ours),
            },
            next: FIRST.map(|number| number.wrapping_add(1)),
        }
    }

    /// SYN and SYN-ACK were seen.
    fn open() -> Self {
        let talk = Self::silent();
        talk.syn(Client, FIRST[0]);
        talk.syn(Server, FIRST[1]);
        talk
    }

    /// Both hellos were, of TLS 1.2.
    fn greeted() -> Self {
        Self::open().greet()
    }

    fn greet(self) -> Self {
        let mut talk = self;
        talk.say(Client, &client_hello());
        talk.say(Server, &server_hello_12());
        talk
    }

    fn syn(&self, from: Role, sequence: u32) {
        let flags = match from {
            Client => Segment::SYN,
            Server => Segment::SYN | Segment::ACK,
        };
        self.segment(from, sequence, flags, &[], 0);
    }

    /// One segment, with so many bytes fewer than its headers say.
    fn segment(&self, from: Role, sequence: u32, flags: u8, bytes: &[u8], less: usize) {
        let tables = &self.tables;
        tables.now.set(tables.now.get() + 1);
        let mut parsed = Parsed::new_zeroed();
        parsed.key = KEY;
        parsed.sender_first = u8::from((from == Server) != tables.client_first.get());
        parsed.segment.sequence = sequence;
        parsed.segment.acknowledged = self.next[from.peer() as usize];
        parsed.segment.flags = flags;
        parsed.segment.end = bytes.len() as u32;
        let frame = Bytes::new(&bytes[..bytes.len() - less]);
        let mut todo = machine::arrive::<STEPS, _>(tables, &frame, &mut parsed);
        for _ in 0..MORE {
            todo = match todo {
                Todo::Nothing => return,
                Todo::WalkOn => machine::walk_on::<STEPS, _>(tables, &frame, &mut parsed),
                Todo::Keep => machine::keep(tables, &frame, &mut parsed),
                Todo::Replay => machine::replay::<STEPS, _>(tables, &mut parsed),
            };
        }
        if todo != Todo::Nothing {
            machine::give_up(tables, &parsed);
        }
    }

    /// The next bytes of a side, in one segment.
    fn say(&mut self, from: Role, bytes: &[u8]) {
        let sequence = self.next[from as usize];
        self.next[from as usize] = sequence.wrapping_add(bytes.len() as u32);
        self.segment(from, sequence, Segment::ACK, bytes, 0);
    }

    fn end(&self, from: Role, flag: u8) {
        let sequence = self.next[from as usize];
        self.segment(from, sequence, flag | Segment::ACK, &[], 0);
    }

    fn count(&self, counter: Counter) -> u64 {
        let counters = self.tables.counters.borrow();
        counters.get(&counter).copied().unwrap_or(0)
    }

    /// What was counted, but for the connection itself.
    fn counted(&self) -> Vec<(&'static str, u64)> {
        let counters = self.tables.counters.borrow();
        counters
            .iter()
            .filter(|(counter, _)| **counter != Counter::FlowOpened)
            .map(|(counter, count)| (counter.name(), *count))
            .collect()
    }

    fn told(&self) -> usize {
        self.tables.events.borrow().len()
    }

    fn kept(&self) -> [bool; 2] {
        [0, 1].map(|role: usize| self.tables.is_kept[role].get())
    }

    fn is_open(&self) -> bool {
        self.tables.is_open.get()
    }
}

#[test]
fn a_failure_is_told_and_counted_once_and_its_flow_is_gone() {
    let mut talk = Talk::greeted();
    assert_eq!(talk.tables.learned.borrow()[..], [KEY.endpoint(0)]);
    talk.say(Client, &alert(2, 48));
    assert_eq!(talk.counted(), [("handshake_failed", 1)]);
    assert_eq!(talk.count(Counter::FlowOpened), 1);
    let now = talk.tables.now.get();
    let class = (Class::UnknownCa, 0x0303, now);
    assert_eq!(talk.tables.classes.borrow()[..], [class]);
    assert!(!talk.is_open());
    let event = talk.tables.events.borrow()[0];
    assert_eq!((event.time, event.key, event.undecided), (now, KEY, 0));
    // Whatever follows is of no connection.
    talk.say(Server, &alert(2, 40));
    talk.end(Client, Segment::FIN);
    talk.end(Server, Segment::RST);
    assert_eq!((talk.told(), talk.counted().len()), (1, 1));
}

#[test]
fn the_end_with_the_lower_port_may_be_the_client() {
    let talk = Talk::silent();
    talk.tables.client_first.set(true);
    talk.syn(Client, FIRST[0]);
    talk.syn(Server, FIRST[1]);
    let mut talk = talk.greet();
    assert_eq!(talk.tables.flow.borrow().client_first, 1);
    assert_eq!(talk.tables.learned.borrow()[..], [KEY.endpoint(1)]);
    talk.say(Client, &alert(2, 48));
    let failure = talk.tables.events.borrow()[0].verdict.failure();
    let by = failure.map(|failure| (failure.class(), failure.by));
    assert_eq!(by, Some((Class::UnknownCa, Client)));
}

#[test]
fn a_server_is_remembered_once_and_only_for_tls_of_its_own() {
    let mut talk = Talk::open();
    talk.say(Client, &client_hello());
    assert!(talk.tables.learned.borrow().is_empty());
    talk.say(Server, &server_hello_12());
    talk.say(Server, &certificate(900));
    assert_eq!(talk.tables.learned.borrow().len(), 1);
    assert_eq!(talk.tables.flow.borrow().known, 1);

    // Known already: nothing to remember.
    let talk = Talk::silent();
    talk.tables.knows.set(true);
    talk.syn(Client, FIRST[0]);
    talk.segment(
        Client,
        FIRST[0].wrapping_add(1),
        Segment::ACK,
        &client_hello(),
        0,
    );
    talk.syn(Server, FIRST[1]);
    talk.segment(
        Server,
        FIRST[1].wrapping_add(1),
        Segment::ACK,
        &server_hello_12(),
        0,
    );
    assert!(talk.tables.learned.borrow().is_empty());

    // What spoke something else first may be any server that has STARTTLS.
    let mut talk = Talk::open();
    talk.say(Server, b"220 mail\r\n");
    talk.say(Client, b"STARTTLS\r\n");
    talk.say(Server, b"220 go\r\n");
    talk.say(Client, &client_hello());
    talk.say(Server, &server_hello_12());
    assert!(talk.tables.flow.borrow().server().is(Side::SPOKE_TLS));
    assert!(talk.tables.learned.borrow().is_empty());
}

#[test]
fn how_a_connection_ends_is_counted_by_what_it_was() {
    let mut done = Talk::greeted();
    done.say(Server, &[certificate(900), server_hello_done()].concat());
    let finish = [change_cipher_spec(), finished_12()].concat();
    done.say(Client, &[client_key_exchange(), finish.clone()].concat());
    assert!(done.is_open());
    done.say(Server, &finish);
    assert_eq!(done.counted(), [("handshake_done", 1)]);
    assert!(!done.is_open());

    let mut foreign = Talk::open();
    foreign.say(Client, b"GET / HTTP/1.1\r\n\r\n");
    foreign.say(Server, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(foreign.counted(), [("not_tls", 1)]);

    // A hole, and then the end: nobody can know.
    let mut unseen = Talk::greeted();
    unseen.next[1] = unseen.next[1].wrapping_add(20_000);
    unseen.end(Client, Segment::FIN);
    unseen.end(Server, Segment::RST);
    assert_eq!(unseen.count(Counter::Unseen), 1);
}

#[test]
fn whoever_finds_the_flow_gone_says_nothing() {
    for (has_room, withdrawn) in [(true, 1), (false, 0)] {
        let mut talk = Talk::greeted();
        talk.tables.removal.set(Removal::Gone);
        talk.tables.has_room.set(has_room);
        talk.say(Client, &alert(2, 48));
        assert_eq!((talk.told(), talk.counted()), (0, vec![]));
        assert_eq!(talk.tables.withdrawn.get(), withdrawn);
    }
    let mut talk = Talk::open();
    talk.tables.removal.set(Removal::Gone);
    talk.say(Client, b"GET / HTTP/1.1\r\n\r\n");
    talk.say(Server, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(talk.counted(), []);
}

#[test]
fn a_flow_that_cannot_be_removed_is_told_once_and_tried_again() {
    let mut talk = Talk::greeted();
    talk.tables.removal.set(Removal::Refused);
    talk.say(Client, &alert(2, 48));
    assert_eq!(talk.told(), 1);
    assert!(talk.is_open() && talk.tables.flow.borrow().told());
    assert!(talk.tables.flow.borrow().client().is(Side::TOLD));
    assert!(!talk.tables.flow.borrow().server().is(Side::TOLD));
    talk.say(Server, &alert(2, 40));
    assert_eq!((talk.told(), talk.is_open()), (1, true));
    talk.tables.removal.set(Removal::Ours);
    talk.end(Server, Segment::FIN);
    assert_eq!((talk.told(), talk.is_open()), (1, false));
    assert_eq!(talk.counted(), [("handshake_failed", 1)]);

    // Its ports are used again: nothing is lost by that.
    let mut talk = Talk::greeted();
    talk.tables.removal.set(Removal::Refused);
    talk.say(Server, &alert(2, 40));
    assert!(talk.tables.flow.borrow().server().is(Side::TOLD));
    talk.syn(Client, 77);
    assert_eq!(talk.count(Counter::FlowReplaced), 0);
    assert_eq!(talk.count(Counter::FlowOpened), 2);
}

#[test]
fn a_failure_that_finds_no_room_is_counted() {
    let mut talk = Talk::greeted();
    talk.tables.has_room.set(false);
    talk.say(Client, &alert(2, 48));
    assert_eq!(talk.told(), 0);
    assert_eq!(talk.counted(), [("handshake_failed", 1), ("ring_full", 1)]);
    assert!(!talk.is_open());

    // Where only telling shows it.
    let mut talk = Talk::greeted();
    talk.tables.has_way.set(false);
    talk.say(Client, &alert(2, 48));
    assert_eq!(talk.told(), 0);
    assert_eq!(talk.counted(), [("handshake_failed", 1), ("ring_full", 1)]);
    assert!(!talk.is_open());
}

#[test]
fn what_is_missing_of_an_event_is_counted_with_it() {
    let suites: Vec<u8> = (0..2_000_u16).flat_map(u16::to_be_bytes).collect();
    let mut hello = [&[3, 3][..], &[7; 32], &[0]].concat();
    hello.extend((suites.len() as u16).to_be_bytes());
    hello.extend(&suites);
    hello.extend([1, 0]);
    let mut truncated = Talk::open();
    let long = hello.clone();
    truncated.say(Client, &handshake(1, &hello));
    truncated.say(Server, &alert(2, 40));
    let counted = [("handshake_failed", 1), ("capture_truncated", 1)];
    assert_eq!(truncated.counted(), counted);

    // Trailing bytes, of the server too.
    hello.truncate(35);
    hello.extend([0, 2, 0x13, 1, 1, 0, 0, 0, 9]);
    let mut malformed = Talk::open();
    malformed.say(Client, &handshake(1, &hello));
    malformed.say(Server, &alert(2, 50));
    let counted = [("handshake_failed", 1), ("malformed_message", 1)];
    assert_eq!(malformed.counted(), counted);

    // Of both sides.
    let names = [&[0, 16, 0, 202, 0, 200, 199][..], &[b'a'; 199]].concat();
    let mut answer = [&[3, 3][..], &[7; 32], &[0, 0x13, 1, 0]].concat();
    answer.extend((names.len() as u16).to_be_bytes());
    answer.extend(names);
    let mut both = Talk::open();
    both.say(Client, &handshake(1, &long));
    both.say(Server, &handshake(2, &answer));
    both.say(Server, &alert(2, 40));
    let counted = [("handshake_failed", 1), ("capture_truncated", 1)];
    assert_eq!(both.counted(), counted);
}

#[test]
fn bare_acknowledgements_and_strangers_change_nothing() {
    let mut talk = Talk::open();
    let before = *talk.tables.flow.borrow();
    // Even one of bytes that were not seen here.
    talk.next[1] = talk.next[1].wrapping_add(50);
    talk.segment(Client, talk.next[0], Segment::ACK, &[], 0);
    assert_eq!(*talk.tables.flow.borrow(), before);
    // A connection that was open before anybody looked.
    let talk = Talk::silent();
    talk.segment(Client, 9, Segment::ACK, &client_hello(), 0);
    talk.segment(Client, 9, Segment::FIN, &[], 0);
    assert_eq!(talk.counted(), []);
    assert_eq!(talk.count(Counter::FlowOpened), 0);
}

#[test]
fn a_connection_is_opened_by_either_syn_and_once() {
    let talk = Talk::open();
    talk.syn(Client, FIRST[0]);
    talk.syn(Server, FIRST[1]);
    assert_eq!(talk.count(Counter::FlowOpened), 1);
    assert_eq!(talk.tables.flow.borrow().client_first, 0);

    // The SYN was not seen: who answers is the server all the same.
    let mut late = Talk::silent();
    late.syn(Server, FIRST[1]);
    assert_eq!(late.count(Counter::FlowOpened), 1);
    assert!(late.tables.flow.borrow().server().is(Side::SYNCED));
    assert_eq!(late.tables.flow.borrow().client_first, 0);
    late.say(Client, &client_hello());
    late.say(Server, &alert(2, 40));
    let failed: Vec<Class> = late
        .tables
        .classes
        .borrow()
        .iter()
        .map(|class| class.0)
        .collect();
    assert_eq!(failed, [Class::NoSharedCipher]);

    // The SYN comes after its answer.
    let crossed = Talk::silent();
    crossed.syn(Server, FIRST[1]);
    crossed.syn(Client, FIRST[0]);
    assert_eq!(crossed.count(Counter::FlowOpened), 1);

    // The same ports again: before a ClientHello nothing is lost.
    let again = Talk::open();
    again.syn(Client, 77);
    assert_eq!(again.count(Counter::FlowReplaced), 0);
    assert_eq!(again.count(Counter::FlowOpened), 2);
    let mut again = Talk::open();
    again.say(Client, &client_hello());
    again.syn(Client, 77);
    assert_eq!(again.count(Counter::FlowReplaced), 1);
    assert_eq!(again.count(Counter::FlowOpened), 2);
}

#[test]
fn whose_an_end_is_is_learned_from_the_first_that_it_sends_where_that_is_known() {
    // The SYN is met with its socket, the SYN-ACK without: the server's next packet is.
    let mut talk = Talk::silent();
    talk.tables.cgroups.set([(50_000, 7), (0, 0)]);
    talk.syn(Client, FIRST[0]);
    talk.syn(Server, FIRST[1]);
    assert_eq!(talk.tables.flow.borrow().cgroups, [7, 0]);
    talk.tables.cgroups.set([(50_000, 8), (443, 9)]);
    talk.say(Client, &client_hello());
    talk.say(Server, &server_hello_12());
    assert_eq!(talk.tables.flow.borrow().cgroups, [7, 9]);
    talk.tables.cgroups.set([(0, 0); 2]);
    talk.say(Client, &alert(2, 48));
    assert_eq!(talk.tables.events.borrow()[0].flow.cgroups, [7, 9]);
}

#[test]
fn a_full_table_is_counted_once_for_each_connection() {
    let talk = Talk::silent();
    talk.tables.has_flow_room.set(false);
    talk.syn(Client, FIRST[0]);
    assert_eq!(talk.counted(), []);
    talk.syn(Server, FIRST[1]);
    assert_eq!(talk.counted(), [("flow_table_full", 1)]);
    assert_eq!(talk.count(Counter::FlowOpened), 0);
}

/// A hello in two segments, the second first.
fn early(talk: &mut Talk) -> (u32, Vec<u8>) {
    let (hello, sequence) = (client_hello(), talk.next[0]);
    let (first, second) = hello.split_at(40);
    talk.next[0] = sequence.wrapping_add(hello.len() as u32);
    talk.segment(Client, sequence.wrapping_add(40), Segment::ACK, second, 0);
    (sequence, first.to_vec())
}

#[test]
fn a_segment_that_comes_early_is_walked_over_in_its_turn() {
    let mut talk = Talk::open();
    let (sequence, first) = early(&mut talk);
    assert_eq!(talk.counted(), [("gap_segment", 1)]);
    assert_eq!(talk.kept(), [true, false]);
    assert!(talk.tables.flow.borrow().client().is(Side::KEPT));
    talk.segment(Client, sequence, Segment::ACK, &first, 0);
    // All of it is used up.
    assert_eq!(talk.kept(), [false, false]);
    assert!(!talk.tables.flow.borrow().client().is(Side::KEPT));
    assert!(!talk.tables.flow.borrow().client().lost());
    talk.say(Server, &alert(2, 40));
    let event = talk.tables.events.borrow()[0];
    assert_eq!(event.verdict.class, Class::NoSharedCipher as u8);
    assert_eq!(event.flow.client().next, talk.next[0]);
    assert_eq!(
        talk.counted(),
        [("handshake_failed", 1), ("gap_segment", 1)]
    );
}

#[test]
fn an_early_segment_that_is_kept_or_seen_already_is_a_duplicate() {
    let mut talk = Talk::open();
    let (sequence, first) = early(&mut talk);
    let rest = client_hello()[40..].to_vec();
    talk.segment(Client, sequence.wrapping_add(40), Segment::ACK, &rest, 0);
    assert_eq!(
        talk.counted(),
        [("duplicate_segment", 1), ("gap_segment", 2)]
    );
    talk.segment(Client, sequence, Segment::ACK, &first, 0);
    talk.segment(Client, sequence, Segment::ACK, &first, 0);
    assert_eq!(talk.count(Counter::Duplicate), 2);
    assert_eq!(talk.count(Counter::Gap), 2);
}

#[test]
fn an_early_segment_without_room_is_counted_and_may_come_again() {
    let mut talk = Talk::open();
    talk.tables.has_window_room.set(false);
    let (sequence, first) = early(&mut talk);
    assert_eq!(talk.count(Counter::EarlyDropped), 1);
    assert_eq!(talk.kept(), [false, false]);
    assert!(!talk.tables.flow.borrow().client().is(Side::KEPT));
    talk.segment(Client, sequence, Segment::ACK, &client_hello(), 0);
    talk.say(Server, &alert(2, 40));
    assert_eq!((first.len(), talk.told()), (40, 1));
    // Too far ahead.
    let talk = Talk::open();
    let far = talk.next[0].wrapping_add(20_000);
    talk.segment(Client, far, Segment::ACK, &client_hello(), 0);
    assert_eq!(talk.count(Counter::EarlyDropped), 1);
    // Bytes that are not there.
    let talk = Talk::open();
    let ahead = talk.next[0].wrapping_add(40);
    talk.segment(Client, ahead, Segment::ACK, &client_hello(), 9);
    assert_eq!(talk.count(Counter::Unreadable), 1);
    assert_eq!(talk.count(Counter::EarlyDropped), 0);
}

#[test]
fn what_was_kept_goes_with_its_flow() {
    for removal in [Removal::Ours, Removal::Gone] {
        let mut talk = Talk::greeted();
        let far = talk.next.map(|next| next.wrapping_add(500));
        for from in Role::BOTH {
            talk.segment(from, far[from as usize], Segment::ACK, &alert(2, 40), 0);
        }
        assert_eq!(talk.kept(), [true, true]);
        talk.tables.removal.set(removal);
        talk.say(Client, &alert(2, 48));
        assert_eq!(talk.kept(), [false, false]);
    }
    // Of a side that kept nothing, the window is somebody else's.
    let mut talk = Talk::greeted();
    talk.tables.is_kept[1].set(true);
    talk.say(Client, &alert(2, 48));
    assert_eq!(talk.kept(), [false, true]);
}

#[test]
fn what_an_earlier_connection_kept_is_not_walked_over() {
    let mut talk = Talk::open();
    let (sequence, first) = early(&mut talk);
    talk.tables.windows[0].borrow_mut().opened += 1;
    talk.segment(Client, sequence, Segment::ACK, &first, 0);
    assert_eq!(talk.kept(), [false, false]);
    assert!(!talk.tables.flow.borrow().client().is(Side::KEPT));
    let next = talk.tables.flow.borrow().client().next;
    assert_eq!(next, sequence.wrapping_add(40), "no further than what came");
}

#[test]
fn a_hole_that_is_still_there_keeps_what_is_behind_it() {
    let mut talk = Talk::open();
    let (sequence, first) = early(&mut talk);
    talk.segment(Client, sequence, Segment::ACK, &first[..30], 0);
    assert_eq!(talk.kept(), [true, false]);
    assert!(talk.tables.flow.borrow().client().is(Side::KEPT));
    talk.segment(
        Client,
        sequence.wrapping_add(30),
        Segment::ACK,
        &first[30..],
        0,
    );
    assert_eq!(talk.kept(), [false, false]);
    assert_eq!(talk.tables.flow.borrow().client().next, talk.next[0]);
}

#[test]
fn a_packet_with_many_fields_is_gone_on_with_up_to_a_limit() {
    // A record of one byte is two steps: its header, and it.
    let hello = client_hello();
    let records = |count: usize| -> Vec<u8> {
        let (cut, rest) = hello[5..].split_at(count.min(hello.len() - 5));
        let mut bytes: Vec<u8> = cut.iter().flat_map(|byte| record(22, &[*byte])).collect();
        if !rest.is_empty() {
            bytes.extend(record(22, rest));
        }
        bytes
    };
    let mut talk = Talk::open();
    talk.say(Client, &records(100));
    talk.say(Server, &alert(2, 40));
    assert_eq!(talk.counted(), [("handshake_failed", 1)]);

    let alerts: Vec<u8> = (0..400).flat_map(|_| record(22, &[])).collect();
    let mut talk = Talk::open();
    talk.say(Client, &[client_hello(), alerts].concat());
    if talk.count(Counter::StepsExhausted) == 0 {
        let many: Vec<u8> = (0..2_000).flat_map(|_| record(20, &[1])).collect();
        talk.say(Client, &many);
    }
    assert_eq!(talk.count(Counter::StepsExhausted), 1);
    assert!(talk.tables.flow.borrow().client().lost());
    // And the same of what was kept.
    let mut talk = Talk::open();
    talk.say(Client, &client_hello());
    let sequence = talk.next[0];
    let many: Vec<u8> = (0..600).flat_map(|_| record(20, &[1])).collect();
    let (first, second) = many.split_at(6);
    talk.segment(Client, sequence.wrapping_add(6), Segment::ACK, second, 0);
    talk.segment(Client, sequence, Segment::ACK, first, 0);
    assert_eq!(talk.count(Counter::StepsExhausted), 1);
}

#[test]
fn after_a_packet_that_lacks_bytes_an_end_proves_nothing() {
    let talk = Talk::open();
    let sequence = talk.next[0];
    talk.segment(Client, sequence, Segment::ACK, &client_hello(), 20);
    assert_eq!(talk.counted(), [("unreadable_packet", 1)]);
    assert!(talk.tables.flow.borrow().client().lost());
    talk.end(Server, Segment::FIN);
    assert_eq!((talk.told(), talk.is_open()), (0, true));
    assert_eq!(talk.tables.flow.borrow().silent(), Outcome::Ignore);
}

#[test]
fn a_flow_or_window_that_vanishes_between_two_steps_ends_the_packet() {
    let talk = Talk::open();
    let mut parsed = Parsed::new_zeroed();
    parsed.key = KEY;
    let frame = Bytes::new(&[]);
    let replayed = machine::replay::<STEPS, _>(&talk.tables, &mut parsed);
    assert_eq!(replayed, Todo::Nothing, "nothing was kept");
    talk.tables.is_open.set(false);
    let all = [
        machine::walk_on::<STEPS, _>(&talk.tables, &frame, &mut parsed),
        machine::keep(&talk.tables, &frame, &mut parsed),
        machine::replay::<STEPS, _>(&talk.tables, &mut parsed),
    ];
    assert_eq!(all, [Todo::Nothing; 3]);
    assert_eq!(talk.counted(), []);
    machine::give_up(&talk.tables, &parsed);
    assert_eq!(talk.counted(), [("steps_exhausted", 1)]);
}

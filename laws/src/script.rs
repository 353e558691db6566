//! Bytes as a conversation: who says what, in which segments, and when. Every input is one, so a mutation of an
//! input is another conversation; lengths are taken from where limits are ([`EDGES`]).
//!
//! An input is two bytes (how it begins) and steps: an operation, whose lowest bit is who, and its operands.
//! Operands that are missing count as zero.

use crate::frames::{FIN, Frames, RST};

/// Lengths at which something changes: records (RFC 8446 section 5.1, RFC 5246 section 6.2.3), what is kept of
/// hellos and certificates, fields a packet, segments a page. Each is taken as it is, less one, or plus one.
pub const EDGES: [u16; 21] = [
    0,
    1,
    2,
    4,
    5,
    16,
    32,
    64,
    127,
    128,
    255,
    256,
    512,
    528,
    640,
    1_448,
    3_072,
    1 << 14,
    (1 << 14) + 256,
    (1 << 14) + 2_048,
    u16::MAX - 1,
];
/// Pauses around which something changes, milliseconds: a stall, and an idle connection.
const PAUSES: [u64; 8] = [1, 99, 101, 599, 600, 601, 119_999, 120_001];
/// Silence that counts as a stall.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_millis(600);
/// Bytes before the first step.
const BEGINNING: usize = 2;
/// Most bytes that one conversation says.
const MOST: usize = 100_000;
/// The longest segment: with an overlap and headers it is less than every kernel takes in a test run.
const LONGEST: usize = 2_700;

/// Operations; the lowest bit of the byte is who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Says bytes: a length of two bytes, and they.
    Say,
    /// Says a record: type, length (an edge), how much less of it is there.
    Record,
    /// Says an alert: level, description.
    Alert,
    /// Ends its direction.
    Fin,
    /// Resets.
    Reset,
    /// Nobody says anything: which pause.
    Pause,
    /// A segment of the past comes again: which.
    Again,
    /// The next segment begins with bytes of the one before it: how many.
    Overlap,
    /// The next segment comes after the one that follows it.
    Late,
    /// The next segment does not come.
    Lose,
    /// Says a ClientHello: suites, name and ALPN (edges), flags.
    Hello,
    /// Says a handshake message: type, length (an edge), how much less of it is there.
    Message,
    /// How long segments are from here on: an edge.
    Cut,
    /// The connection is opened again, with other numbers.
    Open,
    /// Says a ServerHello: version, suite.
    Answer,
    /// Stalls are looked for.
    Look,
}

impl Op {
    const ALL: [Self; 16] = [
        Self::Say,
        Self::Record,
        Self::Alert,
        Self::Fin,
        Self::Reset,
        Self::Pause,
        Self::Again,
        Self::Overlap,
        Self::Late,
        Self::Lose,
        Self::Hello,
        Self::Message,
        Self::Cut,
        Self::Open,
        Self::Answer,
        Self::Look,
    ];

    /// What a byte stands for, and who.
    fn of(byte: u8) -> (Self, u8) {
        (
            Self::ALL[usize::from(byte >> 1) % Self::ALL.len()],
            byte & 1,
        )
    }

    /// How many bytes of operands it has; [`Op::Say`] has others behind them.
    const fn operands(self) -> usize {
        match self {
            Self::Fin | Self::Reset | Self::Late | Self::Lose | Self::Look => 0,
            Self::Pause | Self::Again | Self::Overlap | Self::Cut | Self::Open => 1,
            Self::Say | Self::Alert | Self::Answer => 2,
            Self::Record | Self::Message => 3,
            Self::Hello => 4,
        }
    }

    /// The byte that stands for it.
    #[must_use]
    pub const fn byte(self, who: u8) -> u8 {
        (self as u8) << 1 | who & 1
    }
}

/// What comes next: a frame, or a look for stalls, and how long after what came before, nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// An Ethernet frame.
    Frame(u64, Vec<u8>),
    /// A look for stalls.
    Look(u64),
}

struct Operands<'a>(&'a [u8]);

impl<'a> Operands<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn edge(&mut self) -> usize {
        let byte = self.byte();
        let edge = EDGES[usize::from(byte) / 3 % EDGES.len()];
        (usize::from(edge) + usize::from(byte % 3)).saturating_sub(1)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// How an input begins, and its steps: each an operation with as many of its operands as there are.
#[must_use]
pub fn steps(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let (begin, mut rest) = input.split_at(input.len().min(BEGINNING));
    let mut steps = Vec::new();
    while let Some(byte) = rest.first() {
        let (op, _) = Op::of(*byte);
        let mut length = 1 + op.operands();
        if op == Op::Say
            && let Some(said) = rest[1..].first_chunk()
        {
            length += usize::from(u16::from_be_bytes(*said));
        }
        let (step, after) = rest.split_at(length.min(rest.len()));
        steps.push(step);
        rest = after;
    }
    (begin, steps)
}

/// The frames of an input. `orderly`: every segment once, whole, in order. `number`: addresses.
#[must_use]
pub fn play(input: &[u8], orderly: bool, number: u32) -> Vec<Next> {
    let (begin, steps) = steps(input);
    let mut begin = Operands(begin);
    let (begin, family) = (begin.byte(), begin.byte());
    let mut stage = Stage {
        frames: Frames::new(begin, family & 1 == 1, number),
        out: Vec::new(),
        sent: Vec::new(),
        late: None,
        is_late: false,
        is_lost: false,
        overlap: [0; 2],
        cut: 1_448,
        said: 0,
        after: 1_000,
        over: [false; 2],
    };
    stage.open(begin);
    for step in steps {
        let mut step = Operands(step);
        let (op, who) = Op::of(step.byte());
        stage.step(op, who, &mut step, orderly);
    }
    if let Some(late) = stage.late.take() {
        stage.out.push(late);
    }
    stage.out
}

struct Stage {
    frames: Frames,
    out: Vec<Next>,
    sent: Vec<Vec<u8>>,
    late: Option<Next>,
    is_late: bool,
    is_lost: bool,
    overlap: [usize; 2],
    cut: usize,
    said: usize,
    after: u64,
    over: [bool; 2],
}

impl Stage {
    fn open(&mut self, begin: u8) {
        self.frames.begin(begin);
        for who in [0, 1] {
            let syn = self.frames.syn(who);
            self.send(syn);
        }
        self.over = [false; 2];
    }

    fn send(&mut self, frame: Vec<u8>) {
        let next = Next::Frame(std::mem::replace(&mut self.after, 1_000), frame.clone());
        self.sent.push(frame);
        if std::mem::take(&mut self.is_lost) {
            return;
        }
        if std::mem::take(&mut self.is_late) && self.late.is_none() {
            self.late = Some(next);
            return;
        }
        self.out.push(next);
        self.out.extend(self.late.take());
    }

    fn say(&mut self, who: u8, bytes: &[u8], flags: u8) {
        let at = usize::from(who);
        // Nobody speaks after the end of its direction.
        if self.over[at] || self.said + bytes.len() > MOST {
            return;
        }
        self.said += bytes.len();
        self.over[at] = flags & (FIN | RST) != 0;
        if flags & RST != 0 {
            self.over = [true; 2];
        }
        let cut = self.cut.clamp(1, LONGEST);
        let most = bytes.len().div_ceil(cut).max(1);
        for (number, piece) in (1..).zip(bytes.chunks(cut).chain(bytes.is_empty().then_some(bytes)))
        {
            let flags = if number == most { flags } else { 0 };
            let overlap = std::mem::take(&mut self.overlap[at]);
            let frame = self.frames.segment(who, piece, flags, overlap);
            self.send(frame);
        }
    }

    fn step(&mut self, op: Op, who: u8, input: &mut Operands<'_>, orderly: bool) {
        match op {
            Op::Say => self.say(who, input.bytes(), 0),
            Op::Record => {
                let kind = 20 + input.byte() % 5;
                let bytes = record(kind, input.edge(), usize::from(input.byte()));
                self.say(who, &bytes, 0);
            }
            Op::Alert => {
                let bytes = [21, 3, 3, 0, 2, input.byte(), input.byte()];
                self.say(who, &bytes, 0);
            }
            Op::Fin => self.say(who, &[], FIN),
            Op::Reset => self.say(who, &[], RST),
            Op::Pause => {
                self.after += PAUSES[usize::from(input.byte()) % PAUSES.len()] * 1_000_000;
            }
            Op::Again => {
                let which = usize::from(input.byte());
                if !orderly && let Some(frame) = self.sent.get(which % self.sent.len().max(1)) {
                    let frame = frame.clone();
                    self.send(frame);
                }
            }
            Op::Overlap => {
                let bytes = usize::from(input.byte());
                if !orderly {
                    self.overlap[usize::from(who)] = bytes;
                }
            }
            Op::Late => self.is_late = !orderly,
            Op::Lose => self.is_lost = !orderly,
            Op::Hello => {
                let hello = client_hello(input.edge(), input.edge(), input.edge(), input.byte());
                self.say(who, &hello, 0);
            }
            Op::Message => {
                let kind = [1, 2, 4, 8, 11, 12, 13, 14, 15, 16, 20, 22, 24, 0, 3, 255]
                    [usize::from(input.byte() % 16)];
                let (length, less) = (input.edge(), usize::from(input.byte()));
                self.say(who, &message(kind, length, less), 0);
            }
            Op::Cut => self.cut = input.edge(),
            Op::Open => {
                let begin = input.byte();
                if !orderly {
                    self.open(begin);
                }
            }
            Op::Answer => {
                let (version, suite) = (input.byte(), input.byte());
                self.say(who, &server_hello(version, suite), 0);
            }
            Op::Look => self
                .out
                .push(Next::Look(std::mem::replace(&mut self.after, 1_000))),
        }
    }
}

fn record(kind: u8, length: usize, less: usize) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3];
    bytes.extend((length as u16).to_be_bytes());
    bytes.resize(5 + length.saturating_sub(less), 0x5a);
    bytes
}

/// A handshake message in as many records as it takes.
fn message(kind: u8, length: usize, less: usize) -> Vec<u8> {
    let mut body = vec![kind, 0];
    body.extend((length as u16).to_be_bytes());
    body.resize(4 + length.saturating_sub(less), 0x5a);
    handshakes(&body, 1 << 14)
}

/// Handshake records of at most so many bytes.
fn handshakes(body: &[u8], most: usize) -> Vec<u8> {
    body.chunks(most)
        .map(handshake)
        .collect::<Vec<_>>()
        .concat()
}

fn handshake(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![22, 3, 3];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A ClientHello with so many suites, a name and a protocol so long. Flags: 1 offers TLS 1.3, 2 has an
/// extension nobody knows first, 4 sends it in records of 100 bytes.
fn client_hello(suites: usize, name: usize, protocol: usize, flags: u8) -> Vec<u8> {
    let (suites, name) = (suites.min(16_000), name.min(16_000));
    let protocol = protocol.min(255);
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((body.len() as u16).to_be_bytes());
        extensions.extend(body);
    };
    if flags & 2 != 0 {
        extension(0x0a0a, &[0; 3]);
    }
    let mut body = ((name + 3) as u16).to_be_bytes().to_vec();
    body.push(0);
    body.extend((name as u16).to_be_bytes());
    body.resize(5 + name, b'n');
    extension(0, &body);
    if protocol > 0 {
        let mut body = ((protocol + 1) as u16).to_be_bytes().to_vec();
        body.push(protocol as u8);
        body.resize(3 + protocol, b'p');
        extension(16, &body);
    }
    if flags & 1 != 0 {
        extension(43, &[4, 3, 4, 3, 3]);
    }
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend(((suites * 2) as u16).to_be_bytes());
    hello.extend((0..suites).flat_map(|suite| (0xc000 + suite as u16).to_be_bytes()));
    hello.extend([1, 0]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut body = (0x0100_0000 + hello.len() as u32).to_be_bytes().to_vec();
    body.extend(hello);
    let most = if flags & 4 != 0 { 100 } else { 1 << 14 };
    handshakes(&body, most)
}

fn server_hello(version: u8, suite: u8) -> Vec<u8> {
    let modern = version % 2 == 1;
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    hello.extend([0, if modern { 0x13 } else { 0xc0 }, suite, 0]);
    if modern {
        hello.extend([0, 6, 0, 43, 0, 2, 3, 4]);
    }
    let mut body = (0x0200_0000 + hello.len() as u32).to_be_bytes().to_vec();
    body.extend(hello);
    handshake(&body)
}

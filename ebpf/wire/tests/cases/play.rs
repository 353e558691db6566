//! Conversations, and how they are played through a flow on the host.

use core::fmt::{self, Write};
use gauntlet_wire::Role;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::class::Confidence;
use gauntlet_wire::event::{ABI, Event};
use gauntlet_wire::flow::{Flow, Place};
use gauntlet_wire::rules::{Failure, Outcome};
use gauntlet_wire::segment::Segment;
use gauntlet_wire::walk::Walked;
use zerocopy::FromZeros;

/// What one side says in one go.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) from: Role,
    pub(crate) bytes: Vec<u8>,
    pub(crate) flags: u8,
    /// Sent before the peer's last turn had come.
    pub(crate) crossing: bool,
}

/// Turns, from the SYN on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    /// The server's port is known to speak TLS.
    pub(crate) known: bool,
    pub(crate) turns: Vec<Turn>,
}

/// A TCP segment with payload.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from: Role,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) bytes: Vec<u8>,
}

impl Conversation {
    /// The same, with a port that is known to speak TLS.
    pub(crate) fn known(mut self) -> Self {
        self.known = true;
        self
    }

    fn turn<const N: usize>(mut self, from: Role, said: [Vec<u8>; N], flags: u8) -> Self {
        self.turns.push(Turn {
            from,
            bytes: said.concat(),
            flags,
            crossing: false,
        });
        self
    }

    /// The client sends this in one segment.
    pub(crate) fn client<const N: usize>(self, said: [Vec<u8>; N]) -> Self {
        self.turn(Role::Client, said, 0)
    }

    /// The server sends this in one segment.
    pub(crate) fn server<const N: usize>(self, said: [Vec<u8>; N]) -> Self {
        self.turn(Role::Server, said, 0)
    }

    /// What was said last had been sent before the peer's turn had come.
    pub(crate) fn crossing(mut self) -> Self {
        self.turns.last_mut().expect("a turn").crossing = true;
        self
    }

    pub(crate) fn fin(self, from: Role) -> Self {
        self.turn(from, [], Segment::FIN | Segment::ACK)
    }

    pub(crate) fn reset(self, from: Role) -> Self {
        self.turn(from, [], Segment::RST)
    }

    /// One segment a turn. `first`: the sequence numbers of both SYNs.
    pub(crate) fn pieces(&self, first: [u32; 2]) -> Vec<Piece> {
        let mut next = first.map(|number| number.wrapping_add(1));
        let mut before = next;
        (self.turns.iter())
            .map(|turn| {
                let (me, peer) = (turn.from as usize, turn.from.peer() as usize);
                let piece = Piece {
                    from: turn.from,
                    sequence: next[me],
                    acknowledged: if turn.crossing {
                        before[peer]
                    } else {
                        next[peer]
                    },
                    flags: turn.flags,
                    bytes: turn.bytes.clone(),
                };
                before[me] = next[me];
                let fin = u32::from(turn.flags & Segment::FIN);
                next[me] = next[me].wrapping_add(turn.bytes.len() as u32 + fin);
                piece
            })
            .collect()
    }

    /// One segment a turn, all of them seen in order.
    pub(crate) fn play(&self) -> Player {
        let first = [1_000, 2_000_000];
        let mut player = Player::new(self.known, first);
        for piece in self.pieces(first) {
            player.take(&piece);
        }
        player
    }

    /// [`Player::verdict`].
    pub(crate) fn verdict(&self) -> String {
        self.play().verdict()
    }

    /// [`Player::silence`].
    pub(crate) fn silence(&self) -> String {
        self.play().silence()
    }
}

/// A flow, and its end once it has come.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Player {
    pub(crate) flow: Flow,
    pub(crate) end: Option<Outcome>,
}

impl Player {
    /// After SYN and SYN-ACK with these sequence numbers.
    pub(crate) fn new(known: bool, first: [u32; 2]) -> Self {
        let mut flow = Flow::new_zeroed();
        flow.open(0, 1, known, true);
        for role in Role::BOTH {
            let mut segment = Segment::new_zeroed();
            segment.role = role as u8;
            segment.sequence = first[role as usize];
            flow.synchronize(&segment);
        }
        Self { flow, end: None }
    }

    /// Plays one segment, unless the flow is over. Panics where the walk takes more steps than there
    /// are bytes.
    pub(crate) fn take(&mut self, piece: &Piece) -> Option<Place> {
        if self.end.is_some() {
            return None;
        }
        let mut segment = Segment::new_zeroed();
        segment.role = piece.from as u8;
        segment.sequence = piece.sequence;
        segment.acknowledged = piece.acknowledged;
        segment.flags = piece.flags;
        segment.end = piece.bytes.len() as u32;
        let place = self.flow.place(&mut segment);
        if place == Place::Next {
            let mut calls = 0;
            self.end = loop {
                match self.flow.walk::<1>(&Bytes::new(&piece.bytes), &mut segment) {
                    Walked::More => calls += 1,
                    Walked::On => break None,
                    Walked::Unreadable => panic!("every byte is there"),
                    Walked::Over(outcome) => break Some(outcome),
                }
                // A FIN and a RST are steps too, and may let the peer's take effect.
                assert!(calls <= piece.bytes.len() + 4, "a step took nothing");
            };
        }
        Some(place)
    }

    /// The event that a failure makes.
    pub(crate) fn event(&self, failure: Failure) -> Event {
        let mut event = Event::new_zeroed();
        event.flow = self.flow;
        event.abi = ABI;
        event.verdict = failure.into();
        assert_eq!(event.verdict.failure(), Some(failure), "survives the event");
        event
    }

    fn describe(&self, outcome: Outcome) -> String {
        let Outcome::Failed(failure) = outcome else {
            return format!("{outcome:?}").to_lowercase();
        };
        let event = self.event(failure);
        let mut line = failure.class().name().to_owned();
        if failure.confidence() != Confidence::Certain {
            line += " (ambiguous)";
        }
        let _ = write!(
            line,
            " by {} at {}",
            failure.by.name(),
            event.stage().name()
        );
        let _ = write!(line, ": {:?}", failure.cause);
        if (failure.level, failure.description) != (0, 0) {
            let _ = write!(line, " {},{}", failure.level, failure.description);
        }
        line + "; " + &event.history().collect::<String>()
    }

    /// How it ended, in a line: class, whose act, stage, cause, alert, history. `open`: not yet.
    pub(crate) fn verdict(&self) -> String {
        match self.end {
            Some(outcome) => self.describe(outcome),
            None => "open".to_owned(),
        }
    }

    /// The same for what silence from here on would mean.
    pub(crate) fn silence(&self) -> String {
        assert_eq!(self.end, None, "over before the silence");
        self.describe(self.flow.silent())
    }
}

/// A few bytes and how many there are, instead of hundreds of numbers in a failed assertion.
fn brief(bytes: &[u8], flags: u8) -> String {
    let start: String = bytes
        .iter()
        .take(9)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} bytes {start}.. flags {flags}", bytes.len())
}

impl fmt::Debug for Turn {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:?} {}", self.from, brief(&self.bytes, self.flags))
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:?} {}", self.from, brief(&self.bytes, self.flags))
    }
}

impl fmt::Debug for Player {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}", self.verdict())?;
        for side in &self.flow.sides {
            writeln!(to, "{side:?}")?;
        }
        let kept = self.flow.bytes.iter().filter(|byte| **byte != 0).count();
        write!(to, "{kept} captured bytes that are not 0")
    }
}

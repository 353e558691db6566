//! A failure on the wire and what the libraries at its ends said of it become one event. Pure: failures,
//! words and the time in, events out.
//!
//! Either half may come first. A failure waits for words where a probed library is known to be at one of
//! its ends, a bounded time; a word waits for its failure, longer, since nobody else waits for it. Every failure that goes in comes out, once, with the words there
//! were. Words that never found a failure are counted.
//!
//! Both are of one connection when addresses and ports are the same, the word is not older than the
//! connection, its socket's sequence numbers are near those on the wire, and its network namespace is the one
//! that is watched, where that end's address is there. So neither an earlier connection of the same ports is
//! taken for it, nor one of the same addresses in another namespace, which may have the same ports and the same
//! numbers. Where it is not known in which namespace an end is, words from two of them that wait together say
//! nothing; but one that comes alone is believed. Time alone joins nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use gauntlet_wire::Role;
use gauntlet_wire::event::Event;
use gauntlet_wire::library::{Ends, Facts, Socket, Standing, Word};
use gauntlet_wire::rules::{Cause, Failure};

use super::names;
use crate::failure::address;

/// How long a failure waits for words.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// How long a word waits for its failure: a rejected connection is judged when it is closed.
const KEPT: Duration = Duration::from_secs(60);
/// Most failures that wait.
const MOST_HELD: usize = 1_024;
/// Most words that wait, and most failures that are remembered after they were told.
const MOST_KEPT: usize = 4_096;
/// How far apart sequence numbers of one connection may be, bytes: more than any handshake takes, and a
/// 2000th of the numbers there are.
const NEAR: u32 = 1 << 20;

/// What a library said, and the executable that it said it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The word.
    pub word: Word,
    /// File name of the executable.
    pub executable: String,
}

/// What the wire showed of a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The connection, as its client's socket names it.
    pub client: Ends,
    /// Sequence number of the next byte of each side, by [`Role`].
    pub next: [u32; 2],
    /// When its SYN came. Nanoseconds, CLOCK_MONOTONIC.
    pub opened: u64,
    /// The negotiated version, or 0.
    pub version: u16,
    /// What happened.
    pub failure: Failure,
    /// It may as well have succeeded ([`Event::undecided`]): there is an event only if a library says
    /// that it failed.
    pub undecided: bool,
    /// The network namespace of each end's socket, by [`Role`], as [`Socket::netns`]; 0: not known.
    pub netns: [u32; 2],
}

impl Seen {
    /// From an event; `None` for one with numbers that have no name.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let [client, server] = Role::BOTH.map(|role| event.endpoint(role));
        Some(Self {
            client: Ends {
                local: client.address,
                remote: server.address,
                local_port: client.port,
                remote_port: server.port,
            },
            next: Role::BOTH.map(|role| event.flow.sides[role as usize].next),
            opened: event.flow.opened,
            version: event.flow.server().version,
            failure: event.verdict.failure()?,
            undecided: event.undecided != 0,
            netns: [0; 2],
        })
    }

    /// As it was seen in this network namespace, at an interface with these addresses: an end that has one of
    /// them is there.
    #[must_use]
    pub fn within(mut self, netns: u32, addresses: &[IpAddr]) -> Self {
        for role in Role::BOTH {
            let own = address(self.ends(role).local);
            if addresses.contains(&own) {
                self.netns[role as usize] = netns;
            }
        }
        self
    }

    /// The connection as the socket at this end names it.
    #[must_use]
    pub fn ends(&self, role: Role) -> Ends {
        match role {
            Role::Client => self.client,
            Role::Server => Ends {
                local: self.client.remote,
                remote: self.client.local,
                local_port: self.client.remote_port,
                remote_port: self.client.local_port,
            },
        }
    }

    /// Which end of this connection a socket is; `None`: of another.
    fn end(&self, socket: &Socket, time: u64) -> Option<Role> {
        let near = |one: u32, other: u32| {
            let apart = one.wrapping_sub(other);
            apart.min(apart.wrapping_neg()) <= NEAR
        };
        let same = |one: u32, other: u32| one == other || one == 0 || other == 0;
        Role::BOTH.into_iter().find(|role| {
            socket.ends == self.ends(*role)
                && time >= self.opened
                && near(socket.sends, self.next[*role as usize])
                && near(socket.expects, self.next[role.peer() as usize])
                && same(socket.netns, self.netns[*role as usize])
        })
    }

    /// Whether what is known of a session is of this connection's end.
    #[must_use]
    pub fn is_at(&self, role: Role, standing: &Standing) -> bool {
        self.end(&standing.socket, standing.time) == Some(role)
    }
}

/// What the libraries at both ends said, by [`Role`], in the order they said it.
pub type Words = [Vec<Heard>; 2];

/// A failure that need not wait any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined<T> {
    /// What was given with it.
    pub what: T,
    /// What the wire showed.
    pub seen: Seen,
    /// What was said.
    pub words: Words,
}

/// How many joins there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Failures told with a word at least.
    pub joined: u64,
    /// Words about connections of which no failure was seen, as some were not watched, others did not fail; and
    /// such as could be of either of two.
    pub unjoined: u64,
    /// Words that came after their failure had been told without one.
    pub late: u64,
}

/// Failures and words that wait for each other. `T` is what belongs to a failure.
#[derive(Debug)]
pub struct Join<T> {
    patience: u64,
    held: VecDeque<(u64, Joined<T>)>,
    words: VecDeque<Heard>,
    told: VecDeque<(Seen, bool)>,
    counts: Counts,
}

impl<T> Join<T> {
    /// One in which failures wait so long.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            patience: nanoseconds(patience),
            held: VecDeque::new(),
            words: VecDeque::new(),
            told: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// A handshake failed. `expected`: an end of it is known to use a library that is probed, so that words
    /// may come. `now` is CLOCK_MONOTONIC, nanoseconds, here and below.
    pub fn failed(&mut self, what: T, seen: Seen, expected: bool, now: u64) {
        let mut words = Words::default();
        self.words.retain(
            |heard| match seen.end(&heard.word.socket, heard.word.time) {
                Some(role) => {
                    words[role as usize].push(heard.clone());
                    false
                }
                None => true,
            },
        );
        // Of a stall, a library has said what it will.
        let stalled = seen.failure.cause == Cause::Stall;
        let until = if !expected || stalled || enough(&seen, &words) {
            now
        } else {
            now.saturating_add(self.patience)
        };
        self.held.push_back((until, Joined { what, seen, words }));
        if self.held.len() > MOST_HELD
            && let Some((until, _)) = self.held.front_mut()
        {
            *until = 0;
        }
    }

    /// A library said something.
    pub fn said(&mut self, heard: Heard, now: u64) {
        let word = &heard.word;
        for (until, held) in &mut self.held {
            if let Some(role) = held.seen.end(&word.socket, word.time) {
                held.words[role as usize].push(heard);
                if enough(&held.seen, &held.words) {
                    *until = (*until).min(now);
                }
                return;
            }
        }
        for (seen, joined) in self.told.iter().rev() {
            if seen.end(&word.socket, word.time).is_some() {
                // What else is said of a failure that was told with a reason is no news.
                self.counts.late += u64::from(!joined);
                return;
            }
        }
        self.words.push_back(heard);
        if self.words.len() > MOST_KEPT {
            self.words.pop_front();
            self.counts.unjoined += 1;
        }
    }

    /// Failures that need not wait any longer, in the order they came.
    pub fn due(&mut self, now: u64) -> Vec<Joined<T>> {
        let oldest = now.saturating_sub(nanoseconds(KEPT));
        while self
            .words
            .front()
            .is_some_and(|heard| heard.word.time < oldest)
        {
            self.words.pop_front();
            self.counts.unjoined += 1;
        }
        let mut due = Vec::new();
        for (until, mut held) in std::mem::take(&mut self.held) {
            if until > now {
                self.held.push_back((until, held));
                continue;
            }
            for words in &mut held.words {
                if contested(words) {
                    self.counts.unjoined += words.len() as u64;
                    words.clear();
                }
            }
            let joined = held.words.iter().any(|words| !words.is_empty());
            self.counts.joined += u64::from(joined);
            self.told.push_back((held.seen, joined));
            due.push(held);
        }
        while self.told.len() > MOST_KEPT {
            self.told.pop_front();
        }
        due
    }

    /// When [`Self::due`] will have something, unless something is said before.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.held.iter().map(|(until, _)| *until).min()
    }

    /// Nobody waits any longer: every failure that is left.
    pub fn finish(&mut self) -> Vec<Joined<T>> {
        self.due(u64::MAX)
    }

    /// How many joins there were. Once [`Self::finish`] was called, all words are accounted for.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Whether these words are of two connections, in two network namespaces, that nothing else tells apart.
fn contested(words: &[Heard]) -> bool {
    let mut known = words.iter().map(|heard| heard.word.socket.netns);
    let first = known.next();
    known.any(|netns| Some(netns) != first)
}

/// Whether more words would change nothing: the side that ended it has said why, and where its alert was
/// hidden, somebody has said which.
fn enough(seen: &Seen, words: &Words) -> bool {
    let by = seen.failure.by;
    // An alert is no reason: GnuTLS's applications may send it before the handshake returns with one.
    let said = |role: Role| {
        words[role as usize].iter().any(|heard| {
            let word = &heard.word;
            let why = names::reason(word).is_some() || names::result(word).is_some();
            why && !word.facts.has(Facts::DONE)
        })
    };
    let named = || {
        Role::BOTH.into_iter().any(|role| {
            let words = &words[role as usize];
            words
                .iter()
                .any(|heard| match names::alert(&heard.word, seen.version) {
                    Some(names::Alert::Sent(_)) => role == by,
                    Some(names::Alert::Received(_)) => role != by,
                    None => false,
                })
        })
    };
    let answered = words.iter().all(|words| !words.is_empty());
    answered
        || match seen.failure.cause {
            // Only the side that got it can say what it makes of it.
            Cause::NotTls | Cause::Connect => said(by.peer()),
            cause if cause.hidden_alert() => said(by) && named(),
            _ => said(by),
        }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

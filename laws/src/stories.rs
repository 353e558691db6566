//! Scripts of conversations that might be handshakes, from a random number generator: of their own making, with
//! lengths at the limits and an end at any stage; recorded ones with something changed; and a few of any bytes.
//! The same numbers make the same scripts.

use fastrand::Rng;

use crate::script::{EDGES, Op, steps};

/// Most steps of a script.
const MOST: usize = 200;
/// A segment length that is longer than any, of [`EDGES`].
const LONG: u8 = 16 * 3;
/// Segment lengths below this one of [`EDGES`] make packets by the thousand.
const SHORT: u8 = 5;

/// What is changed: scripts of recorded conversations.
#[derive(Debug, Clone)]
pub struct Stories {
    recorded: Vec<Vec<u8>>,
}

impl Stories {
    /// Takes scripts, as [`crate::seeds`] makes them.
    #[must_use]
    pub fn new(recorded: Vec<Vec<u8>>) -> Self {
        Self { recorded }
    }

    /// A script.
    pub fn tell(&self, rng: &mut Rng) -> Vec<u8> {
        match rng.u8(..16) {
            0 => (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
            1..8 => self.changed(rng),
            _ => made(rng),
        }
    }

    /// A recorded one, changed.
    fn changed(&self, rng: &mut Rng) -> Vec<u8> {
        let Some(recorded) = rng.choice(&self.recorded) else {
            return made(rng);
        };
        let (begin, whole) = steps(recorded);
        let mut script = begin.to_vec();
        if let Some(begin) = script.first_mut() {
            *begin = rng.u8(..);
        }
        let mut story: Vec<Vec<u8>> = whole.into_iter().map(<[u8]>::to_vec).collect();
        if rng.bool() {
            story.insert(0, vec![Op::Cut.byte(0), length(rng)]);
        }
        for _ in 0..rng.u8(..5) {
            let at = rng.usize(..=story.len());
            match rng.u8(..8) {
                0 if at < story.len() => drop(story.remove(at)),
                1 if at < story.len() => story.insert(at, story[at].clone()),
                2 if at + 1 < story.len() => story.swap(at, at + 1),
                3 => {
                    // Goes on as another.
                    if let Some(other) = rng.choice(&self.recorded) {
                        let (_, other) = steps(other);
                        let from = rng.usize(..=other.len());
                        story.truncate(at);
                        story.extend(other[from..].iter().map(|step| step.to_vec()));
                    }
                }
                4 => {
                    story.truncate(at);
                    story.extend(end(rng));
                }
                5 if at < story.len() => damage(rng, &mut story[at]),
                _ => story.insert(at, disturbance(rng)),
            }
        }
        script.extend(story.into_iter().take(MOST).flatten());
        script
    }
}

/// One of its own making.
fn made(rng: &mut Rng) -> Vec<u8> {
    let mut story = Vec::new();
    if rng.bool() {
        story.push(vec![Op::Cut.byte(0), length(rng)]);
    }
    let hello = |rng: &mut Rng| {
        let (suites, name, protocol) = (small(rng), small(rng), small(rng));
        vec![Op::Hello.byte(0), suites, name, protocol, rng.u8(..8)]
    };
    let record = |rng: &mut Rng, who, kind: u8, edge| {
        let less = if rng.u8(..16) == 0 { rng.u8(..) } else { 0 };
        vec![Op::Record.byte(who), kind - 20, edge, less]
    };
    // An index of the message types that `Op::Message` knows.
    let message = |rng: &mut Rng, who, kind: u8| {
        let less = if rng.u8(..16) == 0 { rng.u8(..) } else { 0 };
        vec![Op::Message.byte(who), kind, edge(rng), less]
    };
    story.push(hello(rng));
    if rng.u8(..8) == 0 {
        // A HelloRetryRequest is a ServerHello to whoever does not look at its random.
        story.push(vec![Op::Answer.byte(1), rng.u8(..), rng.u8(..)]);
        story.push(hello(rng));
    }
    let modern = rng.bool();
    story.push(vec![Op::Answer.byte(1), u8::from(modern), rng.u8(..)]);
    if modern {
        for who in [1, 0] {
            if rng.bool() {
                story.push(record(rng, who, 20, 1 + 3));
            }
            for _ in 0..rng.u8(..5) {
                let length = edge(rng);
                story.push(record(rng, who, 23, length));
            }
        }
    } else {
        for kind in [4, 5, 6, 7] {
            if rng.u8(..4) > 0 {
                story.push(message(rng, 1, kind));
            }
        }
        for kind in [4, 9, 8] {
            if rng.u8(..4) > 0 {
                story.push(message(rng, 0, kind));
            }
        }
        for who in [0, 1] {
            story.push(record(rng, who, 20, 1 + 3));
            let length = edge(rng);
            story.push(record(rng, who, 22, length));
        }
    }
    for _ in 0..rng.u8(..3) {
        let (who, length) = (rng.u8(..2), small(rng));
        story.push(record(rng, who, 23, length));
    }
    // At any stage.
    if rng.u8(..4) > 0 {
        story.truncate(rng.usize(..=story.len()));
    }
    if rng.u8(..16) == 0 {
        story.extend(fragments(rng));
    }
    story.extend(end(rng));
    for _ in 0..rng.u8(..6) {
        let at = rng.usize(..=story.len());
        story.insert(at, disturbance(rng));
    }
    let mut script = vec![rng.u8(..), rng.u8(..2)];
    script.extend(story.into_iter().take(MOST).flatten());
    script
}

/// How it ends, and what comes after that.
fn end(rng: &mut Rng) -> Vec<Vec<u8>> {
    const ALERTS: [u8; 16] = [
        0, 10, 20, 40, 42, 43, 44, 45, 46, 48, 49, 70, 80, 90, 116, 120,
    ];
    let mut story = Vec::new();
    for _ in 0..rng.u8(..4) {
        let who = rng.u8(..2);
        story.push(match rng.u8(..7) {
            0..2 => {
                let level = [1, 2, 2, 2, rng.u8(..)][rng.usize(..5)];
                let any = rng.u8(..);
                let code = *rng.choice(&ALERTS).unwrap_or(&any);
                let code = if rng.u8(..8) == 0 { any } else { code };
                vec![Op::Alert.byte(who), level, code]
            }
            2 => sealed(who, rng.u8(21..24), [2, 18, 19, 26, 40][rng.usize(..5)]),
            3 => vec![Op::Fin.byte(who)],
            4 => vec![Op::Reset.byte(who)],
            5 => vec![Op::Pause.byte(0), rng.u8(..8)],
            _ => vec![Op::Look.byte(0)],
        });
    }
    story
}

/// A record as long as an encrypted alert is, or nearly.
fn sealed(who: u8, kind: u8, length: u8) -> Vec<u8> {
    let mut step = vec![Op::Say.byte(who), 0, 5 + length, kind, 3, 3, 0, length];
    step.resize(step.len() + usize::from(length), 0x5a);
    step
}

/// A message in records of a byte each, in one segment: about as many as a number of loops walks over, of two fields
/// each, up to more than all together may.
fn fragments(rng: &mut Rng) -> Vec<Vec<u8>> {
    let whole = usize::from(rng.u8(1..=34)) * 8;
    let records = (whole + rng.usize(..5)).saturating_sub(2);
    let (kind, who) = if rng.bool() { (1, 0) } else { (11, 1) };
    let bytes = [kind, 0, 2, 0].into_iter().chain(std::iter::repeat(0));
    let said: Vec<u8> = bytes
        .take(records)
        .flat_map(|byte| [22, 3, 3, 0, 1, byte])
        .collect();
    let mut say = vec![Op::Say.byte(who)];
    say.extend((said.len() as u16).to_be_bytes());
    say.extend(said);
    vec![vec![Op::Cut.byte(0), LONG], say]
}

/// What a network does, or a peer that is broken.
fn disturbance(rng: &mut Rng) -> Vec<u8> {
    let who = rng.u8(..2);
    match rng.u8(..12) {
        0..2 => vec![Op::Again.byte(0), rng.u8(..)],
        2..4 => vec![Op::Overlap.byte(who), rng.u8(..)],
        4..6 => vec![Op::Late.byte(0)],
        6 => vec![Op::Lose.byte(0)],
        7 => vec![Op::Cut.byte(0), length(rng)],
        8 => vec![Op::Pause.byte(0), rng.u8(..8)],
        9 => vec![Op::Open.byte(0), rng.u8(..)],
        10 => vec![Op::Look.byte(0)],
        _ => {
            let mut step = vec![rng.u8(..)];
            step.extend((0..4).map(|_| rng.u8(..)));
            let alone = [&[0, 0], &step[..]].concat();
            let (_, whole) = steps(&alone);
            step.truncate(whole.first().map_or(0, |step| step.len()));
            step
        }
    }
}

/// Another byte somewhere, or another length where a record's may be.
fn damage(rng: &mut Rng, step: &mut [u8]) {
    let last = step.len() - 1;
    let record = step.windows(2).position(|two| two == [22, 3]);
    match record {
        Some(at) if at + 5 <= step.len() && rng.bool() => {
            let edge = *rng.choice(&EDGES).unwrap_or(&0);
            let length = edge.wrapping_add(u16::from(rng.u8(..3))).wrapping_sub(1);
            step[at + 3..at + 5].copy_from_slice(&length.to_be_bytes());
        }
        _ if last > 0 => step[rng.usize(1..=last)] = rng.u8(..),
        _ => {}
    }
}

/// Any length at a limit.
fn edge(rng: &mut Rng) -> u8 {
    if rng.u8(..4) == 0 {
        rng.u8(..EDGES.len() as u8 * 3)
    } else {
        small(rng)
    }
}

/// One that fits into a segment.
fn small(rng: &mut Rng) -> u8 {
    rng.u8(..15 * 3)
}

/// How long segments are.
fn length(rng: &mut Rng) -> u8 {
    if rng.u8(..64) == 0 {
        rng.u8(..EDGES.len() as u8 * 3)
    } else {
        rng.u8(SHORT * 3..17 * 3)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use gauntlet_probes::host::Host;
    use gauntlet_probes::load::Settings;
    use gauntlet_wire::counters::Counter;

    use super::*;
    use crate::conversation::{heard, printed};
    use crate::script::{Next, play};

    const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    #[test]
    fn the_same_numbers_tell_the_same() {
        let stories = Stories::new(vec![vec![0; 40]]);
        let tell = |seed| stories.tell(&mut Rng::with_seed(seed));
        assert!((0..100).all(|seed| tell(seed) == tell(seed)));
        assert_ne!(tell(1), tell(2));
    }

    #[test]
    fn steps_are_the_whole_script() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..1_000 {
            let script: Vec<u8> = (0..rng.usize(..300)).map(|_| rng.u8(..)).collect();
            let (begin, steps) = steps(&script);
            assert_eq!([begin, &steps.concat()].concat(), script);
        }
    }

    /// A generator that never gets far would compare little: every class and nearly every stage is among its ends.
    #[test]
    fn stories_end_in_every_way() {
        let recorded = crate::seeds::of("kernel", Path::new(REPOSITORY)).expect("recordings");
        let stories = Stories::new(recorded);
        let mut rng = Rng::with_seed(1);
        let (mut classes, mut stages, mut frames) = (BTreeSet::new(), BTreeSet::new(), 0);
        let mut given_up = 0;
        for _ in 0..4_000 {
            let steps = play(&stories.tell(&mut rng), false, 1);
            frames += steps
                .iter()
                .filter(|step| matches!(step, Next::Frame(..)))
                .count();
            let (events, counts) = heard(&mut Host::new(&Settings::default()), &steps);
            given_up += counts.counters[&Counter::StepsExhausted];
            for event in &events {
                let line = printed(event);
                let field = |name: &str| {
                    let (_, rest) = line.split_once(&format!(r#""{name}":""#))?;
                    Some(rest.split_once('"')?.0.to_owned())
                };
                classes.extend(field("error.type"));
                stages.extend(field("handshake.stage"));
            }
        }
        println!("{frames} packets; {classes:?}; {stages:?}");
        assert_eq!(classes.len(), 11, "{classes:?}");
        assert!(stages.len() >= 8, "{stages:?}");
        assert!(
            given_up > 0,
            "no packet has more fields than are walked over"
        );
    }
}

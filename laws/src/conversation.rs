//! Laws of a whole conversation, on the host build.

use gauntlet_harness::recut::Conversation;
use gauntlet_probes::failure::Failure;
use gauntlet_probes::host::Host;
use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::Counts;
use gauntlet_probes::report::ndjson;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::Event;

use crate::script::{Next, PATIENCE, play};

/// Time at which a conversation begins, nanoseconds.
pub(crate) const BEGINS: u64 = 1_000_000_000;

/// Takes frames and looks; the events, and what was counted once nothing is left of it.
pub(crate) fn heard(host: &mut Host, steps: &[Next]) -> (Vec<Event>, Counts) {
    let mut now = BEGINS;
    let mut events = Vec::new();
    for step in steps {
        match step {
            Next::Frame(after, frame) => {
                now += after;
                host.packet(frame, now, 1);
            }
            Next::Look(after) => {
                now += after;
                events.append(&mut host.events());
                events.extend(host.sweep(now, PATIENCE));
            }
        }
    }
    events.append(&mut host.events());
    events.extend(host.sweep(u64::MAX, PATIENCE));
    (events, host.counts())
}

/// No failure is told twice, none after the end, and what was counted adds up.
pub fn conversation(input: &[u8]) {
    let steps = play(input, false, 1);
    let (events, counts) = heard(&mut Host::new(&Settings::default()), &steps);
    adds_up(&events, &counts);
    for event in &events {
        printed(event);
    }
}

/// How many events were told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) failed: u64,
    pub(crate) undecided: u64,
}

impl Told {
    pub(crate) fn add(&mut self, events: &[Event]) {
        let undecided = events.iter().filter(|event| event.undecided != 0).count() as u64;
        self.undecided += undecided;
        self.failed += events.len() as u64 - undecided;
    }
}

/// Every connection has one end, and every failure one event.
pub(crate) fn adds_up(events: &[Event], counts: &Counts) {
    let mut told = Told::default();
    told.add(events);
    told_as_counted(told, counts);
}

/// The same, of events that are not kept.
pub(crate) fn told_as_counted(Told { failed, undecided }: Told, counts: &Counts) {
    let count = |counter| counts.counters.get(&counter).copied().unwrap_or(0);
    assert_eq!(
        count(Counter::HandshakeFailed),
        failed,
        "failures counted, and told"
    );
    assert_eq!(
        count(Counter::Undecided),
        undecided,
        "undecided ones counted, and told"
    );
    let classes: u64 = counts.classes.values().map(|class| class.count).sum();
    assert_eq!(classes, failed, "failures by class, and told");
    let ends = [
        Counter::HandshakeDone,
        Counter::NotTls,
        Counter::HandshakeFailed,
        Counter::Undecided,
        Counter::Unseen,
        Counter::FlowExpired,
        Counter::FlowReplaced,
    ];
    let ended: u64 = ends.into_iter().map(count).sum();
    let opened = count(Counter::FlowOpened);
    assert!(ended <= opened, "{ended} ends of {opened} connections");
}

/// An event as a line, without its time.
pub(crate) fn printed(event: &Event) -> String {
    let event = Event { time: 0, ..*event };
    match Failure::new(&event, 0, None) {
        Ok(failure) => ndjson::failure(&failure),
        Err(error) => panic!("our own event cannot be printed: {error}"),
    }
}

/// A script's conversations, to be sent again in other segments.
pub(crate) fn conversations(script: &[u8], number: u32) -> Vec<Conversation> {
    let steps = play(script, true, number);
    let mut now = BEGINS;
    let frames = steps.iter().filter_map(|step| match step {
        Next::Frame(after, frame) => {
            now += after;
            Some((now, &frame[..]))
        }
        Next::Look(_) => None,
    });
    Conversation::read(frames.collect::<Vec<_>>())
        .into_iter()
        .collect()
}

/// One again, cut by a seed; 0: as it was.
pub(crate) fn again(conversation: &Conversation, seed: u64) -> Vec<Next> {
    let frames = conversation.recut(seed).into_iter();
    let steps = frames.flat_map(|(after, frame)| {
        // Time passes between flights only; stalls are looked for where it does.
        let look = (after >= PATIENCE.as_nanos() as u64).then_some(Next::Look(after));
        let after = if look.is_some() { 0 } else { after };
        look.into_iter().chain([Next::Frame(after.max(1), frame)])
    });
    steps.collect()
}

/// The same bytes in other segments say the same. The first eight bytes are the seed of the cut.
pub fn recut(input: &[u8]) {
    let Some((seed, script)) = input.split_first_chunk() else {
        return;
    };
    let seed = u64::from_be_bytes(*seed).max(1);
    for conversation in conversations(script, 1) {
        let said = |seed| {
            let steps = again(&conversation, seed);
            let mut host = Host::new(&Settings::default());
            let (events, counts) = heard(&mut host, &steps);
            adds_up(&events, &counts);
            let certain = events.iter().filter(|event| event.undecided == 0);
            (certain.map(printed).collect::<Vec<_>>(), counts)
        };
        let (due, before) = said(0);
        let (told, after) = said(seed);
        // What was given up is counted, and then nothing has to be the same.
        let given_up = |counts: &Counts| {
            [Counter::EarlyDropped, Counter::StepsExhausted]
                .iter()
                .any(|counter| counts.counters.get(counter).is_some_and(|count| *count > 0))
        };
        if !given_up(&before) && !given_up(&after) {
            assert_eq!(due, told, "cut by seed {seed}");
        }
    }
}

/// Wrong on purpose, to see that a law that does not hold is found out: holds of its seed, whose failure is
/// no_shared_cipher, and denies all others.
pub fn planted(input: &[u8]) {
    let (events, _) = heard(&mut Host::new(&Settings::default()), &play(input, false, 1));
    let is_other = |event: &Event| event.verdict.class != Class::NoSharedCipher as u8;
    assert!(!events.iter().any(is_other), "planted: another is told");
}

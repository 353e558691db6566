//! Every state that the rules can reach, with what every input means in it, as tables to review.
//!
//! Snapshots are written anew with `INSTA_UPDATE=always cargo test -p gauntlet-wire`; then read the
//! difference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gauntlet_wire::Role::{self, Client, Server};
use gauntlet_wire::class::Class;
use gauntlet_wire::handshake::Sealed;
use gauntlet_wire::record::{TLS1_2, TLS1_3};
use gauntlet_wire::rules::{Cause, Failure, Input, Outcome, State, decide};
use gauntlet_wire::side::{Side, Stage};

const START: State = State {
    client: Stage::SILENT,
    server: Stage::SILENT,
    version: 0,
    flags: 0,
    known: 0,
    preamble: 0,
};

/// An input, the version of a ServerHello, and the word for both.
type Move = (Input, u16, &'static str);

/// What a side can be seen to do in a state: a side whose first bytes were not TLS is not read any
/// further, in TLS 1.2 Finished is all that can be told of encrypted messages, and hellos are told
/// apart by who sent them.
fn possible(state: State, from: Role) -> Vec<Move> {
    let (own, peer) = match from {
        Client => (state.client, state.server),
        Server => (state.server, state.client),
    };
    let mut moves: Vec<Move> = vec![
        (Input::Fin, 0, "fin"),
        (Input::Reset, 0, "rst"),
        (Input::Silence, 0, "silence"),
    ];
    if own == Stage::SILENT {
        moves.push((Input::Foreign, 0, "foreign"));
        moves.push((Input::Preamble, 0, "preamble"));
        moves.push((Input::Tls, 0, "tls"));
        if from == Client {
            moves.push((Input::Connect, 0, "connect"));
        } else if peer == Stage::CONNECT {
            moves.push((Input::Status(true), 0, "status-2xx"));
            moves.push((Input::Status(false), 0, "status-other"));
        }
    }
    if own == Stage::PREAMBLE {
        moves.push((Input::Chatter, 0, "chatter"));
    }
    let begins = from == Client && state.preamble != 0;
    let drained = matches!(own, Stage::FOREIGN | Stage::CONNECT | Stage::GRANTED)
        || own == Stage::PREAMBLE && !begins;
    let unopened = own == Stage::SILENT && !goes_on(decide(state, from, Input::Tls));
    if drained || unopened {
        return moves;
    }
    moves.extend([
        (Input::ChangeCipherSpec, 0, "ccs"),
        (Input::Alert(1, 0), 0, "close_notify"),
        (Input::Alert(1, 112), 0, "warning"),
        (Input::Alert(1, 90), 0, "user_canceled"),
        (Input::Alert(2, 40), 0, "fatal"),
        (Input::SealedAlert, 0, "sealed-alert"),
        (Input::Sealed(Sealed::AlertSized, false), 0, "alert-size-"),
        (Input::Sealed(Sealed::AlertSized, true), 0, "alert-size+"),
        (
            Input::Sealed(Sealed::FinishedSized, false),
            0,
            "finished-size-",
        ),
        (
            Input::Sealed(Sealed::FinishedSized, true),
            0,
            "finished-size+",
        ),
        (Input::Sealed(Sealed::Other, false), 0, "data-"),
        (Input::Sealed(Sealed::Other, true), 0, "data+"),
    ]);
    if state.version != 0 && state.version <= TLS1_2 && own >= Stage::SECURED {
        moves.push((Input::Finished, 0, "finished"));
        return moves;
    }
    moves.push((Input::Handshake, 0, "handshake"));
    match from {
        Client if own == Stage::GREETING => moves.push((Input::ClientHelloRead, 0, "hello_read")),
        Client => moves.push((Input::ClientHello, 0, "client_hello")),
        Server if state.version == 0 => moves.extend([
            (Input::HelloRetryRequest, 0, "retry"),
            (Input::ServerHello, TLS1_2, "server_hello-1.2"),
            (Input::ServerHello, TLS1_3, "server_hello-1.3"),
        ]),
        Server => {}
    }
    moves
}

fn goes_on(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::On(_))
}

/// The state in which the input is judged, and what it means.
fn judge(state: State, from: Role, (input, version, _): Move) -> (State, Outcome) {
    let version = if version == 0 { state.version } else { version };
    let state = State { version, ..state };
    (state, decide(state, from, input))
}

/// The state after an input that does not end the flow.
fn after(state: State, from: Role, step: Move) -> Option<State> {
    let (mut next, outcome) = judge(state, from, step);
    let Outcome::On(stage) = outcome else {
        return None;
    };
    match from {
        Client => next.client = stage,
        Server => next.server = stage,
    }
    Some(next)
}

/// After a preamble the two ends begin anew: the client with its next byte, then the server. From then on
/// there is nothing left of the preamble.
fn begun_anew(state: State) -> Option<State> {
    match (state.client, state.server) {
        (Stage::CONNECT, Stage::GRANTED) => Some(State {
            client: Stage::SILENT,
            preamble: 1,
            ..state
        }),
        (Stage::PREAMBLE, _) if state.preamble == 0 => Some(State {
            preamble: 1,
            ..state
        }),
        (client, _) if client >= Stage::GREETING && state.preamble != 0 => Some(State {
            server: Stage::SILENT,
            preamble: 0,
            ..state
        }),
        _ => None,
    }
}

type Key = (u8, u8, u16, u8);

fn key(state: State) -> Key {
    let State {
        client,
        server,
        version,
        preamble,
        ..
    } = state;
    (client.0, server.0, version, preamble)
}

/// All states, breadth first from `start`, in the order of their stages.
fn reachable(start: State) -> Vec<State> {
    let mut found = BTreeMap::from([(key(start), start)]);
    let mut queue = VecDeque::from([start]);
    while let Some(state) = queue.pop_front() {
        let nexts = Role::BOTH.into_iter().flat_map(|from| {
            (possible(state, from).into_iter()).filter_map(move |step| after(state, from, step))
        });
        for next in nexts.chain(begun_anew(state)) {
            if found.insert(key(next), next).is_none() {
                queue.push_back(next);
            }
        }
    }
    found.into_values().collect()
}

fn title(state: State) -> String {
    let version = match state.version {
        0 => "-",
        TLS1_2 => "1.2",
        _ => "1.3",
    };
    let preamble = match state.preamble {
        0 => "",
        _ => " | after a preamble",
    };
    format!(
        "{} | {} | {version}{preamble}",
        state.client.name(),
        state.server.name()
    )
}

fn word(outcome: Outcome, own: Stage) -> String {
    match outcome {
        Outcome::On(stage) if stage == own => "=".to_owned(),
        Outcome::On(stage) => format!("-> {}", stage.name()),
        Outcome::Failed(failure) => {
            let hello = if failure.answers_hello {
                " answers-hello"
            } else {
                ""
            };
            format!("FAIL {:?} by {}{hello}", failure.cause, failure.by.name())
        }
        other => format!("{other:?}").to_uppercase(),
    }
}

/// Words of inputs; `x` for both `x+`, sent with knowledge of the peer's flight, and `x-`, without.
fn words(inputs: &[&str]) -> String {
    let mut words = Vec::new();
    for input in inputs {
        if let Some(both) = input.strip_suffix('-') {
            let also = inputs.contains(&format!("{both}+").as_str());
            words.push(if also { both } else { input });
        } else if !input
            .strip_suffix('+')
            .is_some_and(|both| words.contains(&both))
        {
            words.push(input);
        }
    }
    words.join(" ")
}

/// One line for each side and outcome of a state: the inputs that lead to it.
fn lines(state: State) -> Vec<String> {
    let mut lines = Vec::new();
    for from in Role::BOTH {
        let own = if from == Client {
            state.client
        } else {
            state.server
        };
        let mut by_outcome: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for step in possible(state, from) {
            let (_, outcome) = judge(state, from, step);
            by_outcome
                .entry(word(outcome, own))
                .or_default()
                .push(step.2);
        }
        for (outcome, inputs) in by_outcome {
            lines.push(format!("  {} {outcome}: {}", from.name(), words(&inputs)));
        }
    }
    lines
}

fn table(states: &[State]) -> String {
    let mut text = "client | server | version. What is not listed changes nothing.\n".to_owned();
    for state in states {
        text += &format!("\n{}\n", title(*state));
        for line in lines(*state).iter().filter(|line| !line.contains(" =: ")) {
            text += &format!("{line}\n");
        }
    }
    text
}

/// Only what a fact changes: the lines that the same state without it does not have.
fn changes(start: State, plain: fn(State) -> State) -> String {
    let mut text = String::new();
    for state in reachable(start) {
        let before = lines(plain(state));
        let new: Vec<String> = (lines(state).into_iter())
            .filter(|line| !before.contains(line))
            .collect();
        if !new.is_empty() {
            text += &format!("{}\n{}\n\n", title(state), new.join("\n"));
        }
    }
    text
}

#[test]
fn every_reachable_state_and_input_is_reviewed() {
    insta::assert_snapshot!("reachable", table(&reachable(START)));
}

#[test]
fn what_a_known_port_changes_is_reviewed() {
    let start = State { known: 1, ..START };
    let plain = |state| State { known: 0, ..state };
    insta::assert_snapshot!("known", changes(start, plain));
}

#[test]
fn what_early_data_changes_is_reviewed() {
    let start = State {
        flags: Side::EARLY_DATA,
        ..START
    };
    let plain = |state| State { flags: 0, ..state };
    insta::assert_snapshot!("early_data", changes(start, plain));
}

#[test]
fn what_lost_bytes_change_is_reviewed() {
    let start = State {
        flags: Side::GAP,
        ..START
    };
    let plain = |state| State { flags: 0, ..state };
    insta::assert_snapshot!("lost", changes(start, plain));
}

/// For `dot -Tsvg`: states as nodes, with a word for each way a flow may end there; what moves a stage
/// as edges. Servers that answer before they are asked are left out.
fn dot(states: &[State]) -> String {
    let unasked = |state: &State| state.client < Stage::GREETING && state.server >= Stage::RETRY;
    let mut text = "digraph stages {\n  node [shape=box]\n".to_owned();
    for state in states.iter().filter(|state| !unasked(state)) {
        let mut ends = BTreeSet::new();
        let mut edges: BTreeMap<(String, &str), Vec<&str>> = BTreeMap::new();
        for from in Role::BOTH {
            for step in possible(*state, from) {
                match judge(*state, from, step).1 {
                    Outcome::On(_) => {
                        let next = after(*state, from, step).expect("goes on");
                        if key(next) != key(*state) && !unasked(&next) {
                            let edge = (title(next), from.name());
                            edges.entry(edge).or_default().push(step.2);
                        }
                    }
                    Outcome::Done => drop(ends.insert("done")),
                    Outcome::Ignore => drop(ends.insert("ignore")),
                    Outcome::Undecided => drop(ends.insert("undecided")),
                    Outcome::Failed(_) => drop(ends.insert("fail")),
                }
            }
        }
        if let Some(next) = begun_anew(*state) {
            edges.insert((title(next), "tunnel"), vec!["next-byte"]);
        }
        let node = title(*state);
        let ends: Vec<&str> = ends.into_iter().collect();
        text += &format!("  \"{node}\" [xlabel=\"{}\"]\n", ends.join(" "));
        for ((next, who), inputs) in edges {
            let label = format!("{who}: {}", words(&inputs));
            text += &format!("  \"{node}\" -> \"{next}\" [label=\"{label}\"]\n");
        }
    }
    text + "}"
}

#[test]
fn the_graph_of_stages_is_reviewed() {
    insta::assert_snapshot!("stages.dot", dot(&reachable(START)));
}

#[test]
fn every_stage_is_reached() {
    let states = reachable(START);
    for stage in Stage::ALL {
        let reached = (states.iter()).any(|state| state.client == stage || state.server == stage);
        assert!(reached, "{}", stage.name());
    }
}

/// Every state with every combination of facts, and every move possible in it.
fn everything() -> Vec<(State, Role, Move)> {
    let mut all = Vec::new();
    for bits in 0..8 {
        let mut flags = 0;
        for (bit, flag) in [(2, Side::EARLY_DATA), (4, Side::BROKEN)] {
            flags |= if bits & bit == 0 { 0 } else { flag };
        }
        for state in reachable(State {
            known: bits & 1,
            flags,
            ..START
        }) {
            for from in Role::BOTH {
                all.extend(
                    possible(state, from)
                        .into_iter()
                        .map(|step| (state, from, step)),
                );
            }
        }
    }
    all
}

#[test]
fn closing_and_silence_never_fail_a_handshake_before_its_client_hello() {
    for (state, from, step) in everything() {
        let closing = matches!(step.0, Input::Fin | Input::Reset | Input::Silence);
        if closing
            && state.client < Stage::GREETING
            && let (_, Outcome::Failed(failure)) = judge(state, from, step)
        {
            assert_eq!(failure.cause, Cause::Connect, "{state:?}");
            assert!(state.known != 0, "{state:?}");
        }
    }
}

#[test]
fn closing_and_silence_prove_nothing_where_bytes_were_lost() {
    for (state, from, step) in everything() {
        let closing = matches!(step.0, Input::Fin | Input::Reset | Input::Silence);
        // A banner before the ClientHello needs no further proof.
        let banner = matches!(state.server, Stage::FOREIGN | Stage::PREAMBLE);
        let asked = state.client >= Stage::GREETING && !(banner && state.preamble == 0);
        if closing && state.flags & Side::LOST != 0 && asked {
            let (_, outcome) = judge(state, from, step);
            assert!(
                !matches!(outcome, Outcome::Failed(_)),
                "{state:?} {}",
                step.2
            );
        }
    }
}

#[test]
fn silence_ends_every_flow_with_a_client_hello() {
    for (state, from, step) in everything() {
        if step.0 == Input::Silence {
            let (_, outcome) = judge(state, from, step);
            assert!(!goes_on(outcome), "{state:?}");
        }
    }
}

#[test]
fn a_readable_fatal_alert_of_any_side_always_decides() {
    for (state, from, step) in everything() {
        if step.0 == Input::Alert(2, 40) {
            let (_, outcome) = judge(state, from, step);
            let Outcome::Failed(failure) = outcome else {
                panic!("{state:?} {outcome:?}");
            };
            let seen = (
                failure.cause,
                failure.by,
                failure.level,
                failure.description,
            );
            assert_eq!(seen, (Cause::Alert, from, 2, 40));
            // What was lost can only have been the hello.
            let hello = state.client >= Stage::GREETING || state.flags & Side::LOST != 0;
            let asked = hello && state.version == 0;
            assert_eq!(failure.answers_hello, from == Server && asked);
        }
    }
}

#[test]
fn a_hello_of_the_wrong_side_changes_nothing() {
    let state = State {
        client: Stage::HELLO,
        ..START
    };
    assert_eq!(
        decide(state, Server, Input::ClientHello),
        Outcome::On(Stage::SILENT)
    );
    assert_eq!(
        decide(state, Client, Input::ServerHello),
        Outcome::On(Stage::HELLO)
    );
    assert_eq!(
        decide(state, Client, Input::HelloRetryRequest),
        Outcome::On(Stage::HELLO)
    );
}

fn failure(cause: Cause) -> Failure {
    let (level, description, answers_hello) = (0, 0, false);
    Failure {
        cause,
        by: Server,
        level,
        description,
        answers_hello,
    }
}

fn alert(description: u8, answers_hello: bool) -> Failure {
    Failure {
        level: 2,
        description,
        answers_hello,
        ..failure(Cause::Alert)
    }
}

#[test]
fn every_alert_has_the_class_of_the_contract() {
    for description in 0..=255 {
        let expected = match description {
            42 => Class::BadCertificate,
            45 => Class::CertificateExpired,
            48 => Class::UnknownCa,
            49 => Class::AccessDenied,
            70 => Class::UnknownProtocol,
            _ => Class::Ssl,
        };
        assert_eq!(alert(description, false).class(), expected, "{description}");
        let at_once = if description == 40 {
            Class::NoSharedCipher
        } else {
            expected
        };
        assert_eq!(alert(description, true).class(), at_once, "{description}");
    }
}

#[test]
fn every_cause_has_the_class_of_the_contract() {
    for (cause, class) in [
        (Cause::ClientHiddenAlert, Class::Ssl),
        (Cause::ServerHiddenAlert, Class::Ssl),
        (Cause::LateHiddenAlert, Class::Ssl),
        (Cause::SealedAlert, Class::Ssl),
        (Cause::NotTls, Class::UnknownProtocol),
        (Cause::Connect, Class::HttpsProxyRequest),
        (Cause::Reset, Class::Syscall),
        (Cause::Fin, Class::Syscall),
        (Cause::Stall, Class::WantRead),
    ] {
        assert_eq!(failure(cause).class(), class, "{cause:?}");
    }
}

#[test]
fn candidates_are_reviewed_and_contain_the_class() {
    let mut text = String::new();
    let failures = Cause::ALL.map(failure).into_iter();
    for failure in failures.chain([alert(40, true), alert(40, false), alert(48, false)]) {
        let names: Vec<&str> = (failure.candidates().iter())
            .map(|class| class.map_or("no failure", Class::name))
            .collect();
        let holds = failure.candidates().contains(&Some(failure.class()));
        assert!(names.is_empty() || holds, "{failure:?}");
        let (cause, code) = (failure.cause, failure.description);
        let confidence = failure.confidence().name();
        text += &format!("{cause:?} {code} {confidence}: {}\n", names.join(", "));
    }
    insta::assert_snapshot!("candidates", text);
}

#[test]
fn sizes_of_encrypted_alerts_and_finished_are_those_of_the_cipher_suite() {
    for (suite, alert, finished) in [
        (0x1301, 19, 53),
        (0x1302, 19, 69),
        (0x1303, 19, 53),
        (0x1304, 19, 53),
        (0x1305, 11, 45),
    ] {
        for length in 0..=u16::MAX {
            let expected = if length == alert {
                Sealed::AlertSized
            } else if length == finished {
                Sealed::FinishedSized
            } else {
                Sealed::Other
            };
            assert_eq!(Sealed::of(suite, length), expected, "{suite:#x} {length}");
        }
    }
}

//! What an event says of its flow.

use gauntlet_wire::Role::{self, Client, Server};
use gauntlet_wire::event::{ABI, Event, HandshakeStage};
use gauntlet_wire::flow::{Flow, SEALED_AT, SEALED_BYTES};
use gauntlet_wire::packet::FlowKey;
use gauntlet_wire::rules::{Cause, Failure, Outcome, UNDECIDED};
use gauntlet_wire::side::{Framing, Side, Stage};
use zerocopy::FromZeros;

const KEY: FlowKey = FlowKey {
    addresses: [[1; 16], [2; 16]],
    ports: [443, 50_000],
};

fn event(flow: Flow) -> Event {
    Event {
        flow,
        key: KEY,
        ..Event::new_zeroed()
    }
}

#[test]
fn silence_makes_an_event_of_a_failure_and_of_what_cannot_be_decided() {
    let mut flow = Flow::new_zeroed();
    flow.ifindex = 9;
    let failure = Failure {
        cause: Cause::Stall,
        by: Server,
        level: 0,
        description: 0,
        answers_hello: false,
    };
    let of = |outcome| Event::of_silence(flow, KEY, 77, outcome);
    let failed = of(Outcome::Failed(failure)).expect("an event");
    assert_eq!(failed.verdict.failure(), Some(failure));
    let told = (failed.undecided, failed.time, failed.abi, failed.ifindex);
    assert_eq!(told, (0, 77, ABI, 9));
    let undecided = of(Outcome::Undecided).expect("an event");
    assert_eq!(undecided.verdict.failure(), Some(UNDECIDED));
    assert_eq!(undecided.undecided, 1);
    for silent in [Outcome::Done, Outcome::Ignore, Outcome::On(Stage::HELLO)] {
        assert_eq!(of(silent), None);
    }
}

#[test]
fn each_end_has_its_own_address_and_port() {
    for (client_first, client) in [(0, 1), (1, 0)] {
        let mut flow = Flow::new_zeroed();
        flow.client_first = client_first;
        let event = event(flow);
        assert_eq!(event.endpoint(Client), KEY.endpoint(client));
        assert_eq!(event.endpoint(Server), KEY.endpoint(1 - client));
    }
}

#[test]
fn a_record_that_may_be_an_alert_is_there_once_it_is_whole() {
    for role in Role::BOTH {
        let mut flow = Flow::new_zeroed();
        let at = usize::from(SEALED_AT[role as usize]);
        flow.bytes[at..at + SEALED_BYTES].fill(5);
        assert_eq!(event(flow).sealed(role), None, "none was sent");
        flow.sides[role as usize].sealed_len = 19;
        assert_eq!(event(flow).sealed(role), Some(&[5; 19][..]));
        assert_eq!(event(flow).sealed(role.peer()), None);
        flow.sides[role as usize].sealed_len = u8::MAX;
        let most = event(flow).sealed(role).map(<[u8]>::len);
        assert_eq!(most, Some(SEALED_BYTES.min(255)));
        flow.sides[role as usize].framing = Framing::SEALED;
        assert_eq!(event(flow).sealed(role), None, "not all of it has come");
    }
}

#[test]
fn a_random_is_told_of_a_whole_hello_only() {
    let mut flow = Flow::new_zeroed();
    for (stage, is_told) in [
        (Stage::SILENT, false),
        (Stage::GREETING, false),
        (Stage::HELLO, true),
        (Stage::FLIGHT, true),
    ] {
        flow.sides[0].stage = stage;
        assert_eq!(event(flow).client_random().is_some(), is_told, "{stage:?}");
    }
}

#[test]
fn how_far_a_handshake_had_come_is_what_the_further_side_had_said() {
    use HandshakeStage as H;
    let of = |client: Stage, server: Stage, version: u16, certificates: u16| {
        let mut flow = Flow::new_zeroed();
        flow.sides[0].stage = client;
        flow.sides[1].stage = server;
        flow.sides[1].version = version;
        flow.sides[0].flags = certificates;
        flow.sides[1].flags = certificates;
        event(flow).stage()
    };
    let sent = Side::SENT_CERTIFICATE;
    for (client, server, version, certificates, stage) in [
        (Stage::SILENT, Stage::SILENT, 0, 0, H::Connected),
        (Stage::FOREIGN, Stage::FOREIGN, 0, 0, H::Connected),
        (Stage::GREETING, Stage::SILENT, 0, 0, H::ClientHello),
        (Stage::HELLO, Stage::SILENT, 0, 0, H::ClientHello),
        (Stage::HELLO, Stage::RETRY, 0, 0, H::HelloRetryRequest),
        (Stage::HELLO, Stage::HELLO, 0x0303, sent, H::ServerHello),
        (
            Stage::HELLO,
            Stage::FLIGHT,
            0x0303,
            sent,
            H::ServerCertificate,
        ),
        (Stage::HELLO, Stage::FLIGHT, 0x0303, 0, H::ServerFlight),
        (Stage::HELLO, Stage::FLIGHT, 0x0304, sent, H::ServerFlight),
        (
            Stage::FLIGHT,
            Stage::FLIGHT,
            0x0303,
            sent,
            H::ClientCertificate,
        ),
        (Stage::FLIGHT, Stage::FLIGHT, 0x0304, 0, H::ClientFlight),
    ] {
        assert_eq!(of(client, server, version, certificates), stage);
    }
}

#[test]
fn names_of_stages_are_the_contract_s() {
    use HandshakeStage as H;
    let names = [
        H::Connected,
        H::ClientHello,
        H::HelloRetryRequest,
        H::ServerHello,
        H::ServerCertificate,
        H::ServerFlight,
        H::ClientCertificate,
        H::ClientFlight,
    ]
    .map(HandshakeStage::name);
    assert_eq!(
        names,
        [
            "connected",
            "client_hello",
            "hello_retry_request",
            "server_hello",
            "server_certificate",
            "server_flight",
            "client_certificate",
            "client_flight"
        ]
    );
}

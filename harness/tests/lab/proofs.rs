//! What the harness relies on, beyond single cases: late alerts are never lost, a hang ends, the capture
//! sees beacons, facts are read from hellos, and what cannot be run is not taken for a result.

use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gauntlet_harness::lab::{Lane, Role};
use gauntlet_harness::patience::limit;
use gauntlet_harness::peer::{Match, PeerError, drive};
use gauntlet_harness::probe::Spec;
use gauntlet_harness::report::CaseReport;
use gauntlet_harness::run::{self, Settings, Shelf, Worker};
use gauntlet_harness::scenario;
use gauntlet_harness::scenario::model::{Family, Peer, Scenario, Stack, Step, Tls};
use gauntlet_harness::verdict::Verdict;
use gauntlet_harness::witness::{Capture, Transcript, transcripts};
use libtest_mimic::{Failed, Trial};

use super::cases::{good, of, other_ca, peer, raw, scenario, scripted, strict, with};
use super::{BEACON_PORT, PORT, Stand};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "a_tls_1_3_client_reads_the_late_alert_every_time",
            late_alerts,
        ),
        Trial::test("a_hanging_case_ends_at_its_deadline", hang),
        Trial::test("a_case_that_hangs_is_run_once_more_and_told", hangs_twice),
        Trial::test(
            "after_a_case_that_was_not_closed_the_next_has_a_new_lane",
            not_closed,
        ),
        Trial::test(
            "a_client_that_sends_at_once_still_reads_the_alert",
            eager_client,
        ),
        Trial::test("the_capture_sees_beacons_of_both_families", beacons),
        Trial::test(
            "beacons_are_made_while_children_are_forked",
            beacons_beside_forks,
        ),
        Trial::test("a_capture_of_an_idle_wire_ends_when_told", idle_capture),
        Trial::test("facts_are_read_from_hellos_and_certificates", facts),
        Trial::test("a_fragmented_hello_spans_records", fragmented),
        Trial::test("a_saved_capture_is_read_by_others", saved),
        Trial::test(
            "a_known_server_has_one_good_handshake_before_the_case",
            known_server,
        ),
        Trial::test(
            "a_server_whose_client_never_comes_ends",
            no_second_connection,
        ),
        Trial::test("keys_of_both_ends_are_the_same", keys),
        Trial::test("a_raw_peer_cannot_be_told_to_speak_tls", raw_tls),
        Trial::test("an_unknown_suite_is_refused", unknown_suite),
        Trial::test("a_port_in_use_is_not_a_result", port_in_use),
    ]
}

/// Each stack at the client, and how it says that its CA is not known.
const TOLD_UNKNOWN_CA: [(Stack, &str); 2] = [
    (Stack::Rustls, "AlertReceived(UnknownCA)"),
    (
        Stack::OpenSsl,
        "SSL_ERROR_SSL(1) 20:1048(tlsv1 alert unknown ca)",
    ),
];

fn late_alerts() -> Result<(), Failed> {
    let stand = Stand::new()?;
    for (round, (stack, told)) in (0..20).flat_map(|round| TOLD_UNKNOWN_CA.map(|one| (round, one)))
    {
        for family in [Family::Ipv4, Family::Ipv6] {
            let client = Peer {
                stack,
                ..with(other_ca())
            };
            let case = scenario(&client, &strict());
            let ends = drive(&stand.matched(&case, Tls::V1_3, family))?;
            if ends.client.text != told {
                return Err(format!("round {round}: {ends:#?}").into());
            }
        }
    }
    Ok(())
}

fn eager_client() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let steps = [
        Step::Handshake,
        Step::Send("x".repeat(4096)),
        Step::ReadToEnd,
    ];
    for (round, (stack, told)) in (0..20).flat_map(|round| TOLD_UNKNOWN_CA.map(|one| (round, one)))
    {
        let eager = Peer {
            stack,
            script: steps.to_vec(),
            ..with(other_ca())
        };
        let ends = drive(&stand.matched(&scenario(&eager, &strict()), Tls::V1_3, Family::Ipv4))?;
        if ends.client.text != told {
            return Err(format!("round {round}: {ends:#?}").into());
        }
    }
    Ok(())
}

fn idle_capture() -> Result<(), Failed> {
    let lane = Lane::new(0)?;
    // Nobody there has anything to say, not even by IPv6's own housekeeping.
    let capture = Capture::start(lane.server(), "lo")?;
    let (ended, end) = mpsc::channel();
    let ender = thread::spawn(move || {
        drop(capture);
        ended.send(())
    });
    end.recv_timeout(limit(Duration::from_secs(5)))
        .map_err(|_| "the capture still runs")?;
    let _sent = ender.join();
    Ok(())
}

const SILENT: &str = r#"
claim = "nobody speaks"
cause = "both ends wait for the other"
why = "a deadline is all that ends it"
class = "none"
side = "nobody_fails"
tls = ["any"]
family = ["ipv4", "ipv6"]
[client]
stack = "raw"
script = ["silence"]
[server]
stack = "raw"
script = ["silence"]
[witness]
client = "ok"
server = "ok"
wire = []
"#;

/// Runs the case of [`SILENT`] for one family after another; before each, `prepare` may change its lane.
fn silent(
    families: &[Family],
    mut prepare: impl FnMut(usize, Option<&Lane>) -> Result<(), Failed>,
) -> Result<Vec<CaseReport>, Failed> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("silent.toml"), SILENT)?;
    let suite = scenario::load(folder.path())?;
    let settings = Settings {
        probe: Spec::Null,
        program: Spec::Null.program()?,
        scenarios: None,
        seed: 7,
        deadline: Duration::from_millis(200),
        deviations: suite.deviations,
        shelf: Shelf::new(folder.path().join("artifacts")),
        keep_all: false,
    };
    let mut worker = Worker::new(0, &settings);
    let mut reports = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let case = suite.cases.iter().find(|case| case.family == *family);
        prepare(index, worker.stand().map(|(lane, _)| lane).as_deref())?;
        reports.push(worker.run(case.ok_or("no such case")?, &settings));
    }
    Ok(reports)
}

fn hangs_twice() -> Result<(), Failed> {
    let reports = silent(&[Family::Ipv4], |_, _| Ok(()))?;
    let first = reports[0].first_attempt.as_deref().unwrap_or_default();
    if reports[0].verdict != Verdict::Hang || !first.starts_with("deadline passed: ") {
        return Err(format!("{reports:#?}").into());
    }
    Ok(())
}

/// What was not closed by a beacon may leave reports behind, which are not the next case's: that has a lane of
/// its own, and is judged.
fn not_closed() -> Result<(), Failed> {
    let families = [Family::Ipv4, Family::Ipv6, Family::Ipv6];
    let mut lanes = Vec::new();
    let mut taken = None;
    // The first case for IPv6 finds the port of its beacon taken.
    let reports = silent(&families, |index, lane| {
        lanes.push(lane.is_some());
        taken = match (index, lane) {
            (1, Some(lane)) => {
                let address = (lane.address(Role::Server, Family::Ipv6), run::BEACON_PORT);
                Some(lane.server().run(|| TcpListener::bind(address))??)
            }
            _ => None,
        };
        Ok(())
    })?;
    let why = "the beacon could not be made: Address already in use (os error 98)";
    // On a machine that stood still just then it was run once more, which is the next case that has a new lane.
    let again = reports[1].first_attempt.as_deref();
    let said = match again {
        None => reports[1].reason.as_deref() == Some(why) && reports[1].verdict == Verdict::Infra,
        Some(first) => first.starts_with(why) && reports[1].verdict == Verdict::Hang,
    };
    let replaced = lanes == [false, true, again.is_some()];
    if reports[2].verdict != Verdict::Hang || !said || !replaced {
        return Err(format!("{lanes:?} {reports:#?}").into());
    }
    Ok(())
}

fn hang() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let silent = raw(&[Step::Silence]);
    let case = scenario(&silent, &silent);
    let began = Instant::now();
    let deadline = Duration::from_millis(300);
    let ends = drive(&Match {
        deadline,
        ..stand.matched(&case, Tls::Any, Family::Ipv4)
    })?;
    let took = began.elapsed();
    if !ends.hung || took < deadline || took > deadline * 10 {
        return Err(format!("took {took:?}: {ends:#?}").into());
    }
    Ok(())
}

fn beacons() -> Result<(), Failed> {
    let stand = Stand::new()?;
    for family in [Family::Ipv4, Family::Ipv6] {
        let client = stand.beacon(family, "one.beacon.internal")?;
        let captured = stand.capture.until(client, BEACON_PORT)?;
        let flows = transcripts(&captured, BEACON_PORT);
        let [flow] = &flows[..] else {
            return Err(format!("{flows:#?}").into());
        };
        let name = flow
            .client_hello
            .as_ref()
            .and_then(|hello| hello.server_name.as_deref());
        let ends = flow.lines == ["client: ClientHello", "client: RST"];
        if name != Some("one.beacon.internal") || !ends || flow.client != client {
            return Err(format!("{flows:#?}").into());
        }
    }
    Ok(())
}

/// A child that was forked but is no program yet has a copy of every socket there was.
fn beacons_beside_forks() -> Result<(), Failed> {
    let stand = Stand::new()?;
    thread::scope(|scope| {
        let forks =
            scope.spawn(|| (0..100).try_for_each(|_| Command::new("true").status().map(drop)));
        let mut made = 0;
        while made < 1_000 || !forks.is_finished() {
            stand
                .beacon(Family::Ipv4, "beacon.internal")
                .map_err(|error| format!("after {made} beacons: {error}"))?;
            made += 1;
        }
        Ok(forks.join().expect("no panic")?)
    })
}

fn facts() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let client = Peer {
        alpn: vec!["h2".into(), "http/1.1".into()],
        ..with(good())
    };
    let server = Peer {
        alpn: vec!["http/1.1".into()],
        ..strict()
    };
    let case = scenario(&client, &server);

    let (ends, captured) = stand.run(&case, Tls::V1_2, Family::Ipv4)?;
    let old = Transcript::read(&captured, &ends.flows, stand.port.get())?;
    let hello = old.client_hello.as_ref().ok_or("no ClientHello")?;
    let chosen = old.server_hello.as_ref().ok_or("no ServerHello")?;
    let names = [
        old.client_certificate.as_deref(),
        old.server_certificate.as_deref(),
    ];
    let right = hello.server_name.as_deref() == Some("api.internal")
        && hello.alpn == ["h2", "http/1.1"]
        && hello.suites.contains(&chosen.suite)
        && hello.versions == [0x0303]
        && chosen.version == 0x0303
        && chosen.alpn.as_deref() == Some("http/1.1")
        && names == [Some("client.internal"), Some("api.internal")];
    if !right {
        return Err(format!("{old:#?}").into());
    }

    let (ends, captured) = stand.run(&case, Tls::V1_3, Family::Ipv6)?;
    let new = Transcript::read(&captured, &ends.flows, stand.port.get())?;
    let hidden = [&new.client_certificate, &new.server_certificate];
    let version = new.server_hello.as_ref().map(|chosen| chosen.version);
    let offered = new
        .client_hello
        .as_ref()
        .map(|hello| hello.versions.clone());
    if version != Some(0x0304) || offered != Some(vec![0x0304]) || hidden != [&None, &None] {
        return Err(format!("{new:#?}").into());
    }
    Ok(())
}

fn fragmented() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let client = Peer {
        max_fragment_size: Some(64),
        ..peer()
    };
    let (ends, captured) = stand.run(&scenario(&client, &peer()), Tls::V1_3, Family::Ipv4)?;
    let seen = Transcript::read(&captured, &ends.flows, stand.port.get())?;
    match &seen.client_hello {
        Some(hello) if hello.records > 2 && seen.lines[0] == "client: ClientHello" => Ok(()),
        _ => Err(format!("{seen:#?}").into()),
    }
}

fn saved() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let (_, captured) = stand.run(&scenario(&peer(), &peer()), Tls::V1_2, Family::Ipv4)?;
    let captured = captured.of_port(stand.port.get());
    let path = std::env::temp_dir().join(format!("gauntlet-lab-{}.pcap", std::process::id()));
    captured.save(&path)?;
    let mut read = pcap::Capture::from_file_with_precision(&path, pcap::Precision::Nano)?;
    for packet in captured.packets() {
        let other = read.next_packet()?;
        let stamp = (other.header.ts.tv_sec * 1_000_000_000 + other.header.ts.tv_usec) as u64;
        if other.data != packet.data || stamp != packet.time_unix_nano || stamp == 0 {
            return Err("a packet is not what was captured".into());
        }
    }
    std::fs::remove_file(&path)?;
    Ok(())
}

fn known_server() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let reset = raw(&[Step::ReadRecord, Step::Reset]);
    let case = Scenario {
        known_tls_server: true,
        ..scenario(&peer(), &reset)
    };
    let (ends, captured) = stand.run(&case, Tls::V1_2, Family::Ipv4)?;
    let flows = transcripts(&captured, stand.port.get());
    let [before, of_case] = &flows[..] else {
        return Err(format!("{flows:#?}").into());
    };
    let good = [
        "client: application data 28".into(),
        "server: application data 28".into(),
    ];
    before.shows(&good)?;
    if of_case.lines != ["client: ClientHello", "server: RST"] || ends.flows != [of_case.client] {
        return Err(format!("{ends:#?}\n{flows:#?}").into());
    }
    Ok(())
}

fn no_second_connection() -> Result<(), Failed> {
    let stand = Stand::new()?;
    // The client's first connection fails, so its second never comes.
    let steps = [Step::Handshake, Step::Expect("never".into())];
    let client = Peer {
        connections: 2,
        patience_ms: 100,
        ..scripted(&steps)
    };
    let server = scripted(&[Step::Handshake]);
    let ends = drive(&stand.matched(&scenario(&client, &server), Tls::V1_2, Family::Ipv4))?;
    if ends.server.text != "NoConnection" || ends.hung {
        return Err(format!("{ends:#?}").into());
    }
    Ok(())
}

/// Both ends write down the same secrets, also where one is rustls and the other OpenSSL.
fn keys() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let stacks = [Stack::Rustls, Stack::OpenSsl];
    for (tls, wanted) in [
        (Tls::V1_2, &["CLIENT_RANDOM "][..]),
        (
            Tls::V1_3,
            &[
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET ",
                "SERVER_TRAFFIC_SECRET_0 ",
            ],
        ),
    ] {
        for (client, server) in stacks
            .into_iter()
            .flat_map(|one| stacks.map(|two| (one, two)))
        {
            let case = scenario(&of(client), &of(server));
            let ends = drive(&stand.matched(&case, tls, Family::Ipv4))?;
            let sorted = |lines: &[String]| {
                let mut lines = lines.to_vec();
                lines.sort();
                lines
            };
            let (client, server) = (sorted(&ends.client.key_log), sorted(&ends.server.key_log));
            let has = |start: &&str| client.iter().any(|line| line.starts_with(start));
            if client != server || !wanted.iter().all(has) {
                return Err(format!("{tls:?}\n{client:#?}\n{server:#?}").into());
            }
        }
    }
    Ok(())
}

fn raw_tls() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let case = scenario(&raw(&[Step::Handshake]), &peer());
    match drive(&stand.matched(&case, Tls::V1_2, Family::Ipv4)) {
        Err(PeerError::Script { .. }) => Ok(()),
        other => Err(format!("{other:#?}").into()),
    }
}

fn unknown_suite() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let client = Peer {
        suites: Some(vec!["TLS_NULL_WITH_NULL_NULL".into()]),
        ..peer()
    };
    let case = scenario(&client, &peer());
    match drive(&stand.matched(&case, Tls::V1_2, Family::Ipv4)) {
        Err(PeerError::Config { .. }) => Ok(()),
        other => Err(format!("{other:#?}").into()),
    }
}

fn port_in_use() -> Result<(), Failed> {
    let lane = Lane::new(1)?;
    let _held = lane
        .server()
        .run(|| TcpListener::bind(("0.0.0.0", PORT)))??;
    let case = scenario(&peer(), &peer());
    let (tls, family, deadline) = (Tls::V1_2, Family::Ipv4, Duration::from_secs(5));
    let m = Match {
        scenario: &case,
        tls,
        family,
        lane: &lane,
        port: PORT,
        seed: 1,
        deadline,
        key_log: None,
    };
    match drive(&m) {
        Err(PeerError::Socket { .. }) => Ok(()),
        other => Err(format!("{other:#?}").into()),
    }
}

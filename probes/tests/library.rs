//! A failure on the wire and the words of TLS libraries become one event: every order, every kind of word,
//! and everything that must not be joined. No kernel: values in, values out.

use std::time::Duration;

use gauntlet_probes::library::join::{Counts, Heard, Join, Joined, Seen};
use gauntlet_probes::library::names;
use gauntlet_probes::library::ruling::{Revealed, Ruling, Said, Standings, rule};
use gauntlet_wire::Role;
use gauntlet_wire::class::Class;
use gauntlet_wire::library::{ABI, Call, Ends, Facts, Kind, Socket, Stack, Standing, Word};
use gauntlet_wire::record::{TLS1_2, TLS1_3};
use gauntlet_wire::rules::{Cause, Failure};
use proptest::prelude::*;

use Role::{Client, Server};

const MILLISECOND: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_millis(500);
/// When the failure comes, CLOCK_MONOTONIC.
const NOW: u64 = 1_000_000 * MILLISECOND;
/// When the connection was opened.
const OPENED: u64 = NOW - 20 * MILLISECOND;
/// The network namespaces of both ends.
const NETNS: [u32; 2] = [4_026_531_001, 4_026_531_002];
const NEXT: [u32; 2] = [1 << 31, u32::MAX - 100];

fn ends(port: u16) -> Ends {
    let address = |last| {
        let mut bytes = [0; 16];
        bytes[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
        bytes
    };
    Ends {
        local: address(1),
        remote: address(2),
        local_port: port,
        remote_port: 443,
    }
}

const fn failure(cause: Cause, by: Role) -> Failure {
    Failure {
        cause,
        by,
        level: 0,
        description: 0,
        answers_hello: false,
    }
}

fn seen_on(port: u16, cause: Cause, by: Role) -> Seen {
    Seen {
        client: ends(port),
        next: NEXT,
        opened: OPENED,
        version: TLS1_3,
        failure: failure(cause, by),
        undecided: false,
        netns: [0; 2],
    }
}

fn seen(cause: Cause, by: Role) -> Seen {
    seen_on(41_000, cause, by)
}

/// The socket at one end of it, somewhat behind the wire.
fn socket(seen: &Seen, at: Role) -> Socket {
    Socket {
        ends: seen.ends(at),
        sends: seen.next[at as usize].wrapping_sub(300),
        expects: seen.next[at.peer() as usize].wrapping_sub(2_000),
        netns: NETNS[at as usize],
    }
}

fn word(seen: &Seen, at: Role, kind: Kind, code: u32) -> Heard {
    Heard {
        word: Word {
            time: OPENED + MILLISECOND,
            abi: ABI,
            process: 100 + at as u32,
            socket: socket(seen, at),
            code,
            verify_error: 0,
            stack: Stack::OpenSsl as u8,
            kind: kind as u8,
            call: Call::Handshake as u8,
            facts: Facts(0),
            comm: [0; 16],
            reserved: [0; 4],
        },
        executable: format!("the {}", at.name()),
    }
}

/// `certificate verify failed`, for this reason.
fn rejects(seen: &Seen, at: Role, verify_error: u32) -> Heard {
    let mut heard = word(seen, at, Kind::Reason, 134);
    heard.word.verify_error = verify_error;
    heard
}

/// An alert that was received.
fn told(seen: &Seen, at: Role, alert: u32) -> Heard {
    let mut heard = word(seen, at, Kind::Reason, 1_000 + alert);
    heard.word.facts = Facts::DONE;
    heard.word.call = Call::Read as u8;
    heard
}

fn standing(seen: &Seen, at: Role, facts: Facts) -> (Standing, String) {
    let standing = Standing {
        time: OPENED + MILLISECOND,
        socket: socket(seen, at),
        process: 100 + at as u32,
        stack: Stack::OpenSsl as u8,
        facts,
        reserved: [0; 2],
        comm: [0; 16],
    };
    (standing, format!("the {}", at.name()))
}

const NOBODY: Standings = [None, None];

/// What is told at once when these words are there.
fn ruled(seen: &Seen, words: Vec<Heard>, standings: &Standings) -> Ruling {
    let mut join = Join::new(PATIENCE);
    for heard in words {
        join.said(heard, NOW);
    }
    join.failed((), *seen, true, NOW);
    let mut due = join.finish();
    let Joined { words, .. } = due.pop().expect("the failure");
    assert!(due.is_empty());
    rule(seen, &words, standings)
}

fn revealed(seen: &Seen, words: Vec<Heard>) -> Revealed {
    match ruled(seen, words, &NOBODY) {
        Ruling::Failed(revealed) => revealed,
        Ruling::Good => panic!("it was taken for good"),
    }
}

fn said(side: Role, reason: Option<&str>, error: Option<&'static str>) -> Option<Said> {
    Some(Said {
        library: "openssl",
        side: side.name(),
        reason: reason.map(str::to_owned),
        error,
        verify_error: None,
        process: 100 + side as u32,
        executable: format!("the {}", side.name()),
    })
}

#[test]
fn either_half_may_come_first() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let words = || [rejects(&seen, Server, 20), told(&seen, Client, 48)];
    // All orders of failure, rejecting word, receiving word.
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [2, 0, 1],
        [1, 2, 0],
        [2, 1, 0],
    ] {
        let mut join = Join::new(PATIENCE);
        let mut out = Vec::new();
        for (step, what) in order.into_iter().enumerate() {
            let now = NOW + step as u64 * MILLISECOND;
            match what {
                0 => join.failed("it", seen, true, now),
                number => join.said(words()[number - 1].clone(), now),
            }
            out.extend(join.due(now));
        }
        let [joined] = &out[..] else {
            panic!("{order:?}: {} events", out.len());
        };
        assert_eq!(joined.what, "it");
        let Ruling::Failed(revealed) = rule(&joined.seen, &joined.words, &NOBODY) else {
            panic!("{order:?}");
        };
        assert_eq!(revealed.class, Some(Class::UnknownCa), "{order:?}");
        assert_eq!(revealed.alert, Some(48));
        let said = revealed.said.expect("somebody is quoted");
        assert_eq!(said.side, "server", "{order:?}");
        assert_eq!(
            said.verify_error.as_deref(),
            Some("unable to get local issuer certificate")
        );
        assert!(join.finish().is_empty());
        let none = Counts {
            joined: 1,
            unjoined: 0,
            late: 0,
        };
        assert_eq!(join.counts(), none, "{order:?}");
    }
}

#[test]
fn the_rejecting_side_alone_is_enough() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    for (verify_error, alert, class) in [
        (20, 48, Class::UnknownCa),
        (18, 48, Class::UnknownCa),
        (10, 45, Class::CertificateExpired),
        (9, 42, Class::BadCertificate),
        (62, 42, Class::BadCertificate),
        (23, 44, Class::Ssl),
    ] {
        let revealed = revealed(&seen, vec![rejects(&seen, Server, verify_error)]);
        assert_eq!((revealed.alert, revealed.class), (Some(alert), Some(class)));
        let text = revealed.said.and_then(|said| said.verify_error);
        assert_eq!(text, Some(names::verify_error(verify_error)));
    }
}

#[test]
fn the_receiving_side_alone_is_enough() {
    for (cause, by) in [
        (Cause::ClientHiddenAlert, Client),
        (Cause::ServerHiddenAlert, Server),
        (Cause::LateHiddenAlert, Server),
        (Cause::SealedAlert, Client),
    ] {
        let seen = seen(cause, by);
        for (alert, class) in [
            (48, Class::UnknownCa),
            (45, Class::CertificateExpired),
            (42, Class::BadCertificate),
            (49, Class::AccessDenied),
            (70, Class::UnknownProtocol),
            (40, Class::Ssl),
            (120, Class::Ssl),
        ] {
            let mut heard = told(&seen, by.peer(), alert);
            heard.word.facts = Facts(0);
            let revealed = revealed(&seen, vec![heard]);
            assert_eq!(
                (revealed.alert, revealed.class),
                (Some(alert as u8), Some(class))
            );
            assert_eq!(revealed.said.expect("said").side, by.peer().name());
        }
    }
}

#[test]
fn the_receiver_is_believed_where_the_two_differ() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let revealed = revealed(
        &seen,
        vec![rejects(&seen, Server, 20), told(&seen, Client, 42)],
    );
    assert_eq!(
        (revealed.alert, revealed.class),
        (Some(42), Some(Class::BadCertificate))
    );
    assert_eq!(revealed.said.expect("said").side, "server");
}

#[test]
fn an_alert_of_the_other_side_does_not_name_this_one() {
    // The server was told something: that is no alert of its own.
    let seen = seen(Cause::LateHiddenAlert, Server);
    let mut answer = told(&seen, Server, 48);
    answer.word.facts = Facts(0);
    assert_eq!(revealed(&seen, vec![answer]).class, None);
    // The client rejected something: that is not what the server sent.
    assert_eq!(
        revealed(&seen, vec![rejects(&seen, Client, 20)]).class,
        None
    );
}

#[test]
fn a_reason_that_goes_with_several_alerts_is_quoted_and_names_none() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    for heard in [
        word(&seen, Server, Kind::Reason, 123),
        rejects(&seen, Server, 0),
        rejects(&seen, Server, 24),
    ] {
        let code = heard.word.code;
        let revealed = revealed(&seen, vec![heard]);
        assert_eq!((revealed.alert, revealed.class), (None, None));
        let reason = if code == 123 {
            "bad signature"
        } else {
            "certificate verify failed"
        };
        assert_eq!(revealed.said.expect("said").reason.as_deref(), Some(reason));
    }
}

#[test]
fn a_missing_client_certificate_depends_on_the_version() {
    let mut seen = seen(Cause::LateHiddenAlert, Server);
    let heard = word(&seen, Server, Kind::Reason, 199);
    assert_eq!(revealed(&seen, vec![heard.clone()]).alert, Some(116));
    seen.failure.cause = Cause::SealedAlert;
    seen.version = TLS1_2;
    assert_eq!(revealed(&seen, vec![heard]).alert, Some(40));
}

#[test]
fn close_notify_where_an_alert_was_hidden() {
    let seen = seen(Cause::ClientHiddenAlert, Client);
    let revealed = revealed(&seen, vec![word(&seen, Server, Kind::Result, 6)]);
    assert_eq!(
        (revealed.alert, revealed.class),
        (Some(0), Some(Class::ZeroReturn))
    );
    assert_eq!(
        revealed.said,
        said(Server, None, Some("SSL_ERROR_ZERO_RETURN"))
    );
}

#[test]
fn a_good_server_s_goodbye_is_no_failure() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let done = Facts::DONE;
    let read = Facts::DONE.with(Facts::READ);
    assert_eq!(
        ruled(&seen, vec![], &[None, Some(standing(&seen, Server, done))]),
        Ruling::Good
    );
    assert_eq!(
        ruled(&seen, vec![], &[Some(standing(&seen, Client, read)), None]),
        Ruling::Good
    );
    // The client was told of the goodbye, or the server, being done, that the client had gone.
    for (side, kind, code) in [(Client, Kind::Result, 6), (Server, Kind::Reason, 294)] {
        let mut heard = word(&seen, side, kind, code);
        heard.word.facts = Facts::DONE;
        assert_eq!(ruled(&seen, vec![heard], &NOBODY), Ruling::Good);
    }
    // A TLS 1.3 client is done before it is accepted: that proves nothing.
    let client = ruled(&seen, vec![], &[Some(standing(&seen, Client, done)), None]);
    assert_eq!(client, Ruling::Failed(Revealed::default()));
    // Neither does a session that has only begun.
    for facts in [Facts(0), Facts::WAITS] {
        let begun = ruled(&seen, vec![], &[None, Some(standing(&seen, Server, facts))]);
        assert_eq!(begun, Ruling::Failed(Revealed::default()));
    }
}

#[test]
fn an_undecided_handshake_failed_only_if_a_library_says_so() {
    let mut seen = seen(Cause::LateHiddenAlert, Server);
    seen.undecided = true;
    assert_eq!(ruled(&seen, vec![], &NOBODY), Ruling::Good);
    let begun = [None, Some(standing(&seen, Server, Facts::WAITS))];
    assert_eq!(ruled(&seen, vec![], &begun), Ruling::Good);
    for (heard, class) in [
        (rejects(&seen, Server, 20), Some(Class::UnknownCa)),
        (told(&seen, Client, 45), Some(Class::CertificateExpired)),
        // Rejected, and nobody knows with what alert.
        (word(&seen, Server, Kind::Reason, 123), None),
    ] {
        let Ruling::Failed(revealed) = ruled(&seen, vec![heard], &NOBODY) else {
            panic!("{class:?} is a failure");
        };
        assert_eq!(revealed.class, class);
        assert!(revealed.said.is_some());
    }
    // What the client makes of the end of a good connection is no rejection.
    let mut goodbye = word(&seen, Client, Kind::Result, 6);
    goodbye.word.facts = Facts::DONE;
    for heard in [goodbye, word(&seen, Client, Kind::Result, 5)] {
        assert_eq!(ruled(&seen, vec![heard], &NOBODY), Ruling::Good);
    }
}

#[test]
fn only_that_one_shape_may_be_good() {
    for cause in Cause::ALL
        .into_iter()
        .filter(|cause| *cause != Cause::LateHiddenAlert)
    {
        let seen = seen(cause, Server);
        let standings = [
            Some(standing(&seen, Client, Facts::DONE.with(Facts::READ))),
            Some(standing(&seen, Server, Facts::DONE)),
        ];
        assert!(
            matches!(ruled(&seen, vec![], &standings), Ruling::Failed(_)),
            "{cause:?}"
        );
    }
}

#[test]
fn what_the_wire_knows_stays_and_is_explained() {
    let mut seen = seen(Cause::Alert, Client);
    seen.failure.level = 2;
    seen.failure.description = 48;
    let revealed = revealed(&seen, vec![rejects(&seen, Client, 19)]);
    assert_eq!((revealed.class, revealed.alert), (None, None));
    let said = revealed.said.expect("said");
    assert_eq!((said.side, said.error), ("client", Some("SSL_ERROR_SSL")));
    assert_eq!(said.reason.as_deref(), Some("certificate verify failed"));
    // Without words nothing changes.
    assert_eq!(
        ruled(&seen, vec![], &NOBODY),
        Ruling::Failed(Revealed::default())
    );
}

#[test]
fn a_reset_is_what_its_receiver_makes_of_it() {
    for cause in [Cause::Reset, Cause::Fin] {
        let seen = seen(cause, Server);
        let revealed = revealed(&seen, vec![word(&seen, Client, Kind::Result, 5)]);
        assert_eq!(revealed.class, None);
        assert_eq!(revealed.said, said(Client, None, Some("SSL_ERROR_SYSCALL")));
    }
}

#[test]
fn who_waits_in_a_stall_says_so() {
    let seen = seen(Cause::Stall, Server);
    let waiting = [Some(standing(&seen, Client, Facts::WAITS)), None];
    let Ruling::Failed(revealed) = ruled(&seen, vec![], &waiting) else {
        panic!("no failure");
    };
    assert_eq!(
        revealed.said,
        said(Client, None, Some("SSL_ERROR_WANT_READ"))
    );
    // A session that never waited, or was done, or is at the silent end, says nothing.
    for silent in [
        [Some(standing(&seen, Client, Facts(0))), None],
        [
            Some(standing(&seen, Client, Facts::WAITS.with(Facts::DONE))),
            None,
        ],
        [None, Some(standing(&seen, Server, Facts::WAITS))],
    ] {
        assert_eq!(
            ruled(&seen, vec![], &silent),
            Ruling::Failed(Revealed::default())
        );
    }
}

#[test]
fn the_server_s_library_decides_what_alert_40_means() {
    let mut seen = seen(Cause::Alert, Server);
    seen.failure = Failure {
        cause: Cause::Alert,
        by: Server,
        level: 2,
        description: 40,
        answers_hello: true,
    };
    seen.version = 0;
    for (code, class) in [
        (193, Class::NoSharedCipher),
        (101, Class::Ssl),
        (118, Class::Ssl),
    ] {
        let revealed = revealed(&seen, vec![word(&seen, Server, Kind::Reason, code)]);
        assert_eq!(revealed.class, Some(class), "{code}");
    }
    // Its receiver knows no more than the wire.
    assert_eq!(revealed(&seen, vec![told(&seen, Client, 40)]).class, None);
}

#[test]
fn gnutls_says_it_in_two_words() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let gnutls = |at, kind, code| {
        let mut heard = word(&seen, at, kind, code);
        heard.word.stack = Stack::GnuTls as u8;
        heard
    };
    let words = vec![
        gnutls(Server, Kind::Returned, (-43_i32).cast_unsigned()),
        gnutls(Server, Kind::Sent, 2 << 8 | 42),
    ];
    let revealed_at_server = revealed(&seen, words);
    assert_eq!(revealed_at_server.class, Some(Class::BadCertificate));
    let said = revealed_at_server.said.expect("said");
    assert_eq!((said.library, said.error), ("gnutls", None));
    assert_eq!(said.reason.as_deref(), Some("Error in the certificate"));
    let received = revealed(&seen, vec![gnutls(Client, Kind::Received, 49)]);
    assert_eq!(received.class, Some(Class::AccessDenied));
}

/// A callback of the application sends the alert, and another when the handshake has returned.
#[test]
fn gnutls_s_first_alert_is_the_one_and_its_reason_is_waited_for() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let gnutls = |kind, code| {
        let mut heard = word(&seen, Server, kind, code);
        heard.word.stack = Stack::GnuTls as u8;
        heard
    };
    let mut join = Join::new(PATIENCE);
    join.said(gnutls(Kind::Sent, 2 << 8 | 49), NOW);
    join.failed((), seen, true, NOW);
    assert!(join.due(NOW).is_empty(), "the reason is still to come");
    join.said(gnutls(Kind::Returned, (-43_i32).cast_unsigned()), NOW);
    let due = join.due(NOW);
    let Ruling::Failed(revealed) = rule(&seen, &due[0].words, &NOBODY) else {
        panic!("it was taken for good");
    };
    assert_eq!(revealed.class, Some(Class::AccessDenied));
    let reason = revealed.said.and_then(|said| said.reason);
    assert_eq!(reason.as_deref(), Some("Error in the certificate"));
    // The second alert, where it is heard at all, changes nothing.
    let words = [(Kind::Sent, 2 << 8 | 49), (Kind::Sent, 2 << 8 | 42)];
    let words = words.map(|(kind, code)| gnutls(kind, code)).to_vec();
    let Ruling::Failed(revealed) = ruled(&seen, words, &NOBODY) else {
        panic!("it was taken for good");
    };
    assert_eq!(revealed.alert, Some(49));
}

#[test]
fn boringssl_numbers_its_reasons_otherwise() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let mut heard = word(&seen, Server, Kind::Reason, 125);
    heard.word.stack = Stack::BoringSsl as u8;
    heard.word.verify_error = 10;
    let revealed = revealed(&seen, vec![heard]);
    assert_eq!(revealed.class, Some(Class::CertificateExpired));
    assert_eq!(
        revealed.said.expect("said").reason.as_deref(),
        Some("CERTIFICATE_VERIFY_FAILED")
    );
}

/// What is 42 by OpenSSL is 45 by BoringSSL.
#[test]
fn boringssl_derives_its_alert_otherwise() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    for (verify_error, alert) in [(9, 45), (10, 45), (20, 48), (24, 48), (62, 42), (66, 80)] {
        let mut heard = word(&seen, Server, Kind::Reason, 125);
        heard.word.stack = Stack::BoringSsl as u8;
        heard.word.verify_error = verify_error;
        assert_eq!(
            revealed(&seen, vec![heard]).alert,
            Some(alert),
            "{verify_error}"
        );
    }
}

/// Words that look like this connection's and are not.
#[test]
fn another_connection_of_the_same_ports_is_not_this_one() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let good = rejects(&seen, Server, 20);
    let mut strangers = vec![good.clone(); 7];
    strangers[0].word.time = OPENED - 1; // said before the SYN
    strangers[1].word.socket.sends = NEXT[1].wrapping_add(1 << 21); // another one's numbers
    strangers[2].word.socket.expects = NEXT[0].wrapping_sub(1 << 21);
    strangers[3].word.socket.ends.remote_port += 1;
    strangers[4].word.socket.ends.local[15] ^= 1;
    strangers[5].word.socket.ends.local_port -= 1;
    strangers[6].word.socket.ends = seen.ends(Client); // the wrong way round: numbers are swapped
    for (number, stranger) in strangers.into_iter().enumerate() {
        for before in [true, false] {
            let mut join = Join::new(PATIENCE);
            if before {
                join.said(stranger.clone(), NOW);
            }
            join.failed((), seen, true, NOW);
            if !before {
                join.said(stranger.clone(), NOW);
            }
            assert!(join.due(NOW).is_empty(), "{number}: it did not wait");
            let due = join.due(NOW + 500 * MILLISECOND);
            assert_eq!(due[0].words, [vec![], vec![]], "{number}");
            join.finish();
            let counts = Counts {
                joined: 0,
                unjoined: 1,
                late: 0,
            };
            assert_eq!(join.counts(), counts, "{number}");
        }
    }
    // The numbers may wrap, and lie on either side.
    let mut near = good;
    near.word.socket.sends = NEXT[1].wrapping_add(1_000);
    assert_eq!(revealed(&seen, vec![near]).class, Some(Class::UnknownCa));
}

#[test]
fn two_namespaces_with_the_same_ports() {
    let one = seen(Cause::LateHiddenAlert, Server);
    let mut other = one;
    other.next = [NEXT[0].wrapping_add(1 << 30), NEXT[1].wrapping_add(1 << 29)];
    let mut join = Join::new(PATIENCE);
    join.failed(1, one, true, NOW);
    join.failed(2, other, true, NOW);
    join.said(rejects(&other, Server, 10), NOW);
    join.said(rejects(&one, Server, 20), NOW);
    let classes: Vec<_> = join
        .due(NOW)
        .iter()
        .map(|joined| match rule(&joined.seen, &joined.words, &NOBODY) {
            Ruling::Failed(revealed) => (joined.what, revealed.class),
            Ruling::Good => panic!("good"),
        })
        .collect();
    let expected = [
        (1, Some(Class::UnknownCa)),
        (2, Some(Class::CertificateExpired)),
    ];
    assert_eq!(classes, expected);
}

/// Connections of the same addresses that begin at once in two namespaces may have the same ports, and then have
/// the same numbers.
#[test]
fn two_namespaces_with_the_same_ports_and_numbers() {
    let unknown = seen(Cause::Alert, Server);
    let server = [10, 0, 0, 2].into();
    let ours = unknown.within(NETNS[1], &[[10, 0, 0, 9].into(), server]);
    assert_eq!(ours.netns, [0, NETNS[1]]);
    assert_eq!(unknown.within(NETNS[1], &[[10, 0, 0, 9].into()]), unknown);
    let right = rejects(&ours, Server, 10);
    let mut wrong = rejects(&ours, Server, 20);
    wrong.word.socket.netns += 1;
    let mut elsewhere = standing(&ours, Server, Facts::WAITS).0;
    assert!(ours.is_at(Server, &elsewhere));
    elsewhere.socket.netns += 1;
    assert!(!ours.is_at(Server, &elsewhere));
    for (seen, words, expected) in [
        // The watched one is known, and whose word is not its own is not heard.
        (ours, vec![wrong.clone(), right.clone()], Some(10)),
        (ours, vec![wrong.clone()], None),
        // Nothing tells whose words these are: neither is believed.
        (unknown, vec![wrong.clone(), right.clone()], None),
        // What comes alone is believed, whosever it is.
        (unknown, vec![right.clone()], Some(10)),
        (unknown, vec![wrong.clone()], Some(20)),
    ] {
        for before in [true, false] {
            let mut join = Join::new(PATIENCE);
            if !before {
                join.failed((), seen, true, NOW);
            }
            for heard in &words {
                join.said(heard.clone(), NOW);
            }
            if before {
                join.failed((), seen, true, NOW);
            }
            let due = join.finish().pop().expect("the failure");
            let [_, server] = &due.words;
            let errors: Vec<_> = server.iter().map(|heard| heard.word.verify_error).collect();
            assert_eq!(errors, Vec::from_iter(expected), "{words:?}");
            let counts = join.counts();
            let all = counts.joined + counts.unjoined;
            assert_eq!(
                (counts.joined, all),
                (expected.map_or(0, |_| 1), words.len() as u64)
            );
        }
    }
}

#[test]
fn a_failure_waits_only_where_words_may_come() {
    let at = NOW + 500 * MILLISECOND;
    let mut join = Join::new(PATIENCE);
    join.failed(
        "expected",
        seen_on(1, Cause::LateHiddenAlert, Server),
        true,
        NOW,
    );
    join.failed(
        "nobody's",
        seen_on(2, Cause::LateHiddenAlert, Server),
        false,
        NOW,
    );
    join.failed("stalled", seen_on(3, Cause::Stall, Server), true, NOW);
    let names = |due: Vec<Joined<&'static str>>| -> Vec<_> {
        due.into_iter().map(|joined| joined.what).collect()
    };
    assert_eq!(names(join.due(NOW)), ["nobody's", "stalled"]);
    assert_eq!(join.next(), Some(at));
    assert_eq!(names(join.due(at - 1)), Vec::<&str>::new());
    assert_eq!(names(join.due(at)), ["expected"]);
    assert_eq!(join.next(), None);
}

#[test]
fn what_is_said_afterwards_makes_no_second_event() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let mut join = Join::new(PATIENCE);
    join.said(rejects(&seen, Server, 20), NOW);
    join.failed((), seen, true, NOW);
    assert_eq!(join.due(NOW).len(), 1);
    join.said(told(&seen, Client, 48), NOW);
    assert!(join.finish().is_empty());
    assert_eq!(
        join.counts(),
        Counts {
            joined: 1,
            unjoined: 0,
            late: 0
        }
    );
    // Nobody had said anything: then it is late, and counted.
    let mut join = Join::new(PATIENCE);
    join.failed((), seen, false, NOW);
    assert_eq!(join.due(NOW).len(), 1);
    join.said(told(&seen, Client, 48), NOW);
    assert!(join.finish().is_empty());
    assert_eq!(
        join.counts(),
        Counts {
            joined: 0,
            unjoined: 0,
            late: 1
        }
    );
}

#[test]
fn words_are_kept_a_minute_and_then_counted() {
    let seen = seen(Cause::LateHiddenAlert, Server);
    let minute = 60_000 * MILLISECOND;
    for (later, joined) in [(minute - 2 * MILLISECOND, 1), (minute + 2 * MILLISECOND, 0)] {
        let mut join = Join::new(PATIENCE);
        let heard = rejects(&seen, Server, 20);
        let now = heard.word.time + later;
        join.said(heard, NOW);
        join.due(now);
        join.failed((), seen, true, now);
        join.finish();
        assert_eq!(join.counts().joined, joined);
        assert_eq!(join.counts().unjoined, 1 - joined);
    }
}

#[test]
fn room_is_bounded_and_what_it_costs_is_counted() {
    const MANY: u64 = 5_000;
    let mut join = Join::<()>::new(PATIENCE);
    for number in 0..MANY {
        let seen = seen_on(number as u16 + 1, Cause::LateHiddenAlert, Server);
        join.said(rejects(&seen, Server, 20), NOW);
    }
    join.finish();
    assert_eq!(join.counts().unjoined, MANY);
    let mut join = Join::new(PATIENCE);
    let mut out = 0;
    for number in 0..MANY {
        join.failed(
            number,
            seen_on(number as u16 + 1, Cause::LateHiddenAlert, Server),
            true,
            NOW,
        );
        out += join.due(NOW).len();
    }
    assert!(out > 0, "more than there is room for wait");
    assert_eq!(out + join.finish().len(), MANY as usize);
}

/// One step of a random story about a few connections.
#[derive(Debug, Clone)]
enum Step {
    Fails(u16, bool),
    Says(u16, Role, bool),
    Passes(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..6_u16;
    let role = prop_oneof![Just(Client), Just(Server)];
    prop_oneof![
        (port.clone(), any::<bool>()).prop_map(|(port, expected)| Step::Fails(port, expected)),
        (port, role, any::<bool>())
            .prop_map(|(port, role, rejects)| Step::Says(port, role, rejects)),
        (0..1_000_u64).prop_map(Step::Passes),
    ]
}

proptest! {
    /// Every failure comes out once, in its own words only; every word is in an event, or counted, or
    /// about a failure that was told with a word.
    #[test]
    fn nothing_is_lost_or_doubled(steps in prop::collection::vec(step(), 0..40)) {
        let mut join = Join::new(PATIENCE);
        let (mut now, mut number) = (NOW, 0_usize);
        let (mut heard, mut out) = (0_u64, Vec::new());
        for step in steps {
            match step {
                Step::Fails(port, expected) => {
                    join.failed(number, seen_on(port, Cause::LateHiddenAlert, Server), expected, now);
                    number += 1;
                }
                Step::Says(port, role, rejecting) => {
                    let seen = seen_on(port, Cause::LateHiddenAlert, Server);
                    let said = if rejecting { rejects(&seen, role, 20) } else { told(&seen, role, 48) };
                    join.said(said, now);
                    heard += 1;
                }
                Step::Passes(milliseconds) => {
                    now += milliseconds * MILLISECOND;
                    out.extend(join.due(now));
                    prop_assert!(join.next().is_none_or(|next| next > now));
                }
            }
        }
        out.extend(join.finish());
        let mut numbers: Vec<usize> = out.iter().map(|joined| joined.what).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..number).collect::<Vec<_>>());
        let mut used = 0;
        for joined in &out {
            for role in Role::BOTH {
                for heard in &joined.words[role as usize] {
                    prop_assert_eq!(heard.word.socket.ends, joined.seen.ends(role));
                    used += 1;
                }
            }
        }
        let counts = join.counts();
        let with_words = out.iter().filter(|joined| joined.words.iter().any(|words| !words.is_empty()));
        prop_assert_eq!(counts.joined, with_words.count() as u64);
        prop_assert!(used + counts.unjoined + counts.late <= heard);
        if counts.joined == 0 {
            prop_assert_eq!(used + counts.unjoined + counts.late, heard);
        }
    }
}

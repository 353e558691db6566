//! The layouts and numbers that probes in TLS libraries and user space share: pinned, since both sides are
//! compiled apart.

use std::mem::{offset_of, size_of};

use gauntlet_wire::library::{
    ABI, Call, Counter, Ends, Facts, InCall, Kind, Phase, Session, SessionKey, Socket,
    SocketLayout, Stack, Standing, Word,
};
use zerocopy::FromZeros;

macro_rules! layout {
    ($type:ty: $($field:ident),* $(,)?) => {{
        let mut line = format!("{} {} bytes:", stringify!($type), size_of::<$type>());
        $(line += &format!(" {}@{}", stringify!($field), offset_of!($type, $field));)*
        line + "\n"
    }};
}

#[test]
fn layouts_change_only_with_the_abi() {
    let text = [
        layout!(Word: time, abi, process, socket, code, verify_error, stack, kind, call, facts, comm, reserved),
        layout!(Standing: time, socket, process, stack, facts, reserved, comm),
        layout!(Socket: ends, sends, expects, netns),
        layout!(Ends: local, remote, local_port, remote_port),
        layout!(
            SocketLayout: family, protocol, local_v4, remote_v4, local_v6, remote_v6, local_port,
            remote_port, sends, expects, net, netns,
        ),
        layout!(SessionKey: address, process),
        layout!(Session: socket, facts, stack, reserved),
        layout!(
            InCall: session, sock, socket, reason, verify_error, stack, call, facts, phase, empty,
            reserved,
        ),
    ];
    insta::assert_snapshot!(format!("library_layouts_of_abi_{ABI}"), text.concat());
}

#[test]
fn numbers_change_only_with_the_abi() {
    let mut text = String::new();
    for stack in Stack::ALL {
        text += &format!("stack {} {stack:?}\n", *stack as u8);
    }
    for kind in Kind::ALL {
        text += &format!("kind {} {kind:?}\n", *kind as u8);
    }
    for call in Call::ALL {
        text += &format!("call {} {call:?}\n", *call as u8);
    }
    for counter in Counter::ALL {
        text += &format!("counter {} {}\n", *counter as u32, counter.name());
    }
    let facts = [
        Facts::DONE,
        Facts::READ,
        Facts::WAITS,
        Facts::TOLD,
        Facts::ALERTED,
        Facts::BROKEN,
    ];
    text += &format!("facts {:?}\n", facts.map(|fact| fact.0));
    let phases = [Phase::INSIDE, Phase::FAILED, Phase::ASKING];
    text += &format!("phases {:?}\n", phases.map(|phase| phase.0));
    insta::assert_snapshot!(format!("library_numbers_of_abi_{ABI}"), text);
}

#[test]
fn a_session_is_settled_once_nothing_can_be_about_its_handshake() {
    let settled = |facts: &[Facts]| {
        let all = facts.iter().fold(Facts(0), |all, fact| all.with(*fact));
        all.settled()
    };
    assert!(settled(&[Facts::TOLD]));
    assert!(settled(&[Facts::DONE, Facts::READ]));
    // What is learned twice is known as before.
    assert!(settled(&[Facts::DONE, Facts::READ, Facts::DONE]));
    // A TLS 1.3 client is done before it is accepted, and a broken connection may still tell why.
    for facts in [
        &[][..],
        &[Facts::DONE],
        &[Facts::DONE, Facts::WAITS, Facts::BROKEN],
        &[Facts::ALERTED],
    ] {
        assert!(!settled(facts), "{facts:?}");
    }
}

#[test]
fn numbers_are_read_back_and_others_are_none() {
    for number in 0..=u8::MAX {
        if let Some(kind) = Kind::from_number(number) {
            assert!(kind as u8 == number && Kind::ALL.contains(&kind));
        }
        if let Some(stack) = Stack::from_number(number) {
            assert!(stack as u8 == number && Stack::ALL.contains(&stack));
        }
    }
    for kind in Kind::ALL {
        assert_eq!(Kind::from_number(*kind as u8), Some(*kind));
    }
    assert_eq!(Kind::from_number(u8::MAX), None);
    assert_eq!(Stack::from_number(u8::MAX), None);
}

#[test]
fn a_socket_is_known_by_its_port() {
    let mut socket = Socket::new_zeroed();
    assert!(!socket.known());
    socket.ends.local_port = 1;
    assert!(socket.known());
}

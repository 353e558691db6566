//! The numbers and layouts that cross the kernel boundary, and the words that reports have for them, pinned.

use core::mem::{offset_of, size_of};

use gauntlet_wire::Role;
use gauntlet_wire::alert;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::{ClassCount, Counter};
use gauntlet_wire::event::{ABI, Event, Verdict};
use gauntlet_wire::flow::{
    CAPTURE, CERTIFICATE_AT, CERTIFICATE_BYTES, Flow, HELLO_AT, HELLO_SPACE, RANDOM_AT,
    RANDOM_BYTES, SEALED_AT, SEALED_BYTES,
};
use gauntlet_wire::handshake;
use gauntlet_wire::packet::{Endpoint, FlowKey};
use gauntlet_wire::record::version_name;
use gauntlet_wire::rules::Cause;
use gauntlet_wire::side::{Side, Stage};
use gauntlet_wire::window::{Piece as WindowPiece, Window, WindowKey};
use zerocopy::FromZeros;

#[test]
fn numbers_that_cross_the_kernel_boundary_are_pinned() {
    let mut text = String::new();
    for class in Class::ALL {
        assert_eq!(Class::from_number(class as u8), Some(class));
        assert_eq!(Class::from_name(class.name()), Some(class));
        let (layer, again) = (class.layer().name(), class.retryable());
        text += &format!(
            "class {} {} {layer} retryable={again}\n",
            class as u8,
            class.name()
        );
    }
    for cause in Cause::ALL {
        assert_eq!(Cause::from_number(cause as u8), Some(cause));
        text += &format!(
            "cause {} {cause:?} hidden={}\n",
            cause as u8,
            cause.hidden_alert()
        );
    }
    for counter in Counter::ALL {
        let (name, loss) = (counter.name(), counter.is_loss());
        text += &format!("counter {} {name} loss={loss}\n", counter as u32);
    }
    for stage in Stage::ALL {
        text += &format!("stage {} {}\n", stage.0, stage.name());
    }
    for role in Role::BOTH {
        assert_eq!(Role::from_bit(role as u8), role);
        assert_eq!(role.peer().peer(), role);
        text += &format!("role {} {}\n", role as u8, role.name());
    }
    insta::assert_snapshot!(format!("numbers_of_abi_{ABI}"), text);
    let unknown = |number: u8| Class::from_number(number).is_none();
    assert!((0..=0).chain(12..=255).all(unknown));
    let unknown = |number: u8| Cause::from_number(number).is_none();
    assert!((0..=0).chain(11..=255).all(unknown));
    assert_eq!(Stage(12).name(), "unknown");
}

#[test]
fn words_of_reports_are_pinned() {
    let mut text = String::new();
    for number in 0..=255 {
        if let Some(name) = alert::name(number) {
            text += &format!("alert {number} {name}\n");
        }
        if let Some(name) = alert::level_name(number) {
            text += &format!("level {number} {name}\n");
        }
        let letter = char::from(handshake::letter(number));
        if letter != 'z' {
            text += &format!("letter {number} {letter}\n");
        }
    }
    for version in 0..=u16::MAX {
        if let Some(name) = version_name(version) {
            text += &format!("version {version:#06x} {name}\n");
        }
    }
    insta::assert_snapshot!("words", text);
}

macro_rules! layout {
    ($type:ident: $($field:ident),* $(,)?) => {{
        // Exhaustive, so that a new field must be listed here.
        let $type { $($field: _),* } = $type::new_zeroed();
        let mut text = format!("{} {}\n", stringify!($type), size_of::<$type>());
        $(text += &format!("  {} {}\n", offset_of!($type, $field), stringify!($field));)*
        text
    }};
}

#[test]
fn layouts_that_cross_the_kernel_boundary_change_only_with_the_abi() {
    let text = [
        layout!(Event: flow, time, abi, ifindex, key, verdict, undecided, reserved),
        layout!(Verdict: class, cause, by, level, description, answers_hello),
        layout!(FlowKey: addresses, ports),
        layout!(Endpoint: address, port),
        layout!(ClassCount: count, last_seen),
        layout!(Flow: sides, opened, cgroups, ifindex, known, client_first, preamble, reserved, bytes),
        layout!(
            Side: progress, next, message_left, skip, mark, ahead, heard, record_left, capture_left,
            capture_at, hello_len, certificate_len, version, suite, pending_version, flags, stage,
            framing, field, message_type, header_have, have, need, history_len, header, gathered,
            history, history_peer, sealed_len, turns, waits, settled, drained,
        ),
        layout!(WindowKey: flow, role, reserved),
        layout!(WindowPiece: from, to, acknowledged, flags, held, reserved),
        layout!(Window: opened, base, reserved, incoming, pieces, bytes),
    ];
    insta::assert_snapshot!(format!("layouts_of_abi_{ABI}"), text.concat());
}

/// What is kept for the report lies piece behind piece, from the first byte to the last.
#[test]
fn no_captured_piece_reaches_into_another() {
    let pieces = [
        (HELLO_AT[0], usize::from(HELLO_SPACE[0])),
        (HELLO_AT[1], usize::from(HELLO_SPACE[1])),
        (CERTIFICATE_AT[0], CERTIFICATE_BYTES),
        (CERTIFICATE_AT[1], CERTIFICATE_BYTES),
        (RANDOM_AT, RANDOM_BYTES),
        (SEALED_AT[0], SEALED_BYTES),
        (SEALED_AT[1], SEALED_BYTES),
    ];
    let mut end = 0;
    for (at, length) in pieces {
        assert_eq!(usize::from(at), end);
        end += length;
    }
    assert_eq!(end, CAPTURE);
}

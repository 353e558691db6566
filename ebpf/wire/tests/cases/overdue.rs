//! When silence is long enough to mean something: a handshake that is under way is waited for less long than a
//! connection that never began one.

use gauntlet_wire::flow::Flow;
use gauntlet_wire::rules::Outcome;
use gauntlet_wire::side::{Side, Stage};
use zerocopy::FromZeros;

const PATIENCE: u64 = 10;
const IDLE: u64 = 100;

/// A flow that was opened at 1000, with something said at 1005.
fn flow(client: Stage, known: bool) -> Flow {
    let mut flow = Flow::new_zeroed();
    flow.open(1_000, 1, known, true);
    flow.sides[0].stage = client;
    flow.sides[0].progress = 1_005;
    flow
}

#[test]
fn a_handshake_that_is_under_way_is_waited_for_and_then_failed() {
    for stage in [Stage::GREETING, Stage::HELLO] {
        let flow = flow(stage, false);
        assert_eq!(flow.overdue(1_014, PATIENCE, IDLE), None);
        let overdue = flow.overdue(1_015, PATIENCE, IDLE);
        assert!(matches!(overdue, Some(Outcome::Failed(_))), "{stage:?}");
        // A clock that is read before the packet's is no reason to end it.
        assert_eq!(flow.overdue(7, PATIENCE, IDLE), None);
    }
}

#[test]
fn a_connection_without_a_handshake_is_forgotten_later() {
    for stage in [Stage::SILENT, Stage::FOREIGN, Stage::CONNECT] {
        let flow = flow(stage, false);
        assert_eq!(flow.overdue(1_104, PATIENCE, IDLE), None, "{stage:?}");
        let overdue = flow.overdue(1_105, PATIENCE, IDLE);
        assert_eq!(overdue, Some(Outcome::Ignore), "{stage:?}");
        // Whichever is longer.
        assert_eq!(flow.overdue(1_204, 200, IDLE), None);
        assert!(flow.overdue(1_205, 200, IDLE).is_some());
    }
}

#[test]
fn a_connect_to_a_server_that_speaks_tls_is_not_waited_for_so_long() {
    let asked = flow(Stage::CONNECT, true);
    assert_eq!(asked.overdue(1_014, PATIENCE, IDLE), None);
    let overdue = asked.overdue(1_015, PATIENCE, IDLE);
    assert!(matches!(overdue, Some(Outcome::Failed(_))));
    // Anything else to it is as it is elsewhere.
    assert_eq!(
        flow(Stage::SILENT, true).overdue(1_015, PATIENCE, IDLE),
        None
    );
}

/// Whichever side it is that says so, or both.
#[test]
fn a_flow_that_was_told_of_is_known_by_either_side() {
    for (told, flags) in [
        (false, [0, 0]),
        (true, [Side::TOLD, 0]),
        (true, [0, Side::TOLD]),
        (true, [Side::TOLD, Side::TOLD]),
    ] {
        let mut flow = Flow::new_zeroed();
        for (side, flags) in flow.sides.iter_mut().zip(flags) {
            side.flags = flags;
        }
        assert_eq!(flow.told(), told, "{flags:?}");
    }
}

//! tcx: the kernel detaches with the process, whatever ended it, and nobody else's program.

use aya::programs::{SchedClassifier, TcAttachType};
use gauntlet_probes::attach::Hook;
use gauntlet_probes::interfaces::Selection;
use gauntlet_probes::probe::Probe;
use libtest_mimic::{Failed, Trial};

use crate::clsact::{SMALL, same};
use crate::raw::{UNKNOWN_CA, fail};
use crate::stand::{SERVER, Stand, server_addresses, tc};
use crate::watch::Watch;

const TCX: [&str; 4] = ["-i", SERVER, "--hook", "tcx"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("tcx::sigkill_leaves_nothing_and_others_stay", || {
            let stand = Stand::new()?;
            let other = Probe::start(
                &stand.server,
                &Selection {
                    interfaces: vec![SERVER.into()],
                    hook: Hook::Tcx,
                    later: false,
                },
                &SMALL,
            )?;
            let alone = attached(&stand)?;
            same([alone[0].len(), alone[1].len()], [1, 1])?;
            for end in [
                |watch: Watch| watch.kill().map(drop),
                |watch: Watch| watch.finish().map(drop),
            ] {
                let mut watch = Watch::start(&stand.server, &TCX)?;
                same(attached(&stand)?.map(|programs| programs.len()), [2, 2])?;
                fail(&stand, server_addresses()[0], "tcx.test", UNKNOWN_CA)?;
                watch.event_of("tcx.test")?;
                end(watch)?;
                same(attached(&stand)?, alone.clone())?;
            }
            drop(other);
            same(attached(&stand)?, [Vec::new(), Vec::new()])
        }),
        Trial::test("tcx::others_come_and_go_and_it_stays", || {
            let stand = Stand::new()?;
            let mut watch = Watch::start(&stand.server, &TCX)?;
            let other = Watch::start(&stand.server, &TCX)?;
            fail(&stand, server_addresses()[0], "beside.test", UNKNOWN_CA)?;
            watch.event_of("beside.test")?;
            other.kill()?;
            fail(&stand, server_addresses()[0], "after.test", UNKNOWN_CA)?;
            watch.event_of("after.test")?;
            same(watch.finish()?.events.len(), 2)
        }),
        Trial::test("tcx::is_what_auto_takes_where_it_is_there", || {
            let stand = Stand::new()?;
            let watch = Watch::start(&stand.server, &["-i", SERVER])?;
            same(attached(&stand)?.map(|programs| programs.len()), [1, 1])?;
            same(
                tc(&stand.server, "qdisc show dev s0")?.contains("clsact"),
                false,
            )?;
            watch.finish()?;
            same(attached(&stand)?, [Vec::new(), Vec::new()])
        }),
    ]
}

/// Ids of the programs at both directions.
fn attached(stand: &Stand) -> Result<[Vec<u32>; 2], Failed> {
    let query = |direction| -> Result<Vec<u32>, Failed> {
        let (_, programs) = stand
            .server
            .run(|| SchedClassifier::query_tcx(SERVER, direction))??;
        Ok(programs
            .iter()
            .map(aya::programs::ProgramInfo::id)
            .collect())
    };
    Ok([query(TcAttachType::Ingress)?, query(TcAttachType::Egress)?])
}

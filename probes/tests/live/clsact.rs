//! `--hook clsact`: filters outlive their process, so every way to end is tried.

use std::num::NonZeroU32;
use std::process::Command;
use std::thread;

use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use gauntlet_probes::load::{self, Settings, load};
use gauntlet_probes::object;
use gauntlet_probes::transport::Transport;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::interfaces::{attached, until};
use crate::raw::{UNKNOWN_CA, fail};
use crate::stand::{SERVER, Stand, ip, output, server_addresses, tc};
use crate::watch::{PROBE, Watch, refused};

const CLSACT: [&str; 4] = ["-i", SERVER, "--hook", "clsact"];
/// The program's name, as `tc` shows it.
const OURS: &str = "gauntlet_watch";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("clsact::nothing_is_left_after_the_end", || {
            for signal in [Signal::SIGTERM, Signal::SIGINT] {
                let stand = Stand::new()?;
                let watch = Watch::start(&stand.server, &CLSACT)?;
                same(count(&stand)?, [1, 1])?;
                let mut watch = reports(&stand, watch)?;
                fail(&stand, server_addresses()[1], "b.test", UNKNOWN_CA)?;
                watch.event_of("b.test")?;
                same(watch.end(signal)?.events.len(), 2)?;
                bare(&stand)?;
            }
            Ok(())
        }),
        Trial::test("clsact::what_others_have_there_stays", || {
            let stand = Stand::new()?;
            tc(&stand.server, "qdisc add dev s0 clsact")?;
            let other = Other::attach(&stand)?;
            let before = others(&stand)?;
            same(before.matches(Other::HANDLE).count(), 2)?;
            let watch = Watch::start(&stand.server, &CLSACT)?;
            reports(&stand, watch)?.finish()?;
            same(others(&stand)?, before.clone())?;
            // Neither do two probes, nor one that is killed, make it theirs.
            let killed = Watch::start(&stand.server, &CLSACT)?;
            killed.kill()?;
            Watch::start(&stand.server, &CLSACT)?.finish()?;
            same(others(&stand)?, before)?;
            drop(other);
            same(
                tc(&stand.server, "qdisc show dev s0")?.contains("clsact"),
                true,
            )
        }),
        Trial::test("clsact::a_filter_that_came_later_keeps_the_qdisc", || {
            let stand = Stand::new()?;
            let watch = Watch::start(&stand.server, &CLSACT)?;
            let other = Other::attach(&stand)?;
            reports(&stand, watch)?.finish()?;
            same(others(&stand)?.matches(Other::HANDLE).count(), 2)?;
            same(count(&stand)?, [1, 1])?;
            drop(other);
            same(
                tc(&stand.server, "qdisc show dev s0")?.contains("clsact"),
                true,
            )
        }),
        Trial::test("clsact::others_come_and_go_and_it_stays", || {
            let stand = Stand::new()?;
            let mut watch = Watch::start(&stand.server, &CLSACT)?;
            let other = Other::attach(&stand)?;
            fail(&stand, server_addresses()[0], "beside.test", UNKNOWN_CA)?;
            watch.event_of("beside.test")?;
            for direction in ["ingress", "egress"] {
                tc(
                    &stand.server,
                    &format!("filter del dev s0 {direction} pref 60000"),
                )?;
            }
            same(others(&stand)?.matches(Other::HANDLE).count(), 0)?;
            fail(&stand, server_addresses()[0], "after.test", UNKNOWN_CA)?;
            watch.event_of("after.test")?;
            drop(other);
            same(watch.finish()?.events.len(), 2)
        }),
        Trial::test("clsact::the_next_start_removes_what_sigkill_left", || {
            let stand = Stand::new()?;
            reports(&stand, Watch::start(&stand.server, &CLSACT)?)?.kill()?;
            same(count(&stand)?, [1, 1])?;
            // Traffic flows through what is left.
            fail(&stand, server_addresses()[0], "unseen.test", UNKNOWN_CA)?;
            let watch = Watch::start(&stand.server, &CLSACT)?;
            same(count(&stand)?, [1, 1])?;
            reports(&stand, watch)?.finish()?;
            bare(&stand)
        }),
        Trial::test("clsact::two_starts_at_once_after_sigkill", || {
            let stand = Stand::new()?;
            for _ in 0..3 {
                let watch = Watch::start(&stand.server, &CLSACT)?;
                Watch::start(&stand.server, &CLSACT)?.kill()?;
                watch.kill()?;
                same(count(&stand)?, [2, 2])?;
                let start = || Watch::start(&stand.server, &CLSACT);
                let (one, other) = thread::scope(|scope| {
                    let other = scope.spawn(start);
                    (start(), other.join())
                });
                let (mut one, mut other) = (one?, other.map_err(|_| "panic")??);
                same(count(&stand)?, [2, 2])?;
                fail(&stand, server_addresses()[0], "both.test", UNKNOWN_CA)?;
                one.event_of("both.test")?;
                other.event_of("both.test")?;
                // Both end at once too, and neither leaves the qdisc to the other.
                let (one, other) = thread::scope(|scope| {
                    let other = scope.spawn(|| other.finish());
                    (one.finish(), other.join())
                });
                same(
                    (one?.events.len(), other.map_err(|_| "panic")??.events.len()),
                    (1, 1),
                )?;
                bare(&stand)?;
            }
            Ok(())
        }),
        Trial::test("clsact::a_second_probe_leaves_a_live_one_alone", || {
            let stand = Stand::new()?;
            let mut first = Watch::start(&stand.server, &CLSACT)?;
            for name in ["one.test", "two.test"] {
                let mut second = Watch::start(&stand.server, &CLSACT)?;
                same(count(&stand)?, [2, 2])?;
                fail(&stand, server_addresses()[1], name, UNKNOWN_CA)?;
                first.event_of(name)?;
                second.event_of(name)?;
                second.finish()?;
                same(count(&stand)?, [1, 1])?;
            }
            // The one that made the qdisc goes first, the other cleans up.
            let mut second = Watch::start(&stand.server, &CLSACT)?;
            same(first.finish()?.events.len(), 2)?;
            fail(&stand, server_addresses()[0], "three.test", UNKNOWN_CA)?;
            second.event_of("three.test")?;
            second.finish()?;
            bare(&stand)
        }),
        Trial::test("clsact::more_probes_than_slots_is_one_clear_line", || {
            let stand = Stand::new()?;
            let watches = (0..8)
                .map(|_| Watch::start(&stand.server, &CLSACT))
                .collect::<Result<Vec<_>, _>>()?;
            same(
                no(&stand)?,
                "mtls-probe: interface s0: clsact: 8 probes watch it already\n".into(),
            )?;
            for watch in watches {
                watch.finish()?;
            }
            bare(&stand)
        }),
        Trial::test("clsact::an_ingress_qdisc_is_in_the_way_and_stays", || {
            let stand = Stand::new()?;
            tc(&stand.server, "qdisc add dev s0 ingress")?;
            same(
                no(&stand)?,
                "mtls-probe: interface s0: its ingress qdisc leaves no room for clsact, which sees \
                 both directions\n"
                    .into(),
            )?;
            same(
                tc(&stand.server, "qdisc show dev s0")?.contains("qdisc ingress"),
                true,
            )?;
            // tcx does not mind.
            let watch = Watch::start(&stand.server, &["-i", SERVER])?;
            reports(&stand, watch)?.finish().map(drop)
        }),
        Trial::test("clsact::an_interface_that_vanishes_ends_nothing", || {
            let stand = Stand::new()?;
            ip(&stand.server, "link add d0 type veth peer name d1")?;
            let watch = Watch::start(
                &stand.server,
                &["-i", SERVER, "-i", "d0", "--hook", "clsact"],
            )?;
            // Another of that name comes with somebody else's qdisc, before the probe has noticed.
            watch.stop()?;
            ip(&stand.server, "link del d0")?;
            ip(&stand.server, "link add d0 type veth peer name d1")?;
            tc(&stand.server, "qdisc add dev d0 clsact")?;
            watch.signal(Signal::SIGCONT)?;
            until(|| attached(&stand.server, "clsact", "d0"))?;
            reports(&stand, watch)?.finish()?;
            bare(&stand)?;
            same(
                tc(&stand.server, "qdisc show dev d0")?.contains("clsact"),
                true,
            )
        }),
        Trial::test("clsact::interface_names_with_odd_characters", || {
            let stand = Stand::new()?;
            for (number, odd) in ["a\"c{}", "gr\u{fc}n\u{1b}[1m", "-x", "a;b$(c)'d"]
                .into_iter()
                .enumerate()
            {
                let mut add = Command::new("ip");
                add.args(["link", "add", "name", odd, "type", "veth", "peer", "name"]);
                output(&stand.server, add.arg(format!("p{number}")))?;
            }
            for hook in ["clsact", "tcx"] {
                let watch = Watch::start(&stand.server, &["--hook", hook])?;
                reports(&stand, watch)?.finish()?;
            }
            bare(&stand)
        }),
    ]
}

/// One failure comes out.
fn reports(stand: &Stand, mut watch: Watch) -> Result<Watch, Failed> {
    fail(stand, server_addresses()[0], "reports.test", UNKNOWN_CA)?;
    watch.event_of("reports.test")?;
    Ok(watch)
}

/// The line of a start that must not succeed.
fn no(stand: &Stand) -> Result<String, Failed> {
    let mut command = Command::new(PROBE);
    let (code, _, errors) = refused(&stand.server, command.arg("watch").args(CLSACT))?;
    same(code, Some(2))?;
    Ok(errors)
}

/// Our filters, ingress and egress.
fn count(stand: &Stand) -> Result<[usize; 2], Failed> {
    let mut found = [0; 2];
    for (found, direction) in found.iter_mut().zip(["ingress", "egress"]) {
        let shown = tc(
            &stand.server,
            &format!("filter show dev {SERVER} {direction}"),
        )?;
        *found = shown.lines().filter(|line| line.contains(OURS)).count();
    }
    Ok(found)
}

/// Qdiscs and filters of everybody, the filters' changing statistics left out.
fn others(stand: &Stand) -> Result<String, Failed> {
    let mut all = tc(&stand.server, &format!("qdisc show dev {SERVER}"))?;
    for direction in ["ingress", "egress"] {
        all += &tc(
            &stand.server,
            &format!("filter show dev {SERVER} {direction}"),
        )?;
    }
    Ok(all)
}

/// Neither filters nor the qdisc.
fn bare(stand: &Stand) -> Result<(), Failed> {
    let qdiscs = tc(&stand.server, &format!("qdisc show dev {SERVER}"))?;
    if qdiscs.contains("clsact") {
        return Err(format!("left behind: {qdiscs}").into());
    }
    same(count(stand)?, [0, 0])
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Failed> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, found {found:?}").into())
    }
}

/// Somebody else's filters: the same program, by a handle and a priority of their own.
struct Other(#[expect(dead_code, reason = "its filters go with it")] Ebpf);

impl Other {
    /// As `tc` shows it.
    const HANDLE: &str = "handle 0x4d2 ";

    fn attach(stand: &Stand) -> Result<Self, Failed> {
        let mut ebpf = load(&SMALL, object::INTERFACE)?;
        let program: &mut SchedClassifier = load::program(&mut ebpf, object::INTERFACE.watch)?;
        stand.server.run(|| {
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                let options = NlOptions {
                    priority: 60_000,
                    handle: 0x4d2.into(),
                    ..NlOptions::default()
                };
                program.attach_with_options(
                    SERVER,
                    direction,
                    TcAttachOptions::Netlink(options),
                )?;
            }
            Ok::<(), aya::programs::ProgramError>(())
        })??;
        Ok(Self(ebpf))
    }
}

/// Maps as small as they can be.
pub(crate) const SMALL: Settings = Settings {
    capture_time: false,
    glance: true,
    transport: Transport::Ring,
    flows: NonZeroU32::MIN,
    ring_bytes: NonZeroU32::MIN.saturating_add(4095),
    tls_ports: Vec::new(),
};

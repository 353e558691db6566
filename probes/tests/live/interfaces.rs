//! Interfaces that come and go while the probe runs: watched from when they come, let go of when they are
//! gone, and all of it counted.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use gauntlet_probes::netns::NetNs;
use libtest_mimic::{Failed, Trial};

use crate::clsact::same;
use crate::raw::{Connection, UNKNOWN_CA, alert, client_hello, fail};
use crate::stand::{SERVER, Stand, ip, output, server_addresses, tc};
use crate::watch::{Ended, PATIENCE, Watch};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for hook in [TCX, CLSACT] {
        let mut trial = |name: &str, run: fn(&'static str) -> Result<(), Failed>| {
            let name = format!("interfaces::{name}::{hook}");
            trials.push(Trial::test(name, move || run(hook)));
        };
        trial(
            "one_that_comes_is_watched_and_let_go_of_when_it_is_gone",
            comes_and_goes,
        );
        trial(
            "one_asked_for_by_name_is_watched_again_when_it_comes_back",
            comes_back,
        );
        trial("one_that_is_called_something_else_is_let_go_of", renamed);
    }
    trials.push(Trial::test(
        "interfaces::one_that_cannot_be_attached_to_is_told_and_counted",
        no_room,
    ));
    trials
}

const TCX: &str = "tcx";
const CLSACT: &str = "clsact";

fn comes_and_goes(hook: &'static str) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["--hook", hook])?;
    for (round, name) in ["s1", "s2"].into_iter().enumerate() {
        pair(&stand, name, round)?;
        until(|| attached(&stand.server, hook, name))?;
        let mut connection = Connection::open(
            &stand,
            (server(round).parse::<std::net::IpAddr>()?, 0).into(),
        )?;
        connection.say(&client_hello(name))?;
        connection.say(&alert(UNKNOWN_CA))?;
        connection.close()?;
        let event = watch.event_of(name)?;
        same(event["network.interface.name"].as_str(), Some(name))?;
        same(
            event["network.local.address"].as_str(),
            Some(server(round).as_str()),
        )?;
        ip(&stand.server, &format!("link del {name}"))?;
    }
    // It comes after the others went, so they have been let go of when it is watched.
    pair(&stand, "s3", 2)?;
    until(|| attached(&stand.server, hook, "s3"))?;
    // Those that stay are watched as before.
    fail(&stand, server_addresses()[0], "stays.test", UNKNOWN_CA)?;
    watch.event_of("stays.test")?;
    let ended = watch.finish()?;
    same((ended.events.len(), ended.lost()), (3, 0))?;
    same(changes(&ended), [5, 2, 0])
}

fn comes_back(hook: &'static str) -> Result<(), Failed> {
    let stand = Stand::new()?;
    pair(&stand, "s1", 0)?;
    let mut watch = Watch::start(&stand.server, &["--hook", hook, "-i", "s1"])?;
    // One that is not asked for comes as well.
    pair(&stand, "s9", 1)?;
    ip(&stand.server, "link del s1")?;
    pair(&stand, "s1", 0)?;
    until(|| attached(&stand.server, hook, "s1"))?;
    same(attached(&stand.server, hook, "s9")?, false)?;
    same(attached(&stand.server, hook, SERVER)?, false)?;
    let mut connection =
        Connection::open(&stand, (server(0).parse::<std::net::IpAddr>()?, 0).into())?;
    connection.say(&client_hello("back.test"))?;
    connection.say(&alert(UNKNOWN_CA))?;
    connection.close()?;
    watch.event_of("back.test")?;
    same(changes(&watch.finish()?), [2, 1, 0])
}

fn renamed(hook: &'static str) -> Result<(), Failed> {
    let stand = Stand::new()?;
    pair(&stand, "s1", 0)?;
    let watch = Watch::start(&stand.server, &["--hook", hook, "-i", "s1"])?;
    same(attached(&stand.server, hook, "s1")?, true)?;
    rename(&stand.server, "s1", "other")?;
    until(|| Ok(!attached(&stand.server, hook, "other")?))?;
    rename(&stand.server, "other", "s1")?;
    until(|| attached(&stand.server, hook, "s1"))?;
    let ended = watch.finish()?;
    same(changes(&ended), [2, 1, 0])?;
    same(attached(&stand.server, hook, "s1")?, false)
}

/// An interface that comes with a qdisc that leaves no room.
fn no_room() -> Result<(), Failed> {
    let stand = Stand::new()?;
    pair(&stand, "s1", 0)?;
    let watch = Watch::start(&stand.server, &["--hook", CLSACT, "-i", "s1"])?;
    rename(&stand.server, "s1", "other")?;
    until(|| {
        let qdiscs = tc(&stand.server, "qdisc show dev other")?;
        Ok(!qdiscs.contains("clsact"))
    })?;
    tc(&stand.server, "qdisc add dev other ingress")?;
    rename(&stand.server, "other", "s1")?;
    same(
        watch.complaint()?.as_str(),
        "mtls-probe: not watched: interface s1: its ingress qdisc leaves no room for clsact, which sees both directions",
    )?;
    // It is not told again for every change.
    pair(&stand, "s2", 1)?;
    ip(&stand.server, "link del s2")?;
    // As soon as there is room, and it comes again, it is watched.
    rename(&stand.server, "s1", "other")?;
    tc(&stand.server, "qdisc del dev other ingress")?;
    rename(&stand.server, "other", "s1")?;
    until(|| attached(&stand.server, CLSACT, "s1"))?;
    let ended = watch.finish()?;
    same(changes(&ended), [2, 1, 1])?;
    same(ended.lost(), 1)
}

/// A pair of the stand, the server's end with this name and both with addresses.
fn pair(stand: &Stand, name: &str, round: usize) -> Result<(), Failed> {
    let there = stand.server.path();
    let there = there.display();
    ip(
        &stand.client,
        &format!("link add c-{name} type veth peer name {name} netns {there}"),
    )?;
    ip(
        &stand.client,
        &format!("addr add 10.{}.0.1/24 dev c-{name}", 80 + round),
    )?;
    ip(&stand.client, &format!("link set c-{name} up"))?;
    ip(
        &stand.server,
        &format!("addr add {}/24 dev {name}", server(round)),
    )?;
    ip(&stand.server, &format!("link set {name} up"))
}

fn server(round: usize) -> String {
    format!("10.{}.0.2", 80 + round)
}

/// Before 6.2 an interface has to be down for it.
fn rename(namespace: &NetNs, from: &str, to: &str) -> Result<(), Failed> {
    ip(namespace, &format!("link set {from} down"))?;
    ip(namespace, &format!("link set {from} name {to}"))?;
    ip(namespace, &format!("link set {to} up"))
}

/// Attached, detached while watching, failed.
fn changes(ended: &Ended) -> [u64; 3] {
    ["attached", "detached", "attach_failed"].map(|what| ended.count(&format!("interface_{what}")))
}

/// Whether both directions of an interface are attached to.
pub(crate) fn attached(namespace: &NetNs, hook: &str, interface: &str) -> Result<bool, Failed> {
    if hook == CLSACT {
        for direction in ["ingress", "egress"] {
            let mut show = Command::new("tc");
            show.args(["filter", "show", "dev", interface, direction]);
            if !output(namespace, &mut show)?.contains("gauntlet_watch") {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        let (_, programs) =
            namespace.run(|| SchedClassifier::query_tcx(interface, direction))??;
        if programs.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until something is so.
pub(crate) fn until(mut so: impl FnMut() -> Result<bool, Failed>) -> Result<(), Failed> {
    let deadline = Instant::now() + PATIENCE;
    while !so()? {
        if Instant::now() > deadline {
            return Err("it never came to be so".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

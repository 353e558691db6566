//! Every way not to start, and every way to end: exit code, one clear line, nothing else.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::clsact::same;
use crate::raw::{UNKNOWN_CA, fail};
use crate::stand::{SERVER, Stand, ip, server_addresses};
use crate::watch::{PROBE, Watch, public_copy, refused};

/// Arguments, exit code, and what the line begins with.
const REFUSED: &[(&[&str], i32, &str)] = &[
    (
        &["-i", "nope"],
        2,
        "mtls-probe: interface nope: there is none of that name in network namespace of this process",
    ),
    (
        &["-i", "s0", "-i", ""],
        2,
        "mtls-probe: interface : there is none of that name",
    ),
    (
        &["--netns", "nope"],
        2,
        "mtls-probe: network namespace nope: cannot be opened: No such file or directory (os error 2)",
    ),
    (
        &["--netns", "/dev/null"],
        2,
        "mtls-probe: network namespace /dev/null: cannot be entered: Invalid argument (os error 22)",
    ),
    (
        &["-i", "s0", "--max-handshakes", "4294967295"],
        2,
        "mtls-probe: the BPF object cannot be loaded: map error: failed to create map `FLOWS`: Argument list too long",
    ),
    (
        &["--keylog", "/dev"],
        64,
        "mtls-probe: key log /dev: not a regular file",
    ),
    (
        &["--keylog", "/nowhere/keys.log"],
        64,
        "mtls-probe: key log /nowhere/keys.log: its folder cannot be watched: ENOENT",
    ),
    (
        &["--stall-after", "soon"],
        64,
        "mtls-probe: invalid value 'soon' for '--stall-after <TIME>'",
    ),
    (
        &["--stall-after", "0s"],
        64,
        "mtls-probe: invalid value '0s' for '--stall-after <TIME>'",
    ),
    (&["--stall-after", "-3s"], 64, "mtls-probe: "),
    (
        &["--ring", "5"],
        64,
        "mtls-probe: invalid value '5' for '--ring <KIB>': a power of two, at least 4",
    ),
    (
        &["--ring", "2"],
        64,
        "mtls-probe: invalid value '2' for '--ring <KIB>'",
    ),
    (
        &["--ring", "4194304"],
        64,
        "mtls-probe: invalid value '4194304' for '--ring <KIB>'",
    ),
    (
        &["--max-handshakes", "0"],
        64,
        "mtls-probe: invalid value '0' for '--max-handshakes <N>'",
    ),
    (
        &["--tls-port", "65536"],
        64,
        "mtls-probe: invalid value '65536' for '--tls-port <PORT>'",
    ),
    (
        &["--transport", "pipe"],
        64,
        "mtls-probe: invalid value 'pipe' for '--transport <TRANSPORT>'",
    ),
    (
        &["--hook", "xdp"],
        64,
        "mtls-probe: invalid value 'xdp' for '--hook <HOOK>'",
    ),
    (
        &["--library", "/nowhere/libssl.so.3"],
        64,
        "mtls-probe: invalid value '/nowhere/libssl.so.3' for '--library <auto|deep|off|FILE>': No such file",
    ),
    (
        &["--library", "/etc/passwd"],
        64,
        "mtls-probe: invalid value '/etc/passwd' for '--library <auto|deep|off|FILE>': not a library: ",
    ),
    (
        &["--library", "/proc/self/exe"],
        64,
        "mtls-probe: invalid value '/proc/self/exe' for '--library <auto|deep|off|FILE>': its symbols name no function",
    ),
    (
        &["--nonsense"],
        64,
        "mtls-probe: unexpected argument '--nonsense'",
    ),
];

/// What the probe needs in its own namespace.
const CAPABILITIES: [&str; 3] = ["bpf", "net_admin", "perfmon"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("exits::what_cannot_be_is_refused_in_a_line", refusals),
        Trial::test("exits::privileges", privileges),
        Trial::test("exits::every_signal_ends_it_with_counters", || {
            let stand = Stand::new()?;
            for signal in [Signal::SIGINT, Signal::SIGTERM] {
                let mut watch = Watch::start(&stand.server, &[])?;
                fail(&stand, server_addresses()[0], "a.test", UNKNOWN_CA)?;
                watch.event_of("a.test")?;
                same(watch.end(signal)?.events.len(), 1)?;
            }
            Ok(())
        }),
        Trial::test("exits::a_closed_output_ends_it_cleanly", closed_output),
        Trial::test("exits::a_namespace_without_interfaces", || {
            let stand = Stand::bare()?;
            // The loopback is always there.
            Watch::start(&stand.server, &[])?.finish().map(drop)
        }),
        Trial::test("exits::an_interface_named_twice_is_watched_once", || {
            let stand = Stand::new()?;
            for hook in ["tcx", "clsact"] {
                let arguments = ["-i", SERVER, "-i", SERVER, "--hook", hook];
                let mut watch = Watch::start(&stand.server, &arguments)?;
                fail(&stand, server_addresses()[0], "once.test", UNKNOWN_CA)?;
                watch.event_of("once.test")?;
                same(watch.finish()?.count("duplicate_segment"), 0)?;
            }
            Ok(())
        }),
        Trial::test("exits::colour_is_for_terminals_unless_asked_for", colour),
    ]
}

fn refusals() -> Result<(), Failed> {
    let stand = Stand::new()?;
    for (arguments, expected, line) in REFUSED {
        let mut command = Command::new(PROBE);
        command.arg("watch").args(*arguments);
        let (code, out, errors) = refused(&stand.server, &mut command)?;
        let first = errors.lines().next().unwrap_or_default();
        if code != Some(*expected) || !first.starts_with(line) || !out.is_empty() {
            return Err(format!("{arguments:?}: {code:?}, {out:?}, {errors}").into());
        }
        if errors.lines().count() != 1 {
            return Err(format!("{arguments:?}: {errors}").into());
        }
    }
    Ok(())
}

/// `setpriv`, then a copy of the probe that nobody may run with these capabilities only.
fn nobody(copy: &std::path::Path, capabilities: &[&str]) -> Command {
    let list = capabilities
        .iter()
        .fold("-all".to_owned(), |list, name| format!("{list},+{name}"));
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps", &list, "--ambient-caps", &list])
        .arg(copy)
        .arg("watch");
    command
}

fn privileges() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let folder = tempfile::tempdir()?;
    let copy = public_copy(&folder)?;
    let advice = "run as root, or grant it (setcap, systemd AmbientCapabilities=, the pod's securityContext)\n";
    let (code, _, errors) = refused(&stand.server, &mut nobody(&copy, &[]))?;
    same(
        (code, errors),
        (
            Some(2),
            format!("mtls-probe: missing CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: {advice}"),
        ),
    )?;
    for dropped in CAPABILITIES {
        let rest: Vec<&str> = CAPABILITIES
            .into_iter()
            .filter(|name| *name != dropped)
            .collect();
        let (code, _, errors) = refused(&stand.server, &mut nobody(&copy, &rest))?;
        let missing = dropped.to_uppercase();
        let expected = format!("mtls-probe: missing CAP_{missing}: {advice}");
        same((code, errors), (Some(2), expected))?;
    }
    let mut elsewhere = nobody(&copy, &CAPABILITIES);
    let (code, _, errors) = refused(
        &stand.server,
        elsewhere.args(["--netns", "/proc/self/ns/net"]),
    )?;
    same(
        (code, errors),
        (
            Some(2),
            format!("mtls-probe: missing CAP_SYS_ADMIN: {advice}"),
        ),
    )?;
    // Enough in one's own namespace, whichever hook.
    for how in [
        ["--hook", "tcx"],
        ["--hook", "clsact"],
        ["--transport", "perf"],
    ] {
        let mut command = nobody(&copy, &CAPABILITIES);
        let arguments = ["-i", SERVER, how[0], how[1]];
        let mut watch = Watch::start_as(&stand.server, &mut command, &arguments)?;
        fail(&stand, server_addresses()[0], "nobody.test", UNKNOWN_CA)?;
        watch.event_of("nobody.test")?;
        watch.finish()?;
    }
    Ok(())
}

/// As `| head -1` does: reads a line, and closes.
fn closed_output() -> Result<(), Failed> {
    let stand = Stand::new()?;
    for format in ["ndjson", "human"] {
        let mut command = Command::new(PROBE);
        command
            .args([
                "watch", "-i", SERVER, "--hook", "clsact", "--format", format,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = stand.server.run(|| command.spawn())??;
        let mut errors = BufReader::new(child.stderr.take().ok_or("no pipe")?).lines();
        errors.next().ok_or("not ready")??;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        fail(&stand, server_addresses()[0], "first.test", UNKNOWN_CA)?;
        let first = lines.next().ok_or("no line")??;
        same(first.contains("first.test"), true)?;
        drop(lines);
        fail(&stand, server_addresses()[0], "second.test", UNKNOWN_CA)?;
        same(
            (child.wait()?.code(), errors.next().is_none()),
            (Some(0), true),
        )?;
        same(
            crate::stand::tc(&stand.server, "qdisc show dev s0")?.contains("clsact"),
            false,
        )?;
    }
    Ok(())
}

fn colour() -> Result<(), Failed> {
    let stand = Stand::new()?;
    ip(&stand.server, "link set lo up")?;
    for (arguments, coloured) in [
        (&[][..], false),
        (&["--color", "always"], true),
        (&["--color", "never"], false),
    ] {
        let mut command = Command::new(PROBE);
        command
            .args(["watch", "-i", SERVER])
            .args(arguments)
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = stand.server.run(|| command.spawn())??;
        let mut errors = BufReader::new(child.stderr.take().ok_or("no pipe")?).lines();
        errors.next().ok_or("not ready")??;
        fail(&stand, server_addresses()[1], "hue.test", UNKNOWN_CA)?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let event = lines.next().ok_or("no line")??;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        let counters: Vec<String> = lines.collect::<Result<_, _>>()?;
        same(child.wait()?.code(), Some(0))?;
        let heading = counters.first().ok_or("no counters")?;
        for line in [&event, heading] {
            if line.contains('\u{1b}') != coloured {
                return Err(format!("{arguments:?}: {line:?}").into());
            }
        }
        same(
            heading.contains("1 failed handshakes, 0 possibly unseen"),
            true,
        )?;
        same(event.contains("SSL_R_TLSV1_ALERT_UNKNOWN_CA"), true)?;
    }
    Ok(())
}

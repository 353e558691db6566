//! `--cgroup`: the sockets of one cgroup and of all below it, and of nobody else.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::{Failed, Trial};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::clsact::same;
use crate::raw::{Connection, UNKNOWN_CA, alert, client_hello};
use crate::stand::{SERVER, SERVER_V4, Stand, server_addresses};
use crate::watch::{PATIENCE, PROBE, Watch, refused};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        alone("cgroup::either_end_in_it_is_one_event", || {
            for ([client, server], transport) in [
                ([true, false], "ring"),
                ([false, true], "ring"),
                ([true, false], "perf"),
                ([false, true], "perf"),
            ] {
                let stand = Stand::new()?;
                let group = Group::new("either")?;
                let child = group.child("pod")?;
                let arguments = ["--cgroup", group.text(), "--transport", transport];
                let mut watch = Watch::start(&stand.server, &arguments)?;
                for address in server_addresses() {
                    let outside = group.beside();
                    let ends =
                        [client, server].map(|inside| if inside { &*child.0 } else { outside });
                    let connection = between(ends, [&stand.client, &stand.server], address)?;
                    reject(connection, "pod.test")?;
                    let event = watch.event_of("pod.test")?;
                    same(
                        event["server.ip"].as_str(),
                        Some(address.to_string().as_str()),
                    )?;
                    same(event["tls.alert.description"].as_str(), Some("unknown_ca"))?;
                    same(event["handshake.ended_by"].as_str(), Some("client"))?;
                    let path = format!("/{}/pod", group.name());
                    let inside = |inside: bool| inside.then_some(path.as_str());
                    same(event["client.linux.cgroup"].as_str(), inside(client))?;
                    same(event["server.linux.cgroup"].as_str(), inside(server))?;
                }
                let ended = watch.finish()?;
                same((ended.events.len(), ended.lost()), (2, 0))?;
                same(
                    (ended.count("flow_opened"), ended.count("duplicate_segment")),
                    (2, 0),
                )?;
            }
            Ok(())
        }),
        alone(
            "cgroup::both_ends_in_it_are_one_event_and_duplicates_are_counted",
            || {
                let stand = Stand::new()?;
                let group = Group::new("both")?;
                let mut watch = Watch::start(
                    &stand.server,
                    &["--hook", "cgroup", "--cgroup", group.text()],
                )?;
                for address in ["127.0.0.1", "::1"] {
                    let ends = [&stand.server, &stand.server];
                    let connection = between([&group.0, &group.0], ends, address.parse()?)?;
                    reject(connection, "both.test")?;
                    watch.event_of("both.test")?;
                }
                let ended = watch.finish()?;
                same(
                    (ended.events.len(), ended.lost(), ended.count("flow_opened")),
                    (2, 0, 2),
                )?;
                // The ClientHello is received as well; after the alert the flow is gone.
                same(ended.count("duplicate_segment"), 2)
            },
        ),
        alone("cgroup::of_both_ends_is_known_on_an_interface_too", || {
            for hook in ["auto", "clsact"] {
                let stand = Stand::new()?;
                let group = Group::new("interface")?;
                let ends = ["client", "server"];
                let groups = [group.child(ends[0])?, group.child(ends[1])?];
                let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--hook", hook])?;
                for address in server_addresses() {
                    let connection = between(
                        [&groups[0].0, &groups[1].0],
                        [&stand.client, &stand.server],
                        address,
                    )?;
                    reject(connection, "ends.test")?;
                    let event = watch.event_of("ends.test")?;
                    for end in ends {
                        let path = format!("/{}/{end}", group.name());
                        let found = &event[format!("{end}.linux.cgroup")];
                        same(found.as_str(), Some(path.as_str()))?;
                    }
                }
                same(watch.finish()?.events.len(), 2)?;
            }
            Ok(())
        }),
        alone("cgroup::a_pod_is_named_by_its_cgroup", || {
            const UID: &str = "0f0e0d0c-0b0a-0908-0706-050403020100";
            let stand = Stand::new()?;
            let kubelet = Group::new("kubelet")?;
            let pods = kubelet.child("kubepods")?;
            let pod = pods.child(&format!("pod{UID}"))?;
            let mut watch = Watch::start(&stand.server, &["--cgroup", pod.text()])?;
            let ends = [&stand.client, &stand.server];
            let connection = between([&pod.0, pod.beside()], ends, SERVER_V4.parse()?)?;
            reject(connection, "pod.test")?;
            let event = watch.event_of("pod.test")?;
            same(event["k8s.src.uid"].as_str(), Some(UID))?;
            same(event.get("k8s.dst.uid"), None)?;
            same(watch.finish()?.events.len(), 1)
        }),
        alone("cgroup::others_are_not_seen", || {
            let stand = Stand::new()?;
            let group = Group::new("others")?;
            let watch = Watch::start(&stand.server, &["--cgroup", group.text()])?;
            let outside = group.beside();
            let ends = [&stand.client, &stand.server];
            reject(
                between([outside, outside], ends, SERVER_V4.parse()?)?,
                "outside.test",
            )?;
            let ended = watch.finish()?;
            same((ended.events.len(), ended.count("flow_opened")), (0, 0))
        }),
        Trial::test("cgroup::what_is_none_is_one_clear_line", || {
            let stand = Stand::new()?;
            let nowhere = mount()?.join("gauntlet-nowhere");
            let nowhere = nowhere.display().to_string();
            for (arguments, code, line) in [
                (
                    vec!["--cgroup", &nowhere],
                    2,
                    format!("mtls-probe: cgroup {nowhere}: cannot be opened: No such file or directory (os error 2)\n"),
                ),
                (
                    vec!["--cgroup", "/tmp"],
                    2,
                    "mtls-probe: cgroup /tmp: no folder of a cgroup v2 file system\n".into(),
                ),
                (
                    vec!["--cgroup", "/tmp", "--hook", "tcx"],
                    64,
                    "mtls-probe: --cgroup cannot be watched by --hook tcx or clsact; see `mtls-probe watch --help`\n".into(),
                ),
                (
                    vec!["--hook", "cgroup"],
                    64,
                    "mtls-probe: the following required arguments were not provided: --cgroup <PATH>; see `mtls-probe watch --help`\n".into(),
                ),
            ] {
                let mut command = Command::new(PROBE);
                let found = refused(&stand.server, command.arg("watch").args(arguments))?;
                same(found, (Some(code), String::new(), line))?;
            }
            Ok(())
        }),
    ]
}

/// A trial in a process of its own. A process changes its cgroup as a whole, and whatever another trial starts
/// just then would be born there, seen there, and keep the cgroup from being removed.
fn alone(name: &'static str, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    const ALONE: &str = "GAUNTLET_TRIAL_ALONE";
    Trial::test(name, move || {
        if std::env::var_os(ALONE).is_some() {
            return run();
        }
        let mut process = Command::new(std::env::current_exe()?);
        let output = process.args([name, "--exact"]).env(ALONE, "").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && said.contains(" 1 passed;") {
            return Ok(());
        }
        Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).into())
    })
}

/// A handshake that the client rejects.
fn reject(mut connection: Connection, name: &str) -> Result<(), Failed> {
    connection.say(&client_hello(name))?;
    connection.say(&alert(UNKNOWN_CA))?;
    connection.close()
}

/// A connection whose ends were made in these cgroups and namespaces, the client's first.
fn between(
    groups: [&Path; 2],
    [client, server]: [&NetNs; 2],
    address: IpAddr,
) -> Result<Connection, Failed> {
    let listener = within(groups[1], || {
        Ok(server.run(|| TcpListener::bind((address, 0)))??)
    })?;
    let at: SocketAddr = listener.local_addr()?;
    let connect = || Ok(client.run(|| TcpStream::connect_timeout(&at, PATIENCE))??);
    let client = within(groups[0], connect)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE))?;
    }
    Ok(Connection { client, server })
}

/// Where cgroup v2 is mounted.
fn mount() -> Result<PathBuf, Failed> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| statfs(path).is_ok_and(|kind| kind.filesystem_type() == CGROUP2_SUPER_MAGIC))
        .ok_or_else(|| "cgroup v2 is mounted nowhere".into())
}

/// Moves this process into a cgroup to make a socket, which stays of it, and back. For a trial that is [`alone`].
fn within<T>(group: &Path, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let whole = fs::read_to_string("/proc/self/cgroup")?;
    let own = whole.lines().find_map(|line| line.strip_prefix("0::"));
    let own = mount()?.join(own.ok_or("no cgroup v2")?.trim_start_matches('/'));
    let own = if own.is_dir() { own } else { mount()? };
    let id = std::process::id().to_string();
    fs::write(group.join("cgroup.procs"), &id)?;
    let made = work();
    fs::write(own.join("cgroup.procs"), &id)?;
    made
}

/// A cgroup that is gone when this is dropped.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Result<Self, Failed> {
        let path = mount()?.join(format!("gauntlet-{}-{name}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn child(&self, name: &str) -> Result<Self, Failed> {
        let path = self.0.join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it was made.
    fn beside(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("/"))
    }

    fn name(&self) -> &str {
        self.0
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

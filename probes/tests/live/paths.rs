//! Ways a packet may take to the probe: tags, tunnels, the loopback, namespaces that look alike.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::{Failed, Trial};
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType};

use crate::clsact::same;
use crate::raw::{BAD_CERTIFICATE, Connection, UNKNOWN_CA, alert, client_hello, fail};
use crate::stand::{SERVER, SERVER_V4, SERVER_V6, Stand, address, ip, server_addresses};
use crate::watch::Watch;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for hook in ["tcx", "clsact"] {
        let tags: [(_, &[u16]); 4] = [
            ("no_tag", &[]),
            ("one_tag", &[0x8100]),
            ("service_and_customer_tag", &[0x88a8, 0x8100]),
            ("two_customer_tags", &[0x8100, 0x8100]),
        ];
        for (name, tags) in tags {
            let name = format!("paths::vlan::{name}::{hook}");
            trials.push(Trial::test(name, move || vlan(tags, hook)));
        }
        trials.push(Trial::test(format!("paths::tun::{hook}"), move || {
            tun(hook)
        }));
        trials.push(Trial::test(format!("paths::loopback::{hook}"), move || {
            loopback(hook)
        }));
        trials.push(Trial::test(format!("paths::bridge::{hook}"), move || {
            bridge(hook)
        }));
    }
    trials.push(Trial::test(
        "paths::two_namespaces_with_the_same_addresses",
        alike,
    ));
    trials.push(Trial::test(
        "paths::a_path_over_two_interfaces_is_one_event",
        two_interfaces,
    ));
    trials
}

/// Tagged frames, written by hand, since not every kernel has VLAN interfaces. On their way in the
/// kernel takes the outer tag out of the frame, on their way out it stands there.
fn vlan(tags: &[u16], hook: &str) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--hook", hook])?;
    let client = Raw::new(&stand.client, "c0")?;
    let server = Raw::new(&stand.server, SERVER)?;
    for (port, address) in (5001..).zip(server_addresses()) {
        let talk = Talk {
            tags,
            v6: address.is_ipv6(),
            client_port: port,
        };
        client.send(&talk.frame(true, 100, SYN, &[]))?;
        server.send(&talk.frame(false, 200, SYN | ACK, &[]))?;
        let hello = client_hello("tagged.test");
        let next = 101 + hello.len() as u32;
        client.send(&talk.frame(true, 101, ACK, &hello))?;
        server.send(&talk.frame(false, 201, ACK, &alert(UNKNOWN_CA)))?;
        client.send(&talk.frame(true, next, ACK | FIN, &[]))?;
        let event = watch.event_of("tagged.test")?;
        same(
            event["server.ip"].as_str(),
            Some(address.to_string().as_str()),
        )?;
        same(event["client.port"].as_u64(), Some(port.into()))?;
        same(event["handshake.ended_by"].as_str(), Some("server"))?;
    }
    let ended = watch.finish()?;
    same((ended.events.len(), ended.lost()), (2, 0))
}

/// Bare IP, without a link header.
fn tun(hook: &str) -> Result<(), Failed> {
    let stand = Stand::bare()?;
    let ends = [
        Tun::new(&stand.client, "t0")?,
        Tun::new(&stand.server, "t0")?,
    ];
    let _wire = Wire::between(ends);
    address(&stand.client, "t0", "10.77.0.1/24", "fd77::1/64")?;
    address(&stand.server, "t0", "10.77.0.2/24", "fd77::2/64")?;
    let mut watch = Watch::start(&stand.server, &["-i", "t0", "--hook", hook])?;
    for address in server_addresses() {
        fail(&stand, address, "tun.test", UNKNOWN_CA)?;
        let event = watch.event_of("tun.test")?;
        same(
            event["server.ip"].as_str(),
            Some(address.to_string().as_str()),
        )?;
        same(event["network.interface.name"].as_str(), Some("t0"))?;
    }
    let ended = watch.finish()?;
    same((ended.events.len(), ended.lost()), (2, 0))
}

/// Every packet of the loopback is sent and received there.
fn loopback(hook: &str) -> Result<(), Failed> {
    let stand = Stand::bare()?;
    let mut watch = Watch::start(&stand.server, &["-i", "lo", "--hook", hook])?;
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse()?;
        let mut connection =
            Connection::between(&stand.server, &stand.server, (address, 0).into())?;
        connection.say(&client_hello("lo.test"))?;
        connection.say(&alert(UNKNOWN_CA))?;
        connection.close()?;
        let event = watch.event_of("lo.test")?;
        same(event["network.interface.name"].as_str(), Some("lo"))?;
    }
    let ended = watch.finish()?;
    same(
        (ended.events.len(), ended.lost(), ended.count("flow_opened")),
        (2, 0, 2),
    )?;
    // The ClientHello is seen again; after the alert the flow is gone.
    same(ended.count("duplicate_segment"), 2)
}

/// A node's bridge between two pods: each packet passes two ports, and what the bridge itself has is watched too.
fn bridge(hook: &str) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let node = NetNs::anonymous("of the node")?;
    ip(&node, "link add b0 type bridge")?;
    ip(&node, "link set b0 up")?;
    let there = node.path();
    ip(
        &stand.server,
        &format!("link set s0 netns {}", there.display()),
    )?;
    let back = stand.server.path();
    ip(
        &node,
        &format!(
            "link add p0 type veth peer name e0 netns {}",
            back.display()
        ),
    )?;
    for port in ["s0", "p0"] {
        ip(&node, &format!("link set {port} master b0"))?;
        ip(&node, &format!("link set {port} up"))?;
    }
    address(&stand.server, "e0", "10.77.0.2/24", "fd77::2/64")?;
    ip(&stand.server, "link set e0 up")?;
    let mut watch = Watch::start(&node, &["--hook", hook])?;
    for address in server_addresses() {
        fail(&stand, address, "bridged.test", UNKNOWN_CA)?;
        watch.event_of("bridged.test")?;
    }
    let ended = watch.finish()?;
    same(
        (ended.events.len(), ended.lost(), ended.count("flow_opened")),
        (2, 0, 2),
    )?;
    same(ended.count("duplicate_segment") >= 2, true)
}

/// Both ends of the veth in one namespace's view: the default watches all.
fn two_interfaces() -> Result<(), Failed> {
    let stand = Stand::new()?;
    // A router between: the server's packets pass `r0` and `s0`.
    let router = NetNs::anonymous("of the router")?;
    let there = router.path();
    ip(
        &stand.server,
        &format!("link set s0 netns {}", there.display()),
    )?;
    ip(&router, "link set s0 up")?;
    ip(&router, "addr add 10.77.0.254/24 dev s0")?;
    let back = stand.server.path();
    ip(
        &router,
        &format!(
            "link add r0 type veth peer name e0 netns {}",
            back.display()
        ),
    )?;
    ip(&router, "link set r0 up")?;
    ip(&router, "addr add 10.78.0.254/24 dev r0")?;
    ip(&stand.server, "link set e0 up")?;
    ip(&stand.server, "addr add 10.78.0.2/24 dev e0")?;
    ip(&stand.server, "route add default via 10.78.0.254")?;
    ip(&stand.client, "route add default via 10.77.0.254")?;
    router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    let mut watch = Watch::start(&router, &[])?;
    let mut connection = Connection::open(&stand, ("10.78.0.2".parse::<IpAddr>()?, 0).into())?;
    connection.say(&client_hello("routed.test"))?;
    connection.say(&alert(UNKNOWN_CA))?;
    connection.close()?;
    watch.event_of("routed.test")?;
    let ended = watch.finish()?;
    same(
        (
            ended.events.len(),
            ended.lost(),
            ended.count("duplicate_segment") > 0,
        ),
        (1, 0, true),
    )
}

/// The same addresses and ports in two namespaces, one handshake inside the other.
fn alike() -> Result<(), Failed> {
    let stands = [Stand::new()?, Stand::new()?];
    let paths = [&stands[0], &stands[1]].map(|stand| stand.server.path().display().to_string());
    let arguments = ["--netns", &paths[0], "--netns", &paths[1], "-i", SERVER];
    let elsewhere = NetNs::anonymous("of the probe")?;
    let mut watch = Watch::start(&elsewhere, &arguments)?;
    for address in server_addresses() {
        let mut open = Vec::new();
        for stand in &stands {
            // Nothing else is in these namespaces, so both get the same port.
            let connection = Connection::open(stand, (address, 4433).into())?;
            let port = connection.client.local_addr()?.port();
            open.push((connection, port));
        }
        let ports = [open[0].1, open[1].1];
        for ((connection, _), name) in open.iter_mut().zip(["a.test", "b.test"]) {
            connection.say(&client_hello(name))?;
        }
        open[1].0.say(&alert(BAD_CERTIFICATE))?;
        let event = watch.event_of("b.test")?;
        same(
            event["error.type"].as_str(),
            Some("SSL_R_TLSV1_ALERT_BAD_CERTIFICATE"),
        )?;
        same(event["client.port"].as_u64(), Some(u64::from(ports[1])))?;
        open[0].0.say(&alert(UNKNOWN_CA))?;
        let event = watch.event_of("a.test")?;
        same(
            event["error.type"].as_str(),
            Some("SSL_R_TLSV1_ALERT_UNKNOWN_CA"),
        )?;
        same(event["client.port"].as_u64(), Some(u64::from(ports[0])))?;
        for (connection, _) in open {
            connection.close()?;
        }
    }
    let ended = watch.finish()?;
    same(
        (
            ended.events.len(),
            ended.lost(),
            ended.count("flow_replaced"),
        ),
        (4, 0, 0),
    )
}

/// A tun device's other side.
struct Tun(File);

nix::ioctl_write_ptr_bad!(
    /// TUNSETIFF
    tunsetiff,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);

impl Tun {
    fn new(namespace: &NetNs, name: &str) -> Result<Self, Failed> {
        let file = namespace.run(|| -> Result<File, Failed> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")?;
            // SAFETY: an ifreq is plain memory, for which zeros are values.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
            // SAFETY: the descriptor is a tun's, and the kernel reads an ifreq, which this is.
            unsafe { tunsetiff(file.as_raw_fd(), &request) }?;
            Ok(file)
        })??;
        ip(namespace, &format!("link set {name} up"))?;
        Ok(Self(file))
    }
}

/// Carries packets between two tun devices.
struct Wire {
    over: Arc<AtomicBool>,
    carriers: Vec<thread::JoinHandle<()>>,
}

impl Wire {
    fn between(ends: [Tun; 2]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::new(ends);
        let carriers = [(0, 1), (1, 0)].map(|(from, to)| {
            let (over, ends) = (over.clone(), ends.clone());
            thread::spawn(move || {
                let mut packet = vec![0; 65_536];
                while !over.load(Ordering::Relaxed) {
                    let mut ready = [PollFd::new(ends[from].0.as_fd(), PollFlags::POLLIN)];
                    if matches!(poll(&mut ready, PollTimeout::from(50_u8)), Ok(1))
                        && let Ok(length) = (&ends[from].0).read(&mut packet)
                    {
                        let _ = (&ends[to].0).write(&packet[..length]);
                    }
                }
            })
        });
        Self {
            over,
            carriers: carriers.into(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            let _ = carrier.join();
        }
    }
}

/// A socket that sends whole frames.
struct Raw(OwnedFd);

impl Raw {
    fn new(namespace: &NetNs, interface: &str) -> Result<Self, Failed> {
        namespace.run(|| {
            let socket = socket::socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            let link = getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address?.as_link_addr().copied());
            socket::bind(socket.as_raw_fd(), &link.ok_or("no such interface")?)?;
            Ok(Self(socket))
        })?
    }

    fn send(&self, frame: &[u8]) -> Result<(), Failed> {
        socket::send(self.0.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }
}

/// A TCP connection that exists in its frames only; no checksum is right, and nobody looks.
struct Talk<'a> {
    tags: &'a [u16],
    v6: bool,
    client_port: u16,
}

impl Talk<'_> {
    fn frame(&self, from_client: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        // To nobody's address, so that neither end's kernel answers.
        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
        for tag in self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend(7_u16.to_be_bytes());
        }
        let length = 20 + payload.len() as u16;
        let ends: [IpAddr; 2] = if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([6, 64]);
            ["fd77::1", SERVER_V6].map(|text| text.parse().expect("an address"))
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            ["10.77.0.1", SERVER_V4].map(|text| text.parse().expect("an address"))
        };
        let order = if from_client { [0, 1] } else { [1, 0] };
        for end in order {
            match ends[end] {
                IpAddr::V4(v4) => frame.extend(v4.octets()),
                IpAddr::V6(v6) => frame.extend(v6.octets()),
            }
        }
        for end in order {
            frame.extend([self.client_port, 443][end].to_be_bytes());
        }
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }
}

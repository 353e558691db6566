//! What the host sees of a lane: nothing, not for an instant, and nothing afterwards.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gauntlet_harness::lab::{CLIENT_INTERFACE, Lane, Role, SERVER_INTERFACE};
use gauntlet_harness::scenario::model::Family;
use gauntlet_probes::netns::NetNs;
use libtest_mimic::{Failed, Trial};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// Set for a copy of this program that only holds a lane until it is killed.
const HOLD: &str = "GAUNTLET_LAB_HOLD";
/// RTMGRP_LINK: changes of links.
const LINKS: u32 = 1;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the_host_sees_nothing_of_a_lane", host_untouched),
        Trial::test("a_killed_process_leaves_no_namespace", killed),
        Trial::test("lanes_do_not_meet", two_lanes),
    ]
}

/// The part of the killed process. Returns when there is nothing to hold.
pub(crate) fn holds_a_lane() -> bool {
    if std::env::var_os(HOLD).is_none() {
        return false;
    }
    let lane = Lane::new(2).expect("the parent is root, so is this");
    println!("{}", lane.server().path().display());
    let _ = std::io::stdout().flush();
    loop {
        std::thread::park();
    }
}

/// Every change of a link in the namespace of the calling thread, from now on.
fn watch() -> Result<OwnedFd, nix::Error> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let watcher = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?;
    bind(watcher.as_raw_fd(), &NetlinkAddr::new(0, LINKS))?;
    Ok(watcher)
}

/// Whether a change that names `interface` has been seen.
fn saw(watcher: &OwnedFd, interface: &str) -> Result<bool, nix::Error> {
    let mut message = vec![0; 1 << 16];
    loop {
        match recv(watcher.as_raw_fd(), &mut message, MsgFlags::empty()) {
            Err(nix::Error::EAGAIN) => return Ok(false),
            Err(error) => return Err(error),
            Ok(length) => {
                let bytes = &message[..length];
                if bytes
                    .windows(interface.len())
                    .any(|part| part == interface.as_bytes())
                {
                    return Ok(true);
                }
            }
        }
    }
}

fn host_untouched() -> Result<(), Failed> {
    let watcher = watch()?;
    for _ in 0..3 {
        drop(Lane::new(0)?);
    }
    for interface in [CLIENT_INTERFACE, SERVER_INTERFACE] {
        if saw(&watcher, interface)? {
            return Err(format!("{interface} was seen in the host's namespace").into());
        }
    }
    Ok(())
}

/// A veth end goes when the other does, so a server's end that goes proves that the client's namespace
/// has gone. The server's own is kept by this process, to look.
fn killed() -> Result<(), Failed> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut path = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut path)?;
    let server = NetNs::open(path.trim())?;
    let exists = || server.run(|| nix::net::if_::if_nametoindex(SERVER_INTERFACE).is_ok());
    let before = exists()?;
    child.kill()?;
    child.wait()?;
    // The kernel takes namespaces down in its own time.
    let until = Instant::now() + Duration::from_secs(20);
    while exists()? && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !before || exists()? {
        return Err(format!("{SERVER_INTERFACE}: {before} before, still there after").into());
    }
    Ok(())
}

fn two_lanes() -> Result<(), Failed> {
    // The same addresses on purpose.
    let (one, two) = (Lane::new(5)?, Lane::new(5)?);
    for family in [Family::Ipv4, Family::Ipv6] {
        let address = (one.address(Role::Server, family), super::PORT);
        let _listens = one
            .server()
            .run(|| std::net::TcpListener::bind(address))??;
        let connect = || std::net::TcpStream::connect(address);
        one.client().run(connect)??;
        if two.client().run(connect)?.is_ok() {
            return Err("a client reached the other lane's server".into());
        }
    }
    Ok(())
}

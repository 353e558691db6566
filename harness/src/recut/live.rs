//! Packets that truly travel: written to one end of a cable as they are, read by the shipped probe where it is
//! attached at the other end, with everything that a network device does to them on the way.
//!
//! Nothing waits for a time: the packets of one thread on one CPU stay in order, so that when a connection that
//! always fails has been told, all before it was seen.
//!
//! The kernel's clock cannot be moved, but a stall is what the collector finds when *it* looks: so it looks from
//! as much later as the conversation's own clock says.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use gauntlet_probes::attach::Hook;
use gauntlet_probes::clock;
use gauntlet_probes::interfaces::Selection;
use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::{Counts, Probe, ProbeError};
use gauntlet_probes::replay_engine::{Engine, UnderWay};
use gauntlet_wire as wire;
use gauntlet_wire::event::Event;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};
use nix::unistd::Pid;

use super::conversation::Conversation;
use crate::lab::{LabError, Lane, Role};

/// More than the longest frame of a conversation.
const MTU: u32 = 9_000;
/// Where TLS is meant by the marks, and nowhere else.
const MARK_PORT: u16 = 9;
/// Longer than a packet takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cable with the probe at its server's end.
pub struct Live {
    probe: Probe,
    wire: OwnedFd,
    marks: u32,
    /// The conversation's time of the last packet.
    last: u64,
    events: Vec<Event>,
    // Last: the probe lets go of its interface first.
    _lane: Lane,
}

/// Why packets cannot travel.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// There is no cable.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Nobody watches it.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Nothing can be written to it.
    #[error("a packet socket of {interface}: {source}", interface = Role::Client.interface())]
    Socket {
        /// What the kernel said.
        #[from]
        source: nix::Error,
    },
}

impl Live {
    /// Lays a cable and attaches the probe. From then on the calling thread stays on the CPU it is on.
    ///
    /// # Errors
    /// [`LiveError`]: without CAP_SYS_ADMIN, CAP_NET_RAW and what the probe needs.
    pub fn new(settings: &Settings, hook: Hook) -> Result<Self, LiveError> {
        stay()?;
        let lane = Lane::new(0)?;
        lane.stretch(MTU)?;
        let settings = Settings {
            tls_ports: vec![MARK_PORT],
            capture_time: false,
            ..settings.clone()
        };
        let selection = Selection {
            interfaces: vec![Role::Server.interface().into()],
            hook,
            later: false,
        };
        let probe = Probe::start(lane.server(), &selection, &settings)?;
        let wire = lane.client().run(raw).map_err(LabError::from)??;
        Ok(Self {
            probe,
            wire,
            marks: 0,
            last: 0,
            events: Vec::new(),
            _lane: lane,
        })
    }

    fn send(&self, frame: &[u8]) -> Result<(), ProbeError> {
        let sent = send(self.wire.as_raw_fd(), frame, MsgFlags::empty());
        sent.map(drop)
            .map_err(|errno| ProbeError::Packet(errno.into()))
    }

    /// Takes every event of what was sent so far.
    fn settle(&mut self) -> Result<(), ProbeError> {
        self.marks += 1;
        for (_, frame) in Conversation::of_nonsense(self.marks, MARK_PORT).recut(0) {
            self.send(&frame)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.take() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ProbeError::Packet(io::ErrorKind::TimedOut.into()));
            }
            let events = self.probe.events();
            let mut events: Vec<_> = events
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            poll(&mut events, timeout).map_err(|errno| ProbeError::Packet(errno.into()))?;
        }
        Ok(())
    }

    /// Takes the events that there are; `true`: the last mark's is among them.
    fn take(&mut self) -> bool {
        let Self { probe, events, .. } = self;
        let mut marked = false;
        probe.drain(|event| {
            if event.endpoint(wire::Role::Server).port == MARK_PORT {
                marked = true;
            } else {
                events.push(*event);
            }
        });
        marked
    }
}

impl Engine for Live {
    fn packet(&mut self, frame: &[u8], time: u64, _interface: u32) -> Result<(), ProbeError> {
        self.last = time;
        self.send(frame)
    }

    /// None: what was sent may still be on its way. [`Self::sweep`] has them.
    fn drain(&mut self, _events: &mut Vec<Event>) {}

    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError> {
        self.settle()?;
        let mut events = std::mem::take(&mut self.events);
        let later = clock::monotonic() + now.saturating_sub(self.last);
        events.extend(self.probe.sweep(later, patience)?);
        Ok(events)
    }

    fn counts(&mut self) -> Result<Counts, ProbeError> {
        self.probe.counts()
    }

    fn under_way(&mut self) -> Result<UnderWay, ProbeError> {
        self.probe.under_way()
    }
}

/// Keeps the calling thread on one CPU: packets of several could overtake each other.
fn stay() -> nix::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        if allowed.is_set(cpu)? {
            one.set(cpu)?;
            break;
        }
    }
    sched_setaffinity(this, &one)
}

/// A socket that writes frames to the client's end of the cable as they are.
fn raw() -> nix::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let interface = Role::Client.interface();
    let link = getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or(nix::errno::Errno::ENODEV)?;
    bind(socket.as_raw_fd(), &link)?;
    Ok(socket)
}

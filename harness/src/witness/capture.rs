//! A capture of one interface, from before the first packet of a case to after the last.
//!
//! It says whether it is complete: one packet that the kernel dropped, or cut short, makes all of it
//! unusable, because "the alert was not on the wire" must not be said of a wire half seen.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use gauntlet_probes::netns::{NetNs, NetNsError};
use nix::libc::timeval;
use pcap::{Active, BreakLoop, Linktype, PacketHeader, Precision};

use super::segment::Segment;
use crate::patience::limit;

/// Large enough for any packet that segmentation offload leaves whole.
const SNAPSHOT: i32 = 65_535;
/// Kernel memory for packets not read yet: some hundred of the largest, where a case has some dozen.
const BUFFER: i32 = 16 << 20;
/// How often an idle reader looks up by itself. It is woken to stop; libpcap before 1.10 cannot be.
const POLL_MS: i32 = 1_000;
/// How long a beacon that has been sent may take until it is here; in practice it is microseconds.
const BEACON_LIMIT: Duration = Duration::from_secs(5);
/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// One packet, whole.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Nanoseconds since the Unix epoch, the kernel's stamp.
    pub time_unix_nano: u64,
    /// The bytes from the Ethernet header on.
    pub data: Vec<u8>,
}

/// The packets of a case, none missing.
#[derive(Debug, Clone)]
pub struct Captured {
    packets: Vec<Packet>,
}

/// A running capture. Dropping it stops it.
pub struct Capture {
    shared: Arc<Shared>,
    /// Ends the reader's waiting. (A flag would not: on an idle wire libpcap itself waits again and again.)
    stop: BreakLoop,
    reader: Option<JoinHandle<()>>,
}

/// Why there is no capture, or none to trust. Always the environment's fault.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// libpcap failed.
    #[error("capture: {0}")]
    Pcap(#[from] pcap::Error),
    /// The reader stopped.
    #[error("capture stopped: {0}")]
    Stopped(String),
    /// Packets are missing.
    #[error("capture lost {dropped} packets")]
    Lost {
        /// How many the kernel dropped for want of room.
        dropped: u32,
    },
    /// A packet is not whole.
    #[error("capture cut a packet of {bytes} bytes short")]
    Cut {
        /// Its real length.
        bytes: u32,
    },
    /// What was waited for did not come.
    #[error("capture did not see {what} within {within:?}")]
    Missing {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
    },
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    packets: Vec<Packet>,
    dropped: u32,
    cut: Option<u32>,
    stopped: Option<String>,
}

impl Capture {
    /// Starts to capture everything on `interface`, both directions. From the moment this returns,
    /// nothing goes by unseen.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such interface.
    pub fn start(namespace: &NetNs, interface: &str) -> Result<Self, CaptureError> {
        // The packet socket stays in the namespace it was opened in; the reader need not be there.
        let mut source = namespace.run(|| {
            pcap::Capture::from_device(interface)?
                .snaplen(SNAPSHOT)
                .buffer_size(BUFFER)
                .precision(Precision::Nano)
                .immediate_mode(true)
                .timeout(POLL_MS)
                .open()
        })??;
        let stop = source.breakloop_handle();
        let shared = Arc::new(Shared::default());
        let of_reader = shared.clone();
        let reader = thread::spawn(move || of_reader.read(&mut source));
        Ok(Self {
            shared,
            stop,
            reader: Some(reader),
        })
    }

    /// Waits until a packet that `wanted` accepts has been captured, now or earlier, and not yet taken.
    ///
    /// # Errors
    /// When it does not come within `within`, or the reader has stopped; `what` says what it was.
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&Packet) -> bool,
    ) -> Result<(), CaptureError> {
        let until = Instant::now() + within;
        let mut seen = 0;
        let mut state = self.shared.lock();
        loop {
            if state.packets.iter().skip(seen).any(&mut wanted) {
                return Ok(());
            }
            seen = state.packets.len();
            if let Some(why) = &state.stopped {
                return Err(CaptureError::Stopped(why.clone()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CaptureError::Missing {
                    what: what.into(),
                    within,
                });
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
    }

    /// Waits until the RST of the beacon sent from `client` to `port` has been captured: then everything
    /// before it has been too. (The address alone would not do: a case's client may have had the same.)
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn barrier(
        &self,
        client: SocketAddr,
        port: u16,
        within: Duration,
    ) -> Result<(), CaptureError> {
        self.wait_for(&format!("the beacon of {client}"), within, |packet| {
            Segment::of(packet).is_some_and(|segment| {
                segment.rst && segment.from == client && segment.to.port() == port
            })
        })
    }

    /// Takes everything up to the beacon sent from `client` to `port`, and whatever came after it.
    ///
    /// # Errors
    /// As [`Self::barrier`] and [`Self::take`].
    pub fn until(&self, client: SocketAddr, port: u16) -> Result<Captured, CaptureError> {
        self.barrier(client, port, limit(BEACON_LIMIT))?;
        self.take()
    }

    /// Takes all packets captured since the last call.
    ///
    /// # Errors
    /// When any packet since the start was dropped or cut short, or the reader has stopped.
    pub fn take(&self) -> Result<Captured, CaptureError> {
        let mut state = self.shared.lock();
        if let Some(why) = &state.stopped {
            return Err(CaptureError::Stopped(why.clone()));
        }
        if let Some(bytes) = state.cut {
            return Err(CaptureError::Cut { bytes });
        }
        if state.dropped > 0 {
            return Err(CaptureError::Lost {
                dropped: state.dropped,
            });
        }
        Ok(Captured {
            packets: std::mem::take(&mut state.packets),
        })
    }
}

impl Captured {
    /// The packets, in the order captured.
    #[must_use]
    pub fn packets(&self) -> &[Packet] {
        &self.packets
    }

    /// Only the TCP packets to or from `port`.
    #[must_use]
    pub fn of_port(&self, port: u16) -> Self {
        let concerns =
            |packet: &&Packet| Segment::of(packet).is_some_and(|segment| segment.concerns(port));
        Self {
            packets: self.packets.iter().filter(concerns).cloned().collect(),
        }
    }

    /// How long the packets to and from `port` took, from the first that says something: no silence after
    /// it was longer.
    #[must_use]
    pub fn lasted(&self, port: u16) -> Duration {
        let says = |packet: &&Packet| {
            Segment::of(packet).is_some_and(|segment| !segment.payload.is_empty())
        };
        let of_port = self.of_port(port);
        let first = of_port.packets.iter().find(says);
        let last = of_port.packets.last();
        let took = first
            .zip(last)
            .map(|(first, last)| last.time_unix_nano.saturating_sub(first.time_unix_nano));
        Duration::from_nanos(took.unwrap_or(0))
    }

    /// Writes them as a pcap file with nanosecond stamps.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = pcap::Capture::dead_with_precision(Linktype::ETHERNET, Precision::Nano)
            .and_then(|format| format.savefile(path));
        let mut file = file.map_err(io::Error::other)?;
        for packet in &self.packets {
            let length = u32::try_from(packet.data.len()).map_err(io::Error::other)?;
            let stamp = packet.time_unix_nano.cast_signed();
            // With `Precision::Nano` the microseconds are nanoseconds.
            let ts = timeval {
                tv_sec: stamp / SECOND,
                tv_usec: stamp % SECOND,
            };
            let header = PacketHeader {
                ts,
                caplen: length,
                len: length,
            };
            file.write(&pcap::Packet::new(&header, &packet.data));
        }
        file.flush().map_err(io::Error::other)
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.breakloop();
        if let Some(reader) = self.reader.take() {
            // Nothing to add to a panic that has already been printed.
            let _panicked = reader.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one push or one assignment, so a panic leaves it whole.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read(&self, source: &mut pcap::Capture<Active>) {
        loop {
            let (packet, cut) = match source.next_packet() {
                Ok(packet) => {
                    let whole = packet.header.caplen == packet.header.len;
                    (Packet::from(&packet), (!whole).then_some(packet.header.len))
                }
                Err(pcap::Error::TimeoutExpired) => continue,
                // Told to stop.
                Err(pcap::Error::NoMorePackets) => return,
                Err(error) => {
                    self.lock().stopped = Some(error.to_string());
                    self.changed.notify_all();
                    return;
                }
            };
            // Asked before the packet is shown, so that who sees it also sees what was lost before it.
            let dropped = source.stats();
            let mut state = self.lock();
            match dropped {
                Ok(stats) => state.dropped = stats.dropped,
                Err(error) => state.stopped = Some(error.to_string()),
            }
            state.cut = state.cut.or(cut);
            state.packets.push(packet);
            drop(state);
            self.changed.notify_all();
        }
    }
}

impl From<&pcap::Packet<'_>> for Packet {
    fn from(packet: &pcap::Packet<'_>) -> Self {
        // With `Precision::Nano` the microseconds are nanoseconds. A stamp before 1970 is none.
        let stamp = packet.header.ts.tv_sec * SECOND + packet.header.ts.tv_usec;
        Self {
            time_unix_nano: stamp.try_into().unwrap_or(0),
            data: packet.data.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn packet(milliseconds: u64, port: u16, payload: &[u8]) -> Packet {
        let builder = PacketBuilder::ethernet2([7; 6], [8; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(4_000, port, 1, 1_000);
        let mut data = Vec::new();
        builder.write(&mut data, payload).unwrap();
        Packet {
            time_unix_nano: milliseconds * 1_000_000,
            data,
        }
    }

    #[test]
    fn a_connection_lasts_from_its_first_bytes_to_its_last_packet() {
        let lasted = |packets: &[(u64, u16, &[u8])]| {
            let packets = packets
                .iter()
                .map(|&(at, port, payload)| packet(at, port, payload));
            let captured = Captured {
                packets: packets.collect(),
            };
            captured.lasted(443).as_millis()
        };
        // A SYN that was lost says nothing yet, and another connection's packets do not count.
        let whole: [(u64, u16, &[u8]); 6] = [
            (0, 443, b""),
            (500, 444, b"other"),
            (1_000, 443, b"hello"),
            (1_020, 443, b"hello"),
            (1_300, 443, b""),
            (9_000, 444, b""),
        ];
        assert_eq!(lasted(&whole), 300);
        assert_eq!(lasted(&whole[..2]), 0);
        assert_eq!(lasted(&[]), 0);
    }
}

//! Cases that ran, packed into capture files that can be replayed anywhere: for each class one pcapng with the
//! key log inside it (gzip'd), and one NDJSON that says what was meant and what the probe said.
//!
//! Addresses, ports and times are rewritten, so that they do not depend on the lane, and no two cases
//! touch. Nothing else is: the bytes of TLS are those that were on the wire.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use etherparse::err::packet::SliceError;
use etherparse::{LinkHeader, NetHeaders, PacketHeaders, TransportHeader};
use flate2::{Compression, GzBuilder};
use gauntlet_probes::capture_file::{CaptureFile, CaptureFileError, Item};
use pcap_parser::{
    DecryptionSecretsBlock, EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, OptionCode,
    PcapNGOption, SecretsType, SectionHeaderBlock, ToVec as _,
};
use serde::{Deserialize, Serialize};

use crate::lab::SERVER_INTERFACE;
use crate::probe::Event;
use crate::report::CaseReport;

/// When the first case of each file begins: 2026-01-01T00:00:00Z, nanoseconds.
const BEGINNING: u64 = 1_767_225_600_000_000_000;
/// How far apart cases begin: longer than any lasts, nanoseconds.
const APART: u64 = 20_000_000_000;
/// The first case's port; each has one of its own.
const FIRST_PORT: u16 = 10_000;
/// The port of a case's first connection on the client's side.
const FIRST_CLIENT_PORT: u16 = 50_000;
/// Both ends, in the networks for documentation (RFC 5737, RFC 3849).
const CLIENT: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
);
const SERVER: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
);

/// One line of a recording's NDJSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The case id.
    pub id: String,
    /// The server's port, by which its events are known.
    pub port: u16,
    /// When its first packet was captured, Unix time, nanoseconds.
    pub begins: u64,
    /// When its last one was.
    pub ends: u64,
    /// The client's outcome.
    pub client: String,
    /// The server's outcome.
    pub server: String,
    /// What the probe said, its times and the address that was its own left out.
    pub events: Vec<Event>,
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The capture of a case.
    #[error("{path}: {source}", path = path.display())]
    Capture {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: CaptureFileError,
    },
    /// A packet of a case.
    #[error("{id}: {what}")]
    Packet {
        /// Which case.
        id: String,
        /// What is wrong.
        what: String,
    },
}

/// One file's worth of cases.
#[derive(Default)]
struct Pack {
    packets: Vec<(u64, Vec<u8>)>,
    keys: String,
    lines: String,
    cases: u16,
}

/// Packs cases that were kept with their artifacts; `folder` gets two files for each class.
///
/// # Errors
/// [`RecordingError`].
pub fn pack(reports: &[&CaseReport], folder: &Path) -> Result<(), RecordingError> {
    let mut reports: Vec<&CaseReport> = reports.to_vec();
    reports.sort_by(|a, b| a.id.cmp(&b.id));
    let mut packs: BTreeMap<&str, Pack> = BTreeMap::new();
    for report in reports {
        let class = report.id.split("::").next().unwrap_or_default();
        packs.entry(class).or_default().add(report)?;
    }
    fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    for (class, pack) in packs {
        let capture = folder.join(format!("{class}.pcapng.gz"));
        let bytes = pack.pcapng().map_err(|what| RecordingError::Packet {
            id: class.into(),
            what,
        })?;
        // No name and no time in it: the same cases give the same file.
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        let packed = gzip.write_all(&bytes).and_then(|()| gzip.finish());
        packed
            .and_then(|packed| fs::write(&capture, packed))
            .map_err(|source| failed(&capture, source))?;
        let lines = folder.join(format!("{class}.ndjson"));
        fs::write(&lines, &pack.lines).map_err(|source| failed(&lines, source))?;
    }
    Ok(())
}

impl Pack {
    fn add(&mut self, report: &CaseReport) -> Result<(), RecordingError> {
        let wrong = |what: String| RecordingError::Packet {
            id: report.id.clone(),
            what,
        };
        let Some(artifacts) = &report.artifacts else {
            return Err(wrong("nothing was kept of it".into()));
        };
        let path = artifacts.join("capture.pcap");
        let damaged = |source| RecordingError::Capture {
            path: path.clone(),
            source,
        };
        let mut place = Place {
            port: FIRST_PORT + self.cases,
            clients: Vec::new(),
            was: None,
        };
        let begins = BEGINNING + APART * u64::from(self.cases);
        let (mut first, mut ends) = (None, begins);
        let mut capture = CaptureFile::open(&path).map_err(damaged)?;
        loop {
            match capture.next().map_err(damaged)? {
                Item::Packet(packet) => {
                    let since = packet.time - *first.get_or_insert(packet.time);
                    ends = begins + since;
                    let frame = place
                        .rewrite(packet.frame)
                        .map_err(|error| wrong(error.to_string()))?
                        .ok_or_else(|| wrong("a packet that is no TCP".into()))?;
                    self.packets.push((ends, frame));
                }
                Item::End => break,
                item => return Err(wrong(format!("{item:?} in its capture"))),
            }
        }
        let path = artifacts.join("keys.log");
        let keys = fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
        // What opens a TLS 1.3 alert; the rest would only make it larger.
        let useful = keys.lines().filter(|line| line.contains("_TRAFFIC_SECRET"));
        for line in useful {
            self.keys += line;
            self.keys.push('\n');
        }
        let recorded = Recorded {
            id: report.id.clone(),
            port: place.port,
            begins,
            ends,
            client: report.witnesses.client.clone(),
            server: report.witnesses.server.clone(),
            events: report
                .reported
                .iter()
                .map(|event| place.event(event))
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("an event of a connection that was not captured".into()))?,
        };
        self.lines +=
            &serde_json::to_string(&recorded).map_err(|error| wrong(error.to_string()))?;
        self.lines.push('\n');
        self.cases += 1;
        Ok(())
    }

    fn pcapng(&self) -> Result<Vec<u8>, String> {
        let wrong = |error: cookie_factory::GenError| format!("pcapng: {error:?}");
        let mut file = SectionHeaderBlock {
            block_type: 0,
            block_len1: 0,
            bom: 0,
            major_version: 0,
            minor_version: 0,
            section_len: -1,
            options: Vec::new(),
            block_len2: 0,
        }
        .to_vec()
        .map_err(wrong)?;
        let name = SERVER_INTERFACE.as_bytes();
        let interface = InterfaceDescriptionBlock {
            block_type: 0,
            block_len1: 0,
            linktype: Linktype::ETHERNET,
            reserved: 0,
            snaplen: 0,
            options: vec![PcapNGOption {
                code: OptionCode::IfName,
                len: name.len() as u16,
                value: name.into(),
            }],
            block_len2: 0,
            // Nanoseconds.
            if_tsresol: 9,
            if_tsoffset: 0,
        }
        .to_vec();
        file.extend(interface.map_err(wrong)?);
        let keys = DecryptionSecretsBlock {
            block_type: 0,
            block_len1: 0,
            secrets_type: SecretsType::TlsKeyLog,
            secrets_len: self.keys.len() as u32,
            data: self.keys.as_bytes(),
            options: Vec::new(),
            block_len2: 0,
        }
        .to_vec();
        file.extend(keys.map_err(wrong)?);
        for (time, frame) in &self.packets {
            let packet = EnhancedPacketBlock {
                block_type: 0,
                block_len1: 0,
                if_id: 0,
                ts_high: (time >> 32) as u32,
                ts_low: *time as u32,
                caplen: frame.len() as u32,
                origlen: frame.len() as u32,
                data: frame,
                options: Vec::new(),
                block_len2: 0,
            }
            .to_vec();
            file.extend(packet.map_err(wrong)?);
        }
        Ok(file)
    }
}

/// Where a case is put.
struct Place {
    port: u16,
    /// Its connections, by the client's end as it was.
    clients: Vec<SocketAddr>,
    /// The server's port as it was.
    was: Option<u16>,
}

impl Place {
    /// The frame with its addresses and ports, and their checksums; `None`: it is no TCP.
    fn rewrite(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>, SliceError> {
        let mut headers = PacketHeaders::from_ethernet_slice(frame)?;
        let (Some(net), Some(TransportHeader::Tcp(tcp))) =
            (&mut headers.net, &mut headers.transport)
        else {
            return Ok(None);
        };
        let (from, to): (IpAddr, IpAddr) = match net {
            NetHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
            NetHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
            NetHeaders::Arp(_) => return Ok(None),
        };
        // Whoever sends the first packet, a SYN, is the client.
        let server = *self.was.get_or_insert(tcp.destination_port);
        let from_client = tcp.destination_port == server;
        let client = if from_client {
            SocketAddr::new(from, tcp.source_port)
        } else {
            SocketAddr::new(to, tcp.destination_port)
        };
        let client = self.client(client);
        let ((from, to), (from_port, to_port)) = if from_client {
            ((CLIENT, SERVER), (client, self.port))
        } else {
            ((SERVER, CLIENT), (self.port, client))
        };
        (tcp.source_port, tcp.destination_port) = (from_port, to_port);
        let payload = headers.payload.slice();
        // Memory has room, and no field is longer than what was read.
        let mut written = Vec::with_capacity(frame.len());
        if let Some(LinkHeader::Ethernet2(ethernet)) = &mut headers.link {
            let ends = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
            let [client, server] = ends;
            (ethernet.source, ethernet.destination) = if from_client {
                (client, server)
            } else {
                (server, client)
            };
            let _ = ethernet.write(&mut written);
        }
        let checksum = match net {
            NetHeaders::Ipv4(ip, _) => {
                (ip.source, ip.destination) = (from.0.octets(), to.0.octets());
                let _ = ip.write(&mut written);
                tcp.calc_checksum_ipv4(ip, payload)
            }
            NetHeaders::Ipv6(ip, _) => {
                (ip.source, ip.destination) = (from.1.octets(), to.1.octets());
                let _ = ip.write(&mut written);
                tcp.calc_checksum_ipv6(ip, payload)
            }
            NetHeaders::Arp(_) => return Ok(None),
        };
        tcp.checksum = checksum.unwrap_or_default();
        let _ = tcp.write(&mut written);
        written.extend(payload);
        Ok(Some(written))
    }

    /// The port of a connection's client.
    fn client(&mut self, client: SocketAddr) -> u16 {
        let known = self.clients.iter().position(|known| *known == client);
        let at = known.unwrap_or_else(|| {
            self.clients.push(client);
            self.clients.len() - 1
        });
        FIRST_CLIENT_PORT + at as u16
    }

    /// The event as a replay must tell it.
    fn event(&self, event: &Event) -> Option<Event> {
        let client = event.address("client")?;
        let at = self.clients.iter().position(|known| *known == client)?;
        let (from, to): (IpAddr, IpAddr) = if client.is_ipv4() {
            (CLIENT.0.into(), SERVER.0.into())
        } else {
            (CLIENT.1.into(), SERVER.1.into())
        };
        let event = event
            .clone()
            .without("time_unix_nano")
            .without("network.local.address")
            // A capture has no sockets.
            .without("client.linux.cgroup")
            .without("server.linux.cgroup")
            .setting("client.address", from.to_string())
            .setting("client.port", FIRST_CLIENT_PORT + at as u16)
            .setting("server.ip", to.to_string())
            .setting("server.port", self.port);
        Some(event)
    }
}

fn failed(path: &Path, source: io::Error) -> RecordingError {
    RecordingError::File {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    use flate2::read::GzDecoder;
    use serde_json::json;

    use super::*;
    use crate::report::Witnesses;
    use crate::verdict::Verdict;

    /// A pcap file of segments between a client and a server's port 10123.
    fn capture(client: [u8; 4], segments: &[(bool, &[u8])]) -> Vec<u8> {
        let server = [192, 0, 2, 130];
        let mut file = Vec::new();
        for number in [0xa1b2_3c4d_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
            file.extend(number.to_le_bytes());
        }
        for (number, (from_client, payload)) in (0_u32..).zip(segments) {
            let (source, target) = if *from_client {
                (client, server)
            } else {
                (server, client)
            };
            let (from, to) = if *from_client {
                (41_000, 10_123)
            } else {
                (10_123, 41_000)
            };
            let builder = PacketBuilder::ethernet2([7; 6], [8; 6])
                .ipv4(source, target, 64)
                .tcp(from, to, 1_000 + number, 1_024);
            let mut frame = Vec::new();
            builder.write(&mut frame, payload).unwrap();
            let length = frame.len() as u32;
            for number in [77, number * 1_000, length, length] {
                file.extend(number.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }

    fn report(id: &str, folder: &Path, reported: Vec<Event>) -> CaseReport {
        CaseReport {
            id: id.into(),
            expected: None,
            reported,
            verdict: Verdict::Pass,
            reason: None,
            witnesses: Witnesses {
                client: "ok".into(),
                server: "AlertReceived(UnknownCA)".into(),
                wire: String::new(),
            },
            duration_ms: 1,
            artifacts: Some(folder.into()),
            lacks: None,
            first_attempt: None,
            repro: String::new(),
        }
    }

    #[test]
    fn cases_are_packed_so_that_nothing_depends_on_where_they_ran() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let clients = [[192, 0, 2, 129], [192, 0, 2, 133]];
        for (folder, client) in folders.iter().zip(clients) {
            let segments = [(true, &b"hello"[..]), (false, b"alert")];
            fs::write(
                folder.path().join("capture.pcap"),
                capture(client, &segments),
            )
            .unwrap();
            let keys = "EXPORTER_SECRET 00 00\nCLIENT_TRAFFIC_SECRET_0 00 00\n";
            fs::write(folder.path().join("keys.log"), keys).unwrap();
        }
        let event = Event::of(json!({
            "time_unix_nano": 5, "error.type": "SSL_ERROR_SSL", "client.address": "192.0.2.133",
            "client.port": 41_000, "server.port": 10_123, "server.ip": "192.0.2.130",
            "network.local.address": "192.0.2.130", "client.linux.cgroup": "/a", "server.linux.cgroup": "/",
        }));
        let reports = [
            report("a::x", folders[0].path(), vec![]),
            report("a::y", folders[1].path(), vec![event]),
        ];
        let into = tempfile::tempdir().unwrap();
        // Their order does not matter.
        pack(&[&reports[1], &reports[0]], into.path()).unwrap();

        let lines = fs::read_to_string(into.path().join("a.ndjson")).unwrap();
        let cases: Vec<Recorded> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let ports: Vec<_> = cases.iter().map(|case| (&*case.id, case.port)).collect();
        assert_eq!(ports, [("a::x", 10_000), ("a::y", 10_001)]);
        assert_eq!(
            cases[1].events,
            [Event::of(json!({
                "error.type": "SSL_ERROR_SSL", "client.address": "192.0.2.1",
                "client.port": 50_000, "server.port": 10_001, "server.ip": "192.0.2.2",
            }))]
        );

        let packed = fs::File::open(into.path().join("a.pcapng.gz")).unwrap();
        let mut bytes = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        let mut capture = CaptureFile::read(&bytes[..]).unwrap();
        let mut seen = Vec::new();
        let keys = match capture.next().unwrap() {
            Item::KeyLog(lines) => String::from_utf8(lines.to_vec()).unwrap(),
            other => panic!("{other:?} before the key log"),
        };
        assert_eq!(keys, "CLIENT_TRAFFIC_SECRET_0 00 00\n".repeat(2));
        loop {
            let packet = match capture.next().unwrap() {
                Item::Packet(packet) => packet,
                Item::End => break,
                other => panic!("{other:?}"),
            };
            let sliced = SlicedPacket::from_ethernet(packet.frame).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
                panic!("no TCP");
            };
            let ip = sliced.net.as_ref().and_then(|net| net.ipv4_ref()).unwrap();
            let sum = tcp
                .calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                .unwrap();
            assert_eq!(tcp.checksum(), sum, "its checksum is right");
            let ports = [tcp.source_port(), tcp.destination_port()];
            seen.push((packet.time - BEGINNING, ports, tcp.payload().to_vec()));
        }
        let ends = |port| [[50_000, port], [port, 50_000]];
        let ([a, b], [c, d]) = (ends(10_000), ends(10_001));
        assert_eq!(
            seen,
            [
                (0, a, b"hello".to_vec()),
                (1_000, b, b"alert".to_vec()),
                (APART, c, b"hello".to_vec()),
                (APART + 1_000, d, b"alert".to_vec()),
            ]
        );
    }

    #[test]
    fn what_was_not_kept_cannot_be_recorded() {
        let mut gone = report("a::x", Path::new("/nowhere"), vec![]);
        let into = tempfile::tempdir().unwrap();
        let error = pack(&[&gone], into.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("/nowhere/capture.pcap: cannot be opened"),
            "{error}"
        );
        gone.artifacts = None;
        let error = pack(&[&gone], into.path()).unwrap_err().to_string();
        assert_eq!(error, "a::x: nothing was kept of it");
    }
}

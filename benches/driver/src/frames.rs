//! The packets that are measured: Ethernet, IPv4 and TCP without options, as `ebpf/programs/src/bench` expects.

/// Bytes before a TCP payload.
pub const HEADERS: usize = 54;
/// TCP flags.
pub const SYN: u8 = 2;
/// TCP flags.
pub const ACK: u8 = 16;
/// The server's first sequence number.
pub const SERVER_START: u32 = 5_000_000;
/// The client's.
pub const CLIENT_START: u32 = 1_000_000;

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 443);

/// A client, whose connections all go to the same server.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address.
    pub address: [u8; 4],
    /// Its port.
    pub port: u16,
}

impl Client {
    /// A segment by the client, `at` bytes after its SYN; the SYN itself is at 0.
    #[must_use]
    pub fn says(&self, flags: u8, at: u32, payload: &[u8]) -> Vec<u8> {
        let numbers = (CLIENT_START.wrapping_add(at), SERVER_START + 1);
        tcp((self.address, self.port), SERVER, flags, numbers, payload)
    }

    /// A segment by the server, `at` bytes after its SYN.
    #[must_use]
    pub fn hears(&self, flags: u8, at: u32, heard: u32, payload: &[u8]) -> Vec<u8> {
        let numbers = (SERVER_START.wrapping_add(at), CLIENT_START + heard);
        tcp(SERVER, (self.address, self.port), flags, numbers, payload)
    }
}

/// A datagram: no TCP.
#[must_use]
pub fn udp(payload: &[u8]) -> Vec<u8> {
    let mut frame = ip(17, [10, 0, 0, 1], [10, 0, 0, 2], 8 + payload.len());
    frame.extend(5_353_u16.to_be_bytes());
    frame.extend(53_u16.to_be_bytes());
    frame.extend((8 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn tcp(
    (source, from): ([u8; 4], u16),
    (destination, to): ([u8; 4], u16),
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = ip(6, source, destination, 20 + payload.len());
    frame.extend(from.to_be_bytes());
    frame.extend(to.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    let acknowledged = if flags & ACK == 0 { 0 } else { acknowledged };
    frame.extend(acknowledged.to_be_bytes());
    frame.extend([5 << 4, flags, 255, 255, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn ip(protocol: u8, source: [u8; 4], destination: [u8; 4], length: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + length as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame
}

#[cfg(test)]
mod tests {
    use gauntlet_wire::bytes::Bytes;
    use gauntlet_wire::packet::{Parsed, Skipped, parse};
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn frames_are_what_the_shipped_parser_takes_them_for() {
        let client = Client {
            address: [10, 0, 0, 1],
            port: 50_000,
        };
        let mut parsed = Parsed::new_zeroed();
        let frame = client.says(ACK, 1, b"x");
        parse(&Bytes::new(&frame), &mut parsed).expect("TCP");
        assert_eq!(parsed.segment.sequence, CLIENT_START + 1);
        assert_eq!((parsed.segment.at, parsed.segment.end), (54, 55));
        assert_eq!(parsed.key.ports, [443, 50_000]);
        let mut answer = Parsed::new_zeroed();
        let frame = client.hears(SYN | ACK, 0, 1, &[]);
        parse(&Bytes::new(&frame), &mut answer).expect("TCP");
        assert_eq!(answer.key, parsed.key);
        assert_ne!(answer.sender_first, parsed.sender_first);
        let not_tcp = parse(&Bytes::new(&udp(b"x")), &mut parsed);
        assert_eq!(not_tcp, Err(Skipped::NotTcp));
    }
}

//! Which connections may be in the flow table, told without asking it: a count for each of [`SLOTS`] hashes, of
//! the connections there that have it. Where it is 0 there is none, and a packet of an established stream
//! costs one load from memory.
//!
//! Counted up before a connection is inserted and down after it was removed, so that it is never 0 too early.
//! Refuses to be a table: it knows how many, not which.

use crate::packet::FlowKey;

/// How many counts.
pub const SLOTS: usize = 1 << 16;

/// Where in a [`hash`] the slot begins; there is more above it, which means nothing.
pub const SLOT_AT: u32 = 16;

/// Where a connection is counted.
#[must_use]
#[inline(always)]
pub const fn slot(key: &FlowKey) -> u32 {
    (hash_of(key) >> SLOT_AT) as u32 & (SLOTS as u32 - 1)
}

/// The hash that says so.
#[must_use]
#[inline(always)]
pub const fn hash_of(key: &FlowKey) -> u64 {
    let [[.., a, b, c, d], [.., e, f, g, h]] = key.addresses;
    let addresses = u32::from_ne_bytes([a, b, c, d]) ^ u32::from_ne_bytes([e, f, g, h]);
    let [[a, b], [c, d]] = [key.ports[0].to_be_bytes(), key.ports[1].to_be_bytes()];
    hash(addresses, u32::from_ne_bytes([a, b, c, d]))
}

/// The same from what a packet has, in its own byte order and whichever end sent it: the last 32 bits of both
/// addresses, XORed, and both ports as they stand there. Connections between two addresses to one port have slots of
/// their own each, since an odd factor loses nothing of the other port.
#[must_use]
#[inline(always)]
pub const fn hash(addresses: u32, ports: u32) -> u64 {
    let ports = ports as u64;
    // Both ports, XORed, are in the upper half of 32 bits; only those count.
    let both = (ports ^ ports << 16) & !0xffff;
    (addresses as u64 ^ both).wrapping_mul(FACTOR)
}

/// Its lower 32 bits are 2^32 divided by the golden ratio; as a negative number it fits into an instruction.
const FACTOR: u64 = 0xffff_ffff_9e37_79b1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_client_to_one_server_have_slots_of_their_own() {
        let mut seen = [false; SLOTS];
        for port in 1_024..=u16::MAX {
            let mut key = FlowKey {
                addresses: [[0; 16], [0; 16]],
                ports: [443, port],
            };
            key.addresses[0][15] = 2;
            key.addresses[1][12] = 10;
            let slot = slot(&key) as usize;
            assert!(!seen[slot], "port {port} shares its slot");
            seen[slot] = true;
        }
    }

    #[test]
    fn a_packet_of_either_end_has_the_slot_of_its_connection() {
        for (client, server) in [(50_000_u16, 443_u16), (1_024, 8_443), (0x1234, 0xfedc)] {
            let [[a, b], [c, d]] = [client.to_be_bytes(), server.to_be_bytes()];
            let slots = [[a, b, c, d], [c, d, a, b]].map(|ports| {
                let hash = hash(0x0a00_0001 ^ 0x0a60_aa55, u32::from_ne_bytes(ports));
                (hash >> SLOT_AT) as u16
            });
            assert_eq!(slots[0], slots[1], "ports {client} and {server}");
        }
    }

    #[test]
    fn clients_of_one_network_share_few_slots_of_a_server() {
        let mut seen = [false; SLOTS];
        for [high, low] in (0..=u16::MAX).map(u16::to_be_bytes) {
            let mut key = FlowKey {
                addresses: [[0; 16], [0; 16]],
                ports: [50_000, 443],
            };
            key.addresses[0][12..].copy_from_slice(&[10, 0, high, low]);
            // Bits of both kinds, where the clients differ.
            key.addresses[1][12..].copy_from_slice(&[10, 96, 0xaa, 0x55]);
            seen[slot(&key) as usize] = true;
        }
        // At random it would be 63 % of them.
        let used = seen.iter().filter(|seen| **seen).count();
        assert!(used > SLOTS / 2, "{used} slots for {SLOTS} clients");
    }
}

//! Which connections may be in the flow table, told without asking it: a count for each of [`SLOTS`] hashes, of
//! the connections there that have it. Where it is 0 there is none, and a packet of an established stream
//! costs one load from memory.
//!
//! Counted up before a connection is inserted and down after it was removed, so that it is never 0 too early.
//! Refuses to be a table: it knows how many, not which.

use crate::packet::FlowKey;

/// How many counts.
pub const SLOTS: usize = 1 << 16;

/// Where a connection is counted.
#[must_use]
#[inline(always)]
pub const fn slot(key: &FlowKey) -> u32 {
    let [[.., a, b, c, d], [.., e, f, g, h]] = key.addresses;
    let addresses = u32::from_ne_bytes([a, b, c, d]) ^ u32::from_ne_bytes([e, f, g, h]);
    slot_of(addresses, (key.ports[0] ^ key.ports[1]).to_be())
}

/// The same from what a packet has, in its own byte order and whichever end sent it: the last 32 bits of both
/// addresses, XORed, and both ports, XORed. Connections between two addresses to one port have slots of their
/// own each, since an odd factor loses nothing of the other port.
#[must_use]
#[inline(always)]
pub const fn slot_of(addresses: u32, ports: u16) -> u32 {
    (addresses ^ (ports as u32) << 16).wrapping_mul(0x9e37_79b1) >> 16
}

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

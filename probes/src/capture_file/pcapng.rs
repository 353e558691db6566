//! The newer format: sections of blocks. <https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcapng/>
//!
//! The blocks' lengths are read here, so that a block is there whole before `pcap-parser` looks at it.
//! Two things it gets wrong are done here too: time resolutions that are powers of two, and time offsets
//! of big-endian sections.

use pcap_parser::pcapng::{Block as Parsed, SecretsType, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{InterfaceDescriptionBlock, OptionCode};

use super::{Block, Broken, Bytes, Captured};

/// A Section Header Block's type, the same in both byte orders.
pub(super) const MAGIC: u32 = 0x0a0d_0d0a;
/// The byte-order magic, as a little-endian and as a big-endian section has it.
const LITTLE: [u8; 4] = [0x4d, 0x3c, 0x2b, 0x1a];
const BIG: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
/// Type and length, and the length once more at the end.
const FRAMING: usize = 12;
/// A longer block is damage; the longest there are hold key logs.
const LONGEST: u32 = 1 << 28;
/// More interfaces than that are damage.
const MOST_INTERFACES: usize = 1 << 16;
/// Nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// A pcapng file, as far as it was read.
#[derive(Default)]
pub(super) struct Pcapng {
    big_endian: bool,
    /// The first block's type was read by who opened the file.
    begun: bool,
    interfaces: Vec<Interface>,
    /// The first interface of the current section.
    section: usize,
    /// The last packet's time, for packets that have none of their own.
    last: u64,
}

struct Interface {
    link: u16,
    name: Option<String>,
    /// Bytes kept of a packet; 0: all.
    snaplen: u32,
    /// Units of a second.
    resolution: u128,
    /// Seconds to add.
    offset: i64,
}

impl Pcapng {
    /// The name of an interface, counted from 1 over all sections.
    pub(super) fn interface_name(&self, interface: u32) -> Option<&str> {
        let at = (interface as usize).checked_sub(1)?;
        self.interfaces.get(at)?.name.as_deref()
    }

    /// Reads one block into `block`.
    pub(super) fn next(
        &mut self,
        bytes: &mut Bytes<'_>,
        block: &mut Vec<u8>,
    ) -> Result<Block, Broken> {
        self.read(bytes, block)?;
        let parse = if self.big_endian {
            parse_block_be
        } else {
            parse_block_le
        };
        let Ok((_, parsed)) = parse(block) else {
            return Err(Broken::Wrong(format!(
                "a block of type {:#010x} that contradicts itself",
                self.number(block, 0)
            )));
        };
        // Where a slice of the block begins in it.
        let offset = |part: &[u8]| part.as_ptr().addr() - block.as_ptr().addr();
        match parsed {
            Parsed::SectionHeader(_) => {
                self.section = self.interfaces.len();
                Ok(Block::Other)
            }
            Parsed::InterfaceDescription(description) => {
                if self.interfaces.len() >= MOST_INTERFACES {
                    return Err(Broken::Wrong("too many interfaces".into()));
                }
                let interface = interface(&description, self.big_endian)?;
                self.interfaces.push(interface);
                Ok(Block::Other)
            }
            Parsed::EnhancedPacket(packet) => {
                let data = packet.packet_data();
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let (start, id) = (offset(data), packet.if_id);
                let bytes = start..start + data.len();
                self.packet(id, Some(ticks), packet.origlen, bytes)
            }
            Parsed::SimplePacket(packet) => {
                let data = packet.packet_data();
                let kept = match self.interfaces.get(self.section) {
                    Some(interface) if interface.snaplen > 0 => {
                        data.len().min(interface.snaplen as usize)
                    }
                    _ => data.len(),
                };
                let start = offset(data);
                self.packet(0, None, packet.origlen, start..start + kept)
            }
            Parsed::DecryptionSecrets(secrets)
                if secrets.secrets_type == SecretsType::TlsKeyLog =>
            {
                let length = (secrets.secrets_len as usize).min(secrets.data.len());
                let start = offset(secrets.data);
                Ok(Block::KeyLog(start..start + length))
            }
            // Statistics, names, comments: nothing is missed.
            _ => Ok(Block::Other),
        }
    }

    /// Reads a block whole, by its lengths alone.
    fn read(&mut self, bytes: &mut Bytes<'_>, block: &mut Vec<u8>) -> Result<(), Broken> {
        block.clear();
        if self.begun {
            bytes.take(8, block)?;
        } else {
            self.begun = true;
            block.extend(MAGIC.to_le_bytes());
            bytes.take(4, block)?;
        }
        if self.number(block, 0) == MAGIC {
            // Its length can be read only once its byte order is known.
            bytes.take(4, block)?;
            self.big_endian = match [block[8], block[9], block[10], block[11]] {
                LITTLE => false,
                BIG => true,
                other => {
                    let what = format!("a section of byte order {}", other.escape_ascii());
                    return Err(Broken::Wrong(what));
                }
            };
        }
        let length = self.number(block, 4);
        if length > LONGEST
            || (length as usize) < FRAMING.max(block.len())
            || !length.is_multiple_of(4)
        {
            return Err(Broken::Wrong(format!("a block of {length} bytes")));
        }
        bytes.take(length as usize - block.len(), block)?;
        let again = self.number(block, block.len() - 4);
        if again != length {
            return Err(Broken::Wrong(format!(
                "a block whose length is {length} at its beginning and {again} at its end"
            )));
        }
        Ok(())
    }

    fn number(&self, block: &[u8], at: usize) -> u32 {
        let bytes = [block[at], block[at + 1], block[at + 2], block[at + 3]];
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    fn packet(
        &mut self,
        id: u32,
        ticks: Option<u64>,
        length: u32,
        bytes: std::ops::Range<usize>,
    ) -> Result<Block, Broken> {
        let index = self.section + id as usize;
        let Some(interface) = self.interfaces.get(index) else {
            return Err(Broken::Wrong(format!(
                "a packet of interface {id}, which is not described"
            )));
        };
        if let Some(ticks) = ticks {
            self.last = interface.unix(ticks);
        }
        Ok(Block::Packet(Captured {
            time: self.last,
            interface: index as u32 + 1,
            link: interface.link,
            length,
            bytes,
        }))
    }
}

impl Interface {
    /// Unix time, nanoseconds; 0 where it is none that fits.
    fn unix(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let whole = ticks / self.resolution * SECOND;
        let part = ticks % self.resolution * SECOND / self.resolution;
        let offset = i128::from(self.offset) * SECOND as i128;
        let time = i128::try_from(whole + part).unwrap_or(i128::MAX);
        u64::try_from(time.saturating_add(offset)).unwrap_or(0)
    }
}

fn interface(
    description: &InterfaceDescriptionBlock<'_>,
    big_endian: bool,
) -> Result<Interface, Broken> {
    let exponent = u32::from(description.if_tsresol & 0x7f);
    let resolution = if description.if_tsresol & 0x80 == 0 {
        10_u128.checked_pow(exponent)
    } else {
        2_u128.checked_pow(exponent)
    };
    // No clock ticks faster, and the arithmetic has room for it.
    let resolution = resolution.filter(|units| *units <= u128::from(u64::MAX));
    let Some(resolution) = resolution else {
        return Err(Broken::Wrong(format!(
            "an interface whose time resolution is {:#04x}",
            description.if_tsresol
        )));
    };
    let offset = description
        .options
        .iter()
        .find(|option| option.code == OptionCode::IfTsoffset)
        .and_then(|option| option.value.first_chunk::<8>())
        .map_or(0, |bytes| {
            if big_endian {
                i64::from_be_bytes(*bytes)
            } else {
                i64::from_le_bytes(*bytes)
            }
        });
    let name = description.if_name().and_then(Result::ok);
    Ok(Interface {
        link: description.linktype.0 as u16,
        name: name.map(|name| name.trim_end_matches('\0').to_owned()),
        snaplen: description.snaplen,
        resolution,
        offset,
    })
}

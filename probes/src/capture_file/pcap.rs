//! The older format: one header, then packets. <https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcap/>

use pcap_parser::pcap::{
    PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::{Block, Broken, Bytes, CaptureFileError, Captured, link};

/// Bytes of the file's header.
const FILE_HEADER: usize = 24;
/// Bytes of a packet's header; the "modified" form has more in it.
const HEADER: usize = 16;
const MODIFIED_HEADER: usize = 24;
/// More than any capture program keeps of a packet (libpcap's MAXIMUM_SNAPLEN is 262,144): a length beyond
/// it is damage.
const LONGEST: u32 = 1 << 20;

/// A pcap file, its header read.
pub(super) struct Pcap {
    header: PcapHeader,
    link: u16,
}

/// Whether a file begins so, its first four bytes read as little-endian.
pub(super) fn is_magic(number: u32) -> bool {
    matches!(
        number,
        0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34 | 0xd4c3_b2a1 | 0x4d3c_b2a1
    )
}

impl Pcap {
    /// Reads the header; its first four bytes are `begun`.
    pub(super) fn begin(bytes: &mut Bytes<'_>, begun: Vec<u8>) -> Result<Self, CaptureFileError> {
        let mut header = begun;
        let cut = match bytes.take(FILE_HEADER - header.len(), &mut header) {
            Ok(()) => None,
            Err(Broken::Read(source)) => {
                return Err(CaptureFileError::Read {
                    at: header.len() as u64,
                    source,
                });
            }
            Err(_) => Some(header.len()),
        };
        let header = match parse_pcap_header(&header) {
            Ok((_, header)) if cut.is_none() => header,
            _ => {
                let what = format!("has {} bytes, fewer than a pcap's header", header.len());
                return Err(CaptureFileError::NotACapture(what));
            }
        };
        // The upper half says whether frames end in a checksum (FCS), and how long it is.
        let link = header.network.0 as u16;
        if !link::is_known(link) {
            return Err(CaptureFileError::LinkType(link));
        }
        Ok(Self { header, link })
    }

    /// Reads one packet into `block`.
    pub(super) fn next(
        &mut self,
        bytes: &mut Bytes<'_>,
        block: &mut Vec<u8>,
    ) -> Result<Block, Broken> {
        block.clear();
        let size = if self.header.is_modified_format() {
            MODIFIED_HEADER
        } else {
            HEADER
        };
        bytes.take(size, block)?;
        let number = |at: usize| {
            let bytes = [block[at], block[at + 1], block[at + 2], block[at + 3]];
            if self.header.is_bigendian() {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        let kept = number(8);
        if kept > LONGEST {
            return Err(Broken::Wrong(format!("a packet of {kept} bytes")));
        }
        bytes.take(kept as usize, block)?;
        let parsed = if self.header.is_modified_format() {
            parse_pcap_frame_modified(block)
        } else if self.header.is_bigendian() {
            parse_pcap_frame_be(block)
        } else {
            parse_pcap_frame(block)
        };
        let Ok((_, packet)) = parsed else {
            return Err(Broken::Wrong("a packet's header".into()));
        };
        let parts_of_a_second = if self.header.is_nanosecond_precision() {
            u64::from(packet.ts_usec)
        } else {
            u64::from(packet.ts_usec) * 1_000
        };
        Ok(Block::Packet(Captured {
            time: u64::from(packet.ts_sec) * 1_000_000_000 + parts_of_a_second,
            interface: 1,
            link: self.link,
            length: packet.origlen,
            bytes: size..block.len(),
        }))
    }
}

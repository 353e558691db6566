//! A capture file, packet by packet: pcap (microseconds, nanoseconds, both byte orders, the "modified"
//! form) and pcapng (several sections and interfaces, any time resolution, key logs inside), also
//! gzip'd.
//!
//! A file is read block by block, each whole before it is looked at, so that a damaged length is found
//! where it stands, costs no memory, and takes nothing away from what came before it. Every packet comes
//! out as an Ethernet frame ([`link`]), whatever the link was.
//!
//! Refuses to look past the link header, and to guess what follows a damaged block.

pub mod link;
mod pcap;
mod pcapng;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use self::pcap::Pcap;
use self::pcapng::Pcapng;

/// Bytes read from the file at once.
const CHUNK: usize = 1 << 20;
/// The first bytes of a gzip file (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One packet, as an Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was captured, Unix time, nanoseconds. 0 where the file does not say.
    pub time: u64,
    /// The interface it was captured on: [`CaptureFile::interface`] knows it. From 1.
    pub interface: u32,
    /// The bytes that were kept, from the Ethernet header on.
    pub frame: &'a [u8],
    /// How many there were on the wire; more than were kept, where the snapshot length was too small.
    pub length: usize,
}

/// What stands next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// A packet of a link type that is not known, by its number.
    UnknownLink(u16),
    /// Lines of a key log (pcapng's Decryption Secrets Block).
    KeyLog(&'a [u8]),
    /// Nothing more: the file ends in order.
    End,
}

/// Why a file cannot be read, or not further. Each is one line, and says where.
#[derive(Debug, thiserror::Error)]
pub enum CaptureFileError {
    /// It cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// It can be opened and not read.
    #[error("cannot be read after byte {at}: {source}")]
    Read {
        /// Bytes before that, of the capture (not of the gzip file around it).
        at: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("neither pcap nor pcapng: it {0}")]
    NotACapture(String),
    /// All of it is of a link type that cannot be read.
    #[error("link type {0} is not known here; known are {known}", known = link::KNOWN)]
    LinkType(u16),
    /// It breaks off, or is damaged.
    #[error("damaged at byte {at}, after {packets} packets: {what}")]
    Damaged {
        /// Where the block begins, in bytes of the capture (not of the gzip file around it).
        at: u64,
        /// Packets before that.
        packets: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// An open file.
pub struct CaptureFile<'r> {
    bytes: Bytes<'r>,
    format: Format,
    packets: u64,
    block: Vec<u8>,
    frame: Vec<u8>,
    /// Everything was read, or nothing more can be.
    over: bool,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// The bytes of a capture, and how many were taken.
struct Bytes<'r> {
    source: Box<dyn Read + 'r>,
    taken: u64,
}

/// What a format found in its next block.
enum Block {
    /// A packet: where its bytes stand in the block, and what is known of it.
    Packet(Captured),
    /// Lines of a key log.
    KeyLog(std::ops::Range<usize>),
    /// Something that matters to the format alone.
    Other,
}

/// A packet as a format has it.
struct Captured {
    time: u64,
    interface: u32,
    link: u16,
    bytes: std::ops::Range<usize>,
    length: u32,
}

/// Why a block cannot be had.
enum Broken {
    /// The file ends where a block ends.
    End,
    /// The file ends inside a block: it lacks so many bytes at least.
    Cut(u64),
    /// The system would not read.
    Read(io::Error),
    /// The block is wrong.
    Wrong(String),
}

impl CaptureFile<'static> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`CaptureFileError`]: when it cannot be read, is no capture, or is a pcap of a link type that is
    /// not known.
    pub fn open(path: &Path) -> Result<Self, CaptureFileError> {
        let file = File::open(path).map_err(CaptureFileError::Open)?;
        Self::read(file)
    }
}

impl<'r> CaptureFile<'r> {
    /// Reads a capture from anywhere.
    ///
    /// # Errors
    /// As [`CaptureFile::open`].
    pub fn read(source: impl Read + 'r) -> Result<Self, CaptureFileError> {
        let mut source = BufReader::with_capacity(CHUNK, source);
        let begins = source
            .fill_buf()
            .map_err(|source| CaptureFileError::Read { at: 0, source })?;
        let source: Box<dyn Read + 'r> = if begins.starts_with(&GZIP) {
            Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(source)))
        } else {
            Box::new(source)
        };
        let mut bytes = Bytes { source, taken: 0 };
        let mut magic = Vec::new();
        match bytes.take(4, &mut magic) {
            Ok(()) => {}
            Err(Broken::Read(error)) if is_of_gzip(&error) => {
                let what = format!("is a gzip file that cannot be decompressed: {error}");
                return Err(CaptureFileError::NotACapture(what));
            }
            Err(Broken::Read(source)) => return Err(CaptureFileError::Read { at: 0, source }),
            Err(_) if magic.is_empty() => {
                return Err(CaptureFileError::NotACapture("is empty".into()));
            }
            Err(_) => {
                let what = format!("has {} bytes", magic.len());
                return Err(CaptureFileError::NotACapture(what));
            }
        }
        let number = u32::from_le_bytes([magic[0], magic[1], magic[2], magic[3]]);
        let format = if number == pcapng::MAGIC {
            Format::Pcapng(Pcapng::default())
        } else if pcap::is_magic(number) {
            Format::Pcap(Pcap::begin(&mut bytes, magic)?)
        } else {
            let what = format!("begins with {}", magic.escape_ascii());
            return Err(CaptureFileError::NotACapture(what));
        };
        Ok(Self {
            bytes,
            format,
            packets: 0,
            block: Vec::new(),
            frame: Vec::new(),
            over: false,
        })
    }

    /// The name of an interface, where the file says it.
    #[must_use]
    pub fn interface(&self, interface: u32) -> Option<&str> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::Pcapng(pcapng) => pcapng.interface_name(interface),
        }
    }

    /// Packets so far, whatever their link.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// What stands next. After [`Item::End`] or an error, always [`Item::End`].
    ///
    /// # Errors
    /// [`CaptureFileError::Damaged`] or [`CaptureFileError::Read`]: nothing further can be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "lends its buffer, which no Iterator may"
    )]
    pub fn next(&mut self) -> Result<Item<'_>, CaptureFileError> {
        loop {
            if self.over {
                return Ok(Item::End);
            }
            let at = self.bytes.taken;
            let found = match &mut self.format {
                Format::Pcap(pcap) => pcap.next(&mut self.bytes, &mut self.block),
                Format::Pcapng(pcapng) => pcapng.next(&mut self.bytes, &mut self.block),
            };
            match found {
                Ok(Block::Other) => {}
                Ok(Block::KeyLog(lines)) => return Ok(Item::KeyLog(&self.block[lines])),
                Ok(Block::Packet(packet)) => {
                    self.packets += 1;
                    let kept = &self.block[packet.bytes];
                    let length = (packet.length as usize).max(kept.len());
                    let Some(length) = link::ethernet(packet.link, kept, length, &mut self.frame)
                    else {
                        return Ok(Item::UnknownLink(packet.link));
                    };
                    return Ok(Item::Packet(Packet {
                        time: packet.time,
                        interface: packet.interface,
                        frame: &self.frame,
                        length,
                    }));
                }
                Err(broken) => {
                    self.over = true;
                    return self.broken(at, broken);
                }
            }
        }
    }

    fn broken(&self, at: u64, broken: Broken) -> Result<Item<'_>, CaptureFileError> {
        let what = match broken {
            Broken::End => return Ok(Item::End),
            Broken::Cut(lacks) => format!("it breaks off, {lacks} bytes too early"),
            Broken::Read(error) if is_of_gzip(&error) => {
                format!("cannot be decompressed: {error}")
            }
            Broken::Read(source) => return Err(CaptureFileError::Read { at, source }),
            Broken::Wrong(what) => what,
        };
        Err(CaptureFileError::Damaged {
            at,
            packets: self.packets,
            what,
        })
    }
}

/// Whether a gzip file breaks off, is damaged, or its checksum is wrong: no system call fails so.
fn is_of_gzip(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput)
}

impl Bytes<'_> {
    /// Adds exactly `count` bytes to `into`, which grows only as they come.
    fn take(&mut self, count: usize, into: &mut Vec<u8>) -> Result<(), Broken> {
        let mut part = (&mut self.source).take(count as u64);
        let read = part.read_to_end(into).map_err(Broken::Read)?;
        self.taken += read as u64;
        match count - read {
            0 => Ok(()),
            _ if into.is_empty() => Err(Broken::End),
            lacks => Err(Broken::Cut(lacks as u64)),
        }
    }
}

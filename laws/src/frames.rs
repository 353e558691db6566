//! Ethernet frames of one TCP connection, byte by byte. Checksums are zero: nobody on the way looks at them.

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
const ACK: u8 = 16;
/// Length of a TCP header without options.
const TCP: usize = 20;
/// The most that comes before what is said: Ethernet, IPv6, TCP.
const HEADERS: usize = 14 + 40 + TCP;

/// Both ends of a connection, and how far each has come.
pub(crate) struct Frames {
    is_ipv6: bool,
    number: u32,
    /// Sequence number of what each says next.
    next: [u32; 2],
    /// The last bytes of each.
    last: [Vec<u8>; 2],
}

impl Frames {
    pub(crate) fn new(begin: u8, is_ipv6: bool, number: u32) -> Self {
        let mut frames = Self {
            is_ipv6,
            number,
            next: [0; 2],
            last: [Vec::new(), Vec::new()],
        };
        frames.begin(begin);
        frames
    }

    /// Numbers of a new connection; most of them wrap within it.
    pub(crate) fn begin(&mut self, begin: u8) {
        let wraps = |before: u8| 0_u32.wrapping_sub(u32::from(before) * u32::from(before));
        self.next = [
            wraps(begin),
            wraps(begin.rotate_left(4)).wrapping_add(0x8000_0000),
        ];
        self.last = [Vec::new(), Vec::new()];
    }

    pub(crate) fn syn(&mut self, who: u8) -> Vec<u8> {
        let flags = if who == 0 { SYN } else { SYN | ACK };
        let frame = self.frame(who, self.next[usize::from(who)], flags, &[]);
        self.next[usize::from(who)] = self.next[usize::from(who)].wrapping_add(1);
        frame
    }

    /// A segment with new bytes, which begins with so many (`overlap`) of what was said before.
    pub(crate) fn segment(&mut self, who: u8, bytes: &[u8], flags: u8, overlap: usize) -> Vec<u8> {
        let at = usize::from(who);
        let again = overlap.min(self.last[at].len());
        let from = self.last[at].len() - again;
        let mut whole = self.last[at].split_off(from);
        whole.extend(bytes);
        let sequence = self.next[at].wrapping_sub(again as u32);
        let frame = self.frame(who, sequence, flags | ACK, &whole);
        let length = bytes.len() as u32 + u32::from(flags & FIN);
        self.next[at] = self.next[at].wrapping_add(length);
        self.last[at] = whole;
        frame
    }

    /// In one piece of memory: a long run makes a thousand million of them.
    fn frame(&self, who: u8, sequence: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
        let ports = [50_000_u16, 443];
        let (from, to) = (usize::from(who), usize::from(who ^ 1));
        let length = (TCP + bytes.len()) as u16;
        let mut frame = Vec::with_capacity(HEADERS + bytes.len());
        frame.extend([2; 12]);
        if self.is_ipv6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([6, 64]);
        } else {
            frame.extend([0x08, 0, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        }
        for end in [who, who ^ 1] {
            self.address(&mut frame, end);
        }
        frame.extend(ports[from].to_be_bytes());
        frame.extend(ports[to].to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        let heard = if flags & ACK == 0 { 0 } else { self.next[to] };
        frame.extend(heard.to_be_bytes());
        frame.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(bytes);
        frame
    }

    fn address(&self, frame: &mut Vec<u8>, end: u8) {
        let [high, middle, low, lowest] = self.number.to_be_bytes();
        if self.is_ipv6 {
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0]);
            frame.extend([high, middle, low, lowest, end]);
        } else {
            frame.extend([10 + (high % 100) * 2 + end, middle, low, lowest]);
        }
    }
}

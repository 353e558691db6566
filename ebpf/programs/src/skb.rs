//! A socket buffer as the wire crate wants to read it: headers straight from its linear part
//! ([`Linear`]), where they nearly always are, and anything wherever it is (GSO, GRO, page fragments)
//! through `bpf_skb_load_bytes` ([`Skb`]).

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use gauntlet_wire::flow::{CAPTURE, CAPTURE_LABEL, CAPTURE_SPACE, CAPTURE_STEP};
use gauntlet_wire::packet::Frame;
use gauntlet_wire::segment::{Keep, Payload};
use gauntlet_wire::side::GATHER;
use gauntlet_wire::window::{KEEP_STEP, WINDOW, WINDOW_SPACE};

/// Reads a packet; never writes one.
#[derive(Clone, Copy)]
pub(crate) struct Skb(pub(crate) *mut __sk_buff);

impl Skb {
    /// The interface that it is on.
    #[inline(always)]
    pub(crate) fn interface(self) -> u32 {
        // SAFETY: the context is readable as long as the program runs.
        unsafe { (*self.0).ifindex }
    }

    /// The local port of the socket that it belongs to, if there is one.
    #[inline(always)]
    pub(crate) fn socket_port(self) -> Option<u16> {
        // SAFETY: the context is there as long as the program runs.
        let socket = unsafe { &raw const (*self.0).__bindgen_anon_2 };
        // SAFETY: the same; the only member of that union.
        let socket = unsafe { socket.cast::<*const bpf_sock>().read() };
        // SAFETY: it is a socket's, for this program to read, or none.
        let socket = unsafe { socket.as_ref()? };
        u16::try_from(socket.src_port).ok()
    }

    /// A word of its control block, which is the programs' own; as it stands there, even if the compiler
    /// knows what was written.
    #[inline(always)]
    pub(crate) fn control(self, word: usize) -> u32 {
        // SAFETY: the context is there as long as the program runs, and has five such words.
        let word = unsafe { &raw const (*self.0).cb[word] };
        // SAFETY: the same.
        unsafe { word.read_volatile() }
    }

    /// Writes the first word of its control block. Where programs of a cgroup run, the kernel saves it
    /// before and restores it after.
    #[inline(always)]
    pub(crate) fn set_control(self, word: u32) {
        // SAFETY: the context is there as long as the program runs.
        let first = unsafe { &raw mut (*self.0).cb[0] };
        // SAFETY: the kernel lets programs write the control block.
        unsafe { first.write_volatile(word) };
    }

    /// # Safety
    /// `into` must be valid for writes of `count` bytes.
    #[inline(always)]
    unsafe fn read(&self, from: u32, into: *mut u8, count: u32) -> bool {
        // SAFETY: the context is the kernel's own; the caller vouches for the destination, and the
        // verifier checks it again.
        unsafe { bpf_skb_load_bytes(self.0.cast(), from, into.cast(), count) == 0 }
    }
}

/// Loads from the linear part, `AT` bytes after an address, where it is there: whether it may be unaligned is the kernel's to
/// say, and on the processors we know it may. The compiler would take byte after byte.
macro_rules! load {
    ($name:ident, $type:ty, $instruction:literal) => {
        #[inline(always)]
        pub(crate) fn $name<const AT: i16>(from: usize) -> $type {
            let value: u64;
            // SAFETY: reads the packet; the verifier checks that it is there, as every caller did.
            unsafe {
                core::arch::asm!(
                    $instruction, out(reg) value, in(reg) from, const AT,
                    options(pure, readonly, nostack)
                );
            }
            // SAFETY: a load clears the rest of its register; without this the compiler would do so again.
            unsafe { core::hint::assert_unchecked(value <= <$type>::MAX as u64) };
            value as $type
        }
    };
}
load!(byte, u8, "{0} = *(u8 *)({1} + {2})");
load!(half, u16, "{0} = *(u16 *)({1} + {2})");
load!(word, u32, "{0} = *(u32 *)({1} + {2})");

/// The linear part of a packet, read without a helper's cost: most packets are no handshakes, and
/// are done with once their headers are read. What is not there is as if the packet ended before.
pub(crate) struct Linear(pub(crate) Skb);

impl Frame for Linear {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        // SAFETY: the context is readable as long as the program runs.
        let start = unsafe { (*self.0.0).data } as usize + at as usize;
        // SAFETY: the same.
        if start + N > unsafe { (*self.0.0).data_end } as usize {
            return None;
        }
        let mut bytes = [0; N];
        let mut words = bytes.chunks_exact_mut(4);
        let mut at = start;
        for to in &mut words {
            to.copy_from_slice(&word::<0>(at).to_ne_bytes());
            at += 4;
        }
        for to in words.into_remainder() {
            *to = byte::<0>(at);
            at += 1;
        }
        Some(bytes)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.length()
    }

    #[inline(always)]
    fn ether_type(&self) -> Option<u16> {
        self.0.ether_type()
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: `bytes` is N bytes long.
        unsafe { self.read(at, bytes.as_mut_ptr(), N as u32) }.then_some(bytes)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is readable as long as the program runs.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn ether_type(&self) -> Option<u16> {
        // SAFETY: the context is readable as long as the program runs.
        let protocol = unsafe { (*self.0).protocol };
        Some(u16::from_be(protocol as u16))
    }
}

impl Payload for Skb {
    #[inline(always)]
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool {
        let (to, count) = gathered(into, at, count);
        // SAFETY: `gathered` says where, and how much fits.
        unsafe { self.read(from, to, count) }
    }

    #[inline(always)]
    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool {
        match captured(into, at, count) {
            // SAFETY: `captured` says where, and how much fits.
            Some((to, count)) => unsafe { self.read(from, to, count) },
            None => false,
        }
    }

    #[inline(always)]
    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, what: [u8; CAPTURE_LABEL as usize]) {
        label(into, at, what);
    }

    #[inline(always)]
    fn settle(&self, place: &mut u32, number: u32) -> u32 {
        settled(place, number)
    }
}

impl Keep for Skb {
    #[inline(always)]
    fn keep(&self, from: u32, into: &mut [u8; WINDOW_SPACE], at: u32, count: u32) -> bool {
        let at = opaque(at);
        if at > WINDOW as u64 {
            return false;
        }
        let count = (opaque(count.wrapping_sub(1)) & (KEEP_STEP as u64 - 1)) + 1;
        // SAFETY: `at` is at most WINDOW, inside the array.
        let to = unsafe { into.as_mut_ptr().add(at as usize) };
        // SAFETY: from there KEEP_STEP bytes are left, and `count` is at most that.
        unsafe { self.read(from, to, count as u32) }
    }
}

/// Where [`Payload::gather`] writes, and how many bytes, in terms that the verifier can follow.
#[inline(always)]
pub(crate) fn gathered(into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> (*mut u8, u32) {
    let at = opaque(at) & (GATHER as u64 - 1);
    let count = (opaque(count.wrapping_sub(1)) & (GATHER as u64 - 1)) + 1;
    // SAFETY: `at` is below half the array; from there more than half of it is left, and `count` is at
    // most half.
    (unsafe { into.as_mut_ptr().add(at as usize) }, count as u32)
}

/// The same for [`Payload::capture`].
#[inline(always)]
pub(crate) fn captured(
    into: &mut [u8; CAPTURE_SPACE],
    at: u32,
    count: u32,
) -> Option<(*mut u8, u32)> {
    let at = opaque(at);
    if at > CAPTURE as u64 {
        return None;
    }
    let count = (opaque(count.wrapping_sub(1)) & (CAPTURE_STEP as u64 - 1)) + 1;
    // SAFETY: `at` is at most CAPTURE, inside the array; from there CAPTURE_STEP bytes are left, and
    // `count` is at most that.
    Some((unsafe { into.as_mut_ptr().add(at as usize) }, count as u32))
}

/// [`Payload::label`].
#[inline(always)]
pub(crate) fn label(into: &mut [u8; CAPTURE_SPACE], at: u32, what: [u8; CAPTURE_LABEL as usize]) {
    let at = opaque(at);
    if at > CAPTURE as u64 {
        return;
    }
    // SAFETY: `at` is at most CAPTURE, inside the array.
    let to = unsafe { into.as_mut_ptr().add(at as usize) };
    // SAFETY: from there CAPTURE_STEP bytes are left, more than a label.
    unsafe { to.cast::<[u8; CAPTURE_LABEL as usize]>().write(what) }
}

/// [`Payload::settle`]: by way of a map's memory, of which the verifier keeps no record.
#[inline(always)]
pub(crate) fn settled(place: &mut u32, number: u32) -> u32 {
    let place = &raw mut *place;
    // SAFETY: `place` was a reference just now.
    unsafe { place.write_volatile(number) };
    // SAFETY: the same.
    unsafe { place.read_volatile() }
}

/// Hides what the compiler knows about a number. LLVM removes a mask that it can prove to change
/// nothing; the verifier cannot prove as much, and needs to see the mask. It also refuses a length
/// that may be 0, and on old kernels does not learn from a comparison that it is not: hence
/// `((n - 1) & mask) + 1` above.
#[inline(always)]
pub(crate) fn opaque(number: impl Into<u64>) -> u64 {
    let mut number = number.into();
    // SAFETY: copies a register onto itself. (Without an instruction of its own the line would have
    // no address, which the kernel refuses in line info.)
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags));
    }
    number
}

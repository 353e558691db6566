//! Programs for measurements only, never attached by `mtls-probe`: what a program costs that does nothing, and
//! what lets the kernel run another one on a packet that differs each time (BPF_PROG_TEST_RUN repeats one).
//!
//! | program | does |
//! |---|---|
//! | `empty` | nothing |
//! | `floor` | finds an entry in a table by a connection's key, and takes the time: what nobody who follows one can do without |
//! | `next_port` | adds one to the source port, then hands over |
//! | `next_bytes` | adds the payload's length to the sequence number, then hands over |
//! | `ring_128`, `ring_512` | tell an event of so many bytes as the shipped programs do |
//! | `perf_128`, `perf_512` | the same through a perf event array, which wakes its reader for each |
//!
//! Frames are Ethernet, IPv4 and TCP without options: offsets are constants. What is handed over to is in
//! `TARGET`; to measure it, run the same with `empty` there, and subtract.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[path = "../atomic.rs"]
mod atomic;
#[path = "../deliver.rs"]
mod deliver;

use aya_ebpf::bindings::{BPF_F_CURRENT_CPU, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_perf_event_output;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, PerfEventByteArray, ProgramArray, RingBuf};
use aya_ebpf::programs::TcContext;
use gauntlet_wire::packet::FlowKey;

/// What is measured.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Connections, as many as the shipped table may have.
#[map]
static TABLE: HashMap<FlowKey, u64> = HashMap::with_max_entries(8_192, 0);

/// The connection that `floor` looks for.
#[map]
static KEY: Array<FlowKey> = Array::with_max_entries(1, 0);

/// Events of `ring_*`. The loader sets its size.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Events of `perf_*`.
#[map]
static PERF: PerfEventByteArray = PerfEventByteArray::new(0);

/// An event of `perf_*`, which is copied.
#[map]
static EVENT: PerCpuArray<[u64; 64]> = PerCpuArray::with_max_entries(1, 0);

/// Events that found no room.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

const SOURCE_PORT: usize = 34;
const SEQUENCE: usize = 38;
const PAYLOAD: u32 = 54;

#[classifier]
fn empty(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

#[classifier]
fn floor(_: TcContext) -> i32 {
    let Some(key) = KEY.get_ptr(0) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: an element of a map, which nobody writes meanwhile.
    if let Some(found) = TABLE.get_ptr_mut(unsafe { &*key }) {
        // SAFETY: the helper has no preconditions.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: an element of a map; one program at a time is run.
        unsafe { *found = now };
    }
    TC_ACT_UNSPEC
}

#[classifier]
fn next_port(context: TcContext) -> i32 {
    if let Some(port) = field::<[u8; 2]>(&context, SOURCE_PORT) {
        *port = u16::from_be_bytes(*port).wrapping_add(1).to_be_bytes();
    }
    hand_over(&context)
}

#[classifier]
fn next_bytes(context: TcContext) -> i32 {
    let length = context.len().wrapping_sub(PAYLOAD);
    if let Some(sequence) = field::<[u8; 4]>(&context, SEQUENCE) {
        let next = u32::from_be_bytes(*sequence).wrapping_add(length);
        *sequence = next.to_be_bytes();
    }
    hand_over(&context)
}

#[classifier]
fn ring_128(_: TcContext) -> i32 {
    ring::<16>()
}

#[classifier]
fn ring_512(_: TcContext) -> i32 {
    ring::<64>()
}

#[classifier]
fn perf_128(context: TcContext) -> i32 {
    perf::<16>(&context)
}

#[classifier]
fn perf_512(context: TcContext) -> i32 {
    perf::<64>(&context)
}

/// Tells an event of so many words. The first is the time, taken last.
#[inline(always)]
fn ring<const WORDS: usize>() -> i32 {
    let Some(mut event) = RING.reserve::<[u64; WORDS]>(0) else {
        lost();
        return TC_ACT_UNSPEC;
    };
    let words = event.as_mut_ptr().cast::<u64>();
    // SAFETY: as many words as were reserved.
    unsafe { core::ptr::write_bytes(words, 0x5a, WORDS) };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the first of them.
    unsafe { words.write(now) };
    event.submit(deliver::wake());
    TC_ACT_UNSPEC
}

#[inline(always)]
fn perf<const WORDS: usize>(context: &TcContext) -> i32 {
    let Some(event) = EVENT.get_ptr_mut(0) else {
        return TC_ACT_UNSPEC;
    };
    let words = event.cast::<u64>();
    // SAFETY: this CPU's own slot; WORDS is at most its size.
    unsafe { core::ptr::write_bytes(words, 0x5a, WORDS) };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the first of them.
    unsafe { words.write(now) };
    // SAFETY: the context is this program's, the map a perf event array, and the event WORDS words long.
    let told = unsafe {
        bpf_perf_event_output(
            context.skb.skb.cast(),
            (&raw const PERF).cast_mut().cast(),
            u64::from(BPF_F_CURRENT_CPU as u32),
            words.cast(),
            (WORDS * 8) as u64,
        )
    };
    if told != 0 {
        lost();
    }
    TC_ACT_UNSPEC
}

fn lost() {
    if let Some(count) = LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot; programs do not nest on a CPU.
        unsafe { *count += 1 };
    }
}

fn hand_over(context: &TcContext) -> i32 {
    // SAFETY: the context is the one this program was given.
    unsafe { TARGET.tail_call(context, 0) };
    TC_ACT_UNSPEC
}

/// A field of the packet in hand, to be changed.
#[inline(always)]
fn field<T>(context: &TcContext, at: usize) -> Option<&'static mut T> {
    let start = context.data() + at;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: inside the linear part, as was just checked (and as the verifier checks again); an array of
    // bytes needs no alignment, and nobody else has the packet as long as the program runs.
    Some(unsafe { &mut *(start as *mut T) })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

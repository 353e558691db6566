//! A fault on purpose, in builds with `planted-refusal` only: `cargo xtask matrix --faults` has a kernel
//! refuse it. Never in a probe that anybody runs.

/// `bpf_ktime_get_tai_ns`, a helper that came with Linux 6.1.
const TAI_NANOSECONDS: usize = 208;

/// What works where it was written is refused on 5.10.
#[inline(always)]
pub(crate) fn needs_6_1() {
    // SAFETY: BPF calls helpers by their number, and this one takes nothing.
    let helper: extern "C" fn() -> u64 = unsafe { core::mem::transmute(TAI_NANOSECONDS) };
    core::hint::black_box(helper());
}

//! A fault on purpose, in builds with `planted-refusal` only: `cargo xtask matrix --faults` has a kernel
//! refuse it. Never in a probe that anybody runs.

use aya_ebpf::helpers::bpf_ktime_get_tai_ns;

/// Calls a helper that came with Linux 6.1: what works where it was written is refused on 5.10.
#[inline(always)]
pub(crate) fn needs_6_1() {
    // SAFETY: the helper has no preconditions.
    let _now = unsafe { bpf_ktime_get_tai_ns() };
}

//! Addition that nothing comes between, neither another CPU nor a program that interrupts this one (BPF_XADD).
//!
//! Refuses to say the sum: before 5.12 programs could not have it.

/// Adds to a number. On x86-64 it is a full barrier.
///
/// # Safety
/// `number` must point into a map's element.
#[inline(always)]
pub(crate) unsafe fn add(number: *mut u64, what: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) number, in(reg) what, options(nostack));
    }
}

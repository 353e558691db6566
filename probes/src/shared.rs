//! A BPF array's only element in our memory: what programs and this process both change, without a system call.
//!
//! # Kernel
//! 5.5: BPF_F_MMAPABLE.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;

use aya::maps::{Map, MapError};
use nix::libc;

/// What may be shared: every byte pattern is a value, and every change is atomic.
///
/// # Safety
/// That is for the implementation to promise.
pub(crate) unsafe trait Atomics {}

// SAFETY: integers, changed atomically.
unsafe impl Atomics for std::sync::atomic::AtomicU32 {}
// SAFETY: the same.
unsafe impl Atomics for std::sync::atomic::AtomicU64 {}
// SAFETY: its elements are.
unsafe impl<T: Atomics, const N: usize> Atomics for [T; N] {}

/// The element.
pub(crate) struct Shared<T: Atomics>(NonNull<T>);

// SAFETY: memory that nobody takes away, changed atomically.
unsafe impl<T: Atomics> Send for Shared<T> {}
// SAFETY: the same.
unsafe impl<T: Atomics> Sync for Shared<T> {}

impl<T: Atomics> Shared<T> {
    /// The element of an array whose values are of this size. The array lives as long as this does.
    ///
    /// # Errors
    /// When it is another kind of map, or of another size, or cannot be mapped.
    pub(crate) fn new(map: &Map) -> Result<Self, MapError> {
        let Map::Array(array) = map else {
            return Err(refused(io::ErrorKind::InvalidInput.into()));
        };
        let size = array.info()?.value_size() as usize;
        let expected = size_of::<T>();
        if size != expected {
            return Err(MapError::InvalidValueSize { size, expected });
        }
        let descriptor = array.fd().as_fd().as_raw_fd();
        // SAFETY: a new mapping, wherever the kernel wants it.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(refused(io::Error::last_os_error()));
        }
        NonNull::new(mapped.cast())
            .map(Self)
            .ok_or_else(|| refused(io::ErrorKind::OutOfMemory.into()))
    }
}

fn refused(error: io::Error) -> MapError {
    MapError::IoError(error)
}

impl<T: Atomics> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped as long as `self` lives, page-aligned, as large as `T`; any bytes are a `T`.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Atomics> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped; nothing refers to it any more.
        let _unmapped = unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

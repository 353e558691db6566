//! What stands between vmtest and a stock distribution kernel.
//!
//! vmtest wants a kernel with 9p and virtio built in; distributions build them as modules. Three
//! small programs close the gap, and each is the only place where its part is decided:
//!
//! | program | runs | does |
//! |---|---|---|
//! | `gauntlet-qemu` | on the host, as vmtest's QEMU | makes the guest unable to write the host's files, picks the accelerator, keeps the console |
//! | `gauntlet-init` | in the guest, as the initramfs' init | loads modules, mounts the host's root read-only under a memory overlay, hands over to vmtest's init |
//! | `gauntlet-suite` | in the guest, as vmtest's command | runs the suite, leaves its results and the end marker |
//!
//! The init is our own because nothing ready fits: a distribution's initramfs generator needs root
//! and its modules installed, a busybox script needs busybox on every machine, and both make a
//! module that did not load a silent matter. Here it is one line and no boot.
//!
//! This library holds what two of them, or xtask, must agree on.

pub mod protocol;
pub mod qemu;

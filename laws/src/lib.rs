//! What must hold of any input. Each law is one call into the real code and panics where it does not hold; the
//! targets of `fuzz/` are these functions, and `tests/regressions.rs` replays every finding without libFuzzer.
//!
//! | law | of | holds that |
//! |---|---|---|
//! | [`hello`] | a client's first bytes | what is read of a ClientHello is what `tls-parser` and rustls read of it |
//! | [`conversation`] | a [`script`] | no failure is told twice, none after the end, and counters add up |
//! | [`recut`] | a [`script`] and a seed | other segments of the same bytes say the same |
//! | [`kernel`] | a [`script`] | the programs in the kernel and the host build say, count and keep the same |
//! | [`event`] | ring-buffer bytes | any are read, named and printed |
//! | [`scenario`] | a scenario file | it is read, or refused with a place in it |
//! | [`capture`] | a capture file | it is read to its end, or refused |
//! | [`keylog`] | a key log | how it comes in pieces makes no difference |
//!
//! Refuses to make inputs: libFuzzer does, [`seeds`] from what was recorded, and [`stories`] from numbers.
//! [`differential`] is [`kernel()`] by the hundred million packets; [`coverage`] says which of the programs'
//! instructions that runs.

mod conversation;
pub mod coverage;
pub mod differential;
mod files;
mod frames;
mod hello;
pub mod jit;
mod kernel;
pub mod links;
pub mod player;
pub mod script;
pub mod seeds;
pub mod stories;

pub use conversation::{conversation, planted, recut};
pub use files::{capture, event, keylog, scenario};
pub use hello::hello;
pub use kernel::{kernel, load, settings};

/// A law by the name of its fuzz target.
pub type Law = (&'static str, fn(&[u8]));

/// Those that need no privileges.
pub const LAWS: [Law; 7] = [
    ("hello", hello),
    ("conversation", conversation),
    ("recut", recut),
    ("event", event),
    ("scenario", scenario),
    ("capture", capture),
    ("keylog", keylog),
];

/// Those that load programs into the kernel.
pub const KERNEL_LAWS: [Law; 1] = [("kernel", kernel)];

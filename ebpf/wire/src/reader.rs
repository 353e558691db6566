//! What a reader of events says of itself, in memory that the programs read: whether it has to be woken.
//!
//! Waking costs whoever sends the packet hundreds of times what writing the event does, so a reader that is
//! awake anyway says so. Nothing is missed between the two:
//!
//! | program | reader |
//! |---|---|
//! | reserves: the ring is no longer empty | says that it is asleep |
//! | full barrier | full barrier |
//! | reads the reader's word | polls the ring, which returns at once unless it is empty |
//!
//! Whichever comes second sees the other. A program that finds the reader asleep wakes it, and writes that it is
//! awake, so that one event wakes it and not all that come until it runs. The kernel guarantees none of this; a
//! reader's poll has an end.

/// How many words there are.
pub const WORDS: usize = 2;
/// Where the reader's word is.
pub const WORD: usize = 0;
/// Where events are counted that were told. The addition is the barrier.
pub const TOLD: usize = 1;

/// The reader has said nothing: it is woken whenever it has read all there was (the kernel's own policy).
pub const SILENT: u64 = 0;
/// It will look by itself.
pub const AWAKE: u64 = 1;
/// It waits to be woken.
pub const ASLEEP: u64 = 2;

//! What is counted. Every packet, flow or byte that could not be followed has a cause here, so that
//! "nothing was reported" can be told from "nothing was seen".

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::class::Class;
use crate::record::{SSL3_0, TLS1_3};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal, $lost:literal;)*) => {
        /// An index into the per-CPU array of counters. The numbers cross the kernel boundary.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name = $number,)* }

        impl Counter {
            /// All, in the order of their numbers.
            pub const ALL: [Self; COUNTERS] = [$(Self::$name,)*];

            /// The word in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Whether a failed handshake may have gone unreported for this reason.
            #[must_use]
            pub const fn is_loss(self) -> bool {
                match self { $(Self::$name => $lost,)* }
            }
        }
    };
}

/// How many counters there are.
pub const COUNTERS: usize = 21;

counters! {
    /// Connections whose SYN was seen.
    FlowOpened = 0, "flow_opened", false;
    /// Handshakes that were seen to succeed.
    HandshakeDone = 1, "handshake_done", false;
    /// Connections that turned out not to be TLS, or ended before a ClientHello.
    NotTls = 2, "not_tls", false;
    /// Failed handshakes; each is one event, or one of `ring_full`.
    HandshakeFailed = 3, "handshake_failed", false;
    /// Segments whose bytes had all been seen before: retransmissions, or a second interface of the path.
    Duplicate = 4, "duplicate_segment", false;
    /// Failed handshakes whose event found no room on its way to user space: the ring buffer was full, or,
    /// where events go by perf event array, the CPU's buffer was, or it had none.
    RingFull = 5, "ring_full", true;
    /// Connections that found no room in the flow table when they were answered.
    FlowTableFull = 6, "flow_table_full", true;
    /// Connections forgotten with their handshake under way, since their ports were used again.
    FlowReplaced = 7, "flow_replaced", true;
    /// Connections that sent nothing for so long that the collector removed them; no handshake was under way.
    FlowExpired = 8, "flow_expired", false;
    /// Frames with a link header that is not known.
    UnparsedLink = 9, "unparsed_link", true;
    /// Packets with an IP or TCP header that could not be read.
    UnparsedNetwork = 10, "unparsed_network", true;
    /// IP fragments.
    Fragment = 11, "ip_fragment", true;
    /// Segments that came before the ones they follow, or whose predecessors were never seen. They are kept,
    /// as far as there is room.
    Gap = 12, "gap_segment", false;
    /// Handshakes whose end could not be judged, since bytes were missing or unreadable.
    Unseen = 13, "handshake_unseen", true;
    /// Packets that lacked bytes their headers promise.
    Unreadable = 14, "unreadable_packet", true;
    /// Packets with more records and messages than are followed in one packet.
    StepsExhausted = 15, "steps_exhausted", true;
    /// Failed handshakes reported with part of a name or list missing.
    CaptureTruncated = 16, "capture_truncated", false;
    /// Failed handshakes with a message that contradicts its own lengths.
    Malformed = 17, "malformed_message", false;
    /// Handshakes that were either rejected by an encrypted alert or closed right after they were
    /// done, which look the same ([`crate::rules::Outcome::Undecided`]).
    Undecided = 18, "handshake_undecided", false;
    /// Segments that came early (`gap_segment`) and found no room to be kept whole. Sent again they are none
    /// the less followed.
    EarlyDropped = 19, "early_segment_dropped", false;
    /// Packets of a cgroup that were met while too many others were being looked at on the same CPU.
    Nested = 20, "packet_nested_too_deep", true;
}

/// Failures of one class and TLS version.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ClassCount {
    /// How many.
    pub count: u64,
    /// The last one. Nanoseconds, CLOCK_MONOTONIC.
    pub last_seen: u64,
}

/// The key of the per-CPU map of failures: `class << 16 | version`; version 0 is not known, or none
/// of TLS, since what a server says must not fill the map.
#[must_use]
#[inline(always)]
pub const fn class_key(class: Class, version: u16) -> u32 {
    let known = version >= SSL3_0 && version <= TLS1_3;
    (class as u32) << 16 | if known { version as u32 } else { 0 }
}

/// Reads such a key back.
#[must_use]
pub fn from_class_key(key: u32) -> Option<(Class, u16)> {
    Some((
        Class::from_number(u8::try_from(key >> 16).ok()?)?,
        key as u16,
    ))
}

//! What the probes inside TLS libraries hand to user space: which connection a TLS session speaks on,
//! and what the library said about it. The one definition of those bytes.
//!
//! Refuses to judge: a word is what a library said, at one end of a connection. What it means for the
//! handshake is decided where it meets what the wire showed, in user space.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Changes with any layout or number in this module that crosses the kernel boundary.
pub const ABI: u32 = 2;

/// Bytes of a thread's name in the kernel (TASK_COMM_LEN).
pub const COMM: usize = 16;

/// A connection as the socket at one of its ends names it. IPv4 addresses are IPv4-mapped, as in
/// [`crate::packet::FlowKey`]; ports are in the host's order.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Ends {
    /// The socket's own address.
    pub local: [u8; 16],
    /// Its peer's.
    pub remote: [u8; 16],
    /// The socket's own port; never 0 in a connection.
    pub local_port: u16,
    /// Its peer's.
    pub remote_port: u16,
}

/// A TCP socket, as a TLS session was seen to use it.
///
/// The sequence numbers tell one connection from an earlier one of the same addresses and ports. From one in
/// another network namespace they do not: begun at the same time, both have the same
/// (`secure_tcp_seq` in net/core/secure_seq.c knows no namespace), and so may both ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Socket {
    /// The connection.
    pub ends: Ends,
    /// Sequence number of the next byte that it will send (`snd_nxt`).
    pub sends: u32,
    /// Sequence number of the next byte that it expects (`rcv_nxt`).
    pub expects: u32,
    /// Its network namespace: the inode number of the file that stands for it (`net.ns.inum`); 0: not known.
    pub netns: u32,
}

impl Socket {
    /// Whether a connection was seen at all.
    #[must_use]
    #[inline(always)]
    pub const fn known(&self) -> bool {
        self.ends.local_port != 0
    }
}

/// Where the kernel keeps what a [`Socket`] is made of: offsets in bytes from a `struct sock`, which
/// differ from kernel to kernel. The loader takes them from the kernel's own BTF.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SocketLayout {
    /// `skc_family`, 2 bytes.
    pub family: u32,
    /// `sk_protocol`, 2 bytes.
    pub protocol: u32,
    /// `skc_rcv_saddr`, 4 bytes.
    pub local_v4: u32,
    /// `skc_daddr`, 4 bytes.
    pub remote_v4: u32,
    /// `skc_v6_rcv_saddr`, 16 bytes.
    pub local_v6: u32,
    /// `skc_v6_daddr`, 16 bytes.
    pub remote_v6: u32,
    /// `skc_num`, 2 bytes, host order.
    pub local_port: u32,
    /// `skc_dport`, 2 bytes, network order.
    pub remote_port: u32,
    /// `tcp_sock.snd_nxt`, 4 bytes.
    pub sends: u32,
    /// `tcp_sock.rcv_nxt`, 4 bytes.
    pub expects: u32,
    /// `skc_net`, a pointer to a `struct net`; 0: the kernel has none.
    pub net: u32,
    /// `ns.inum` in there, 4 bytes.
    pub netns: u32,
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$inner])* $variant = $number,)* }

        impl $name {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The one with this number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| *one as u8 == number)
            }
        }
    };
}

numbered! {
    /// Whose functions were probed.
    Stack {
        /// OpenSSL 1.1 or 3.
        OpenSsl = 1,
        /// BoringSSL.
        BoringSsl = 2,
        /// GnuTLS.
        GnuTls = 3,
    }
}

numbered! {
    /// What [`Word::code`] is.
    Kind {
        /// The first error that the library raised inside a call that failed: OpenSSL's reason.
        Reason = 1,
        /// What `SSL_get_error` said, where the library raised no error: SSL_ERROR_SYSCALL (5) or
        /// SSL_ERROR_ZERO_RETURN (6).
        Result = 2,
        /// An alert that the application had the library send: level << 8 | description.
        Sent = 3,
        /// The alert that the library received: its description.
        Received = 4,
        /// A negative error code that a function of GnuTLS returned.
        Returned = 5,
    }
}

numbered! {
    /// What kind of function a session is in.
    Call {
        /// The handshake itself.
        Handshake = 1,
        /// Reading, which may do the handshake on its way.
        Read = 2,
        /// Writing, likewise.
        Write = 3,
    }
}

/// How large the ring buffer of [`Word`]s is, bytes.
pub const WORDS_BYTES: u32 = 256 << 10;

/// What a library said about one end of a connection whose handshake is not known to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Word {
    /// When. Nanoseconds, CLOCK_MONOTONIC.
    pub time: u64,
    /// [`ABI`].
    pub abi: u32,
    /// The process (its thread group), as the initial PID namespace numbers it.
    pub process: u32,
    /// The connection; unknown where the session was not seen to use a socket.
    pub socket: Socket,
    /// What [`Kind`] says it is.
    pub code: u32,
    /// The last certificate verification error that was asked for in the same call
    /// (X509_STORE_CTX_get_error); 0: none.
    pub verify_error: u32,
    /// [`Stack`] as a number.
    pub stack: u8,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`Call`] as a number; 0: none.
    pub call: u8,
    /// [`Facts`] about the session before this.
    pub facts: Facts,
    /// Name of the thread, up to a zero byte.
    pub comm: [u8; COMM],
    /// Zero.
    pub reserved: [u8; 4],
}

/// What is known of a session: the bits of [`Facts`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Facts(pub u8);

impl Facts {
    /// The handshake function said that it is done. A TLS 1.3 client says so before its server has
    /// seen its certificate.
    pub const DONE: Self = Self(1);
    /// Data of the application arrived: the peer's handshake is done too.
    pub const READ: Self = Self(1 << 1);
    /// It had to wait for its peer: SSL_ERROR_WANT_READ or SSL_ERROR_WANT_WRITE.
    pub const WAITS: Self = Self(1 << 2);
    /// A failure was told: nothing that follows is another.
    pub const TOLD: Self = Self(1 << 3);
    /// GnuTLS: a function said that an alert came, and gnutls_alert_get can say which.
    pub const ALERTED: Self = Self(1 << 4);
    /// SSL_ERROR_SYSCALL was told. A reason may follow: a client that writes to a connection which its
    /// server has reset can still read the alert that came before.
    pub const BROKEN: Self = Self(1 << 5);

    /// Whether all of `other` is known.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing that the library may still say is about the handshake.
    #[must_use]
    #[inline(always)]
    pub const fn settled(self) -> bool {
        self.has(Self(Self::DONE.0 | Self::READ.0)) || self.has(Self::TOLD)
    }
}

/// What was last known of a session whose library did not fail, kept by [`Ends`] for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Standing {
    /// Since when. Nanoseconds, CLOCK_MONOTONIC.
    pub time: u64,
    /// The connection.
    pub socket: Socket,
    /// The process, as [`Word::process`].
    pub process: u32,
    /// [`Stack`] as a number.
    pub stack: u8,
    /// What is known.
    pub facts: Facts,
    /// Zero.
    pub reserved: [u8; 2],
    /// Name of the thread, up to a zero byte.
    pub comm: [u8; COMM],
}

/// A TLS session: an address means nothing outside its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionKey {
    /// Address of the library's object.
    pub address: u64,
    /// The process.
    pub process: u64,
}

/// What is remembered of a session between its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Session {
    /// The connection, once it is known.
    pub socket: Socket,
    /// What is known.
    pub facts: Facts,
    /// [`Stack`] as a number.
    pub stack: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Where a thread is with regard to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Phase(pub u8);

impl Phase {
    /// Inside the function.
    pub const INSIDE: Self = Self(0);
    /// The function has failed and raised no reason; SSL_get_error may be asked for one.
    pub const FAILED: Self = Self(1);
    /// Inside the function that says why: SSL_get_error, gnutls_alert_get.
    pub const ASKING: Self = Self(2);
}

/// A thread inside a library's function, or just after one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InCall {
    /// Address of the session.
    pub session: u64,
    /// Address of the kernel's socket, to read each one once.
    pub sock: u64,
    /// The connection, as far as it is known.
    pub socket: Socket,
    /// The first reason that was raised; 0: none.
    pub reason: u32,
    /// As [`Word::verify_error`].
    pub verify_error: u32,
    /// [`Stack`] as a number.
    pub stack: u8,
    /// [`Call`] as a number.
    pub call: u8,
    /// What was known before.
    pub facts: Facts,
    /// Where the thread is.
    pub phase: Phase,
    /// 1: it is to read or write no bytes, so that 0 is no failure.
    pub empty: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// An index into the per-CPU array of what the probes could not do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name = $number,)* }

        impl Counter {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

counters! {
    /// Words of a session that was not seen to use a socket: the application does its own reading and
    /// writing, outside the library's calls.
    NoSocket = 0, "library_no_socket";
    /// Words that found no room in the ring buffer.
    RingFull = 1, "library_ring_full";
    /// Calls that could not be followed, for want of room.
    Full = 2, "library_full";
}

//! Probes inside TLS libraries: what the library itself says about a handshake, and on which connection.
//! They read registers and the kernel's sockets, and change nothing.
//!
//! | attached to | learns |
//! |---|---|
//! | `SSL_do_handshake`, `SSL_connect`, `SSL_accept`, `SSL_read*`, `SSL_write*`, `SSL_peek*` | which session a thread is in, and how that ended |
//! | `ERR_vset_error` (OpenSSL 3), `ERR_put_error` (1.1, BoringSSL) | the reason of a failure |
//! | `X509_STORE_CTX_get_error` | what was wrong with a certificate |
//! | `SSL_get_error` | why a call failed that raised no reason |
//! | `gnutls_handshake`, `gnutls_record_recv`, `gnutls_record_send` | as the first row, for GnuTLS |
//! | `gnutls_alert_send`, `gnutls_alert_get` | the alert |
//! | `SSL_free`, `gnutls_deinit` | that an address may be another session from now on |
//! | tracepoints `tcp_rcv_space_adjust`, `sock_send_length` | the socket that the thread reads or writes |
//!
//! A call counts once however its functions call each other: the outermost one begins it, the first that
//! returns ends it (they return the same). Errors that a library raises on its way to success are
//! forgotten with the call that raised them, and errors outside a session's call are nobody's.
//!
//! # Kernel
//! 5.10; `sock_send_length` is Linux 6.3's.
#![no_std]
#![no_main]

mod maps;
mod socket;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{raw_tracepoint, uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext, RetProbeContext};
use gauntlet_wire::library::{
    ABI, COMM, Call, Counter, Ends, Facts, InCall, Kind, Phase, Session, SessionKey, Socket, Stack,
    Standing, Word,
};

use crate::maps::{CALLS, NEVER, SESSIONS, STANDINGS, WORDS, count};

/// ERR_LIB_SSL
const OPENSSL_LIB_SSL: u32 = 20;
/// BoringSSL's ERR_LIB_SSL
const BORINGSSL_LIB_SSL: u32 = 16;

const SSL_ERROR_WANT_READ: i32 = 2;
const SSL_ERROR_WANT_WRITE: i32 = 3;
const SSL_ERROR_SYSCALL: i32 = 5;
const SSL_ERROR_ZERO_RETURN: i32 = 6;

const GNUTLS_E_FATAL_ALERT_RECEIVED: i32 = -12;
const GNUTLS_E_WARNING_ALERT_RECEIVED: i32 = -16;
const GNUTLS_E_AGAIN: i32 = -28;
const GNUTLS_E_INTERRUPTED: i32 = -52;
const GNUTLS_AL_FATAL: u32 = 2;

/// 0, of which no compiler may make use: the tail call of [`keep_own_stack`] has to stay where it is.
#[unsafe(no_mangle)]
static TAIL_CALLS: u8 = 0;

/// Makes the kernel leave a program on the stack of its task. Since 6.13 programs of this kind have one for each
/// CPU (`bpf_enable_priv_stack` in kernel/bpf/verifier.c), as if nobody could take the CPU from them. Those on
/// user space can be preempted, and two on one stack wreck each other's pointers: seen as a page fault in
/// Linux 7.3 (PREEMPT_LAZY). Programs with a tail call are left where they were; this one is never made.
#[inline(always)]
fn keep_own_stack(context: &impl EbpfContext) {
    // SAFETY: a constant of this object.
    if unsafe { core::ptr::read_volatile(&TAIL_CALLS) } != 0 {
        // SAFETY: the context is the one this program was given.
        unsafe { NEVER.tail_call(context, 0) };
    }
}

macro_rules! enters {
    ($($name:ident, $stack:ident, $call:ident;)*) => {
        $(
            /// A thread enters a function of this kind.
            #[uprobe]
            fn $name(context: ProbeContext) -> u32 {
                keep_own_stack(&context);
                enter(&context, Stack::$stack, Call::$call);
                0
            }
        )*
    };
}

enters! {
    openssl_handshake, OpenSsl, Handshake;
    openssl_read, OpenSsl, Read;
    openssl_write, OpenSsl, Write;
    boringssl_handshake, BoringSsl, Handshake;
    boringssl_read, BoringSsl, Read;
    boringssl_write, BoringSsl, Write;
    gnutls_handshake, GnuTls, Handshake;
    gnutls_read, GnuTls, Read;
    gnutls_write, GnuTls, Write;
}

/// A thread begins a call, unless it is in one of the same session already, or nothing that is still said
/// about the session can be about its handshake.
#[inline(always)]
fn enter(context: &ProbeContext, stack: Stack, kind: Call) {
    let Some(session) = context.arg::<u64>(0) else {
        return;
    };
    let thread = bpf_get_current_pid_tgid();
    let mut call = InCall {
        session,
        sock: 0,
        socket: NO_SOCKET,
        reason: 0,
        verify_error: 0,
        stack: stack as u8,
        call: kind as u8,
        facts: Facts(0),
        phase: Phase::INSIDE,
        empty: u8::from(kind != Call::Handshake && context.arg::<u64>(2) == Some(0)),
        reserved: [0; 3],
    };
    if let Some(known) = SESSIONS.get_ptr(&key(session, thread)) {
        // SAFETY: the element stays readable while the program runs.
        let known = unsafe { &*known };
        if known.facts.settled() {
            return;
        }
        call.socket = known.socket;
        call.facts = known.facts;
    }
    if let Some(running) = current(thread)
        && running.session == session
        && running.phase == Phase::INSIDE
    {
        return;
    }
    if CALLS.insert(&thread, &call, 0).is_err() {
        count(Counter::Full);
    }
}

/// A function of OpenSSL's interface returns: 1 or a number of bytes when all is well.
#[uretprobe]
fn openssl_return(context: RetProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = inside(thread) else {
        return 0;
    };
    let returned = context.ret::<i32>();
    if returned > 0 {
        succeeded(thread, call);
    } else if returned == 0 && call.empty != 0 && call.reason == 0 {
        // s_client does its handshake by writing nothing.
        remember(thread, call, call.facts);
        forget(thread);
    } else if call.reason != 0 {
        tell(call, Kind::Reason, call.reason);
        remember(thread, call, call.facts.with(Facts::TOLD));
        forget(thread);
    } else {
        remember(thread, call, call.facts);
        call.phase = Phase::FAILED;
    }
    0
}

/// A function of GnuTLS returns: 0, a number of bytes, or a negative error.
#[uretprobe]
fn gnutls_return(context: RetProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = inside(thread) else {
        return 0;
    };
    let returned = context.ret::<i32>();
    match returned {
        GNUTLS_E_AGAIN | GNUTLS_E_INTERRUPTED => waits(thread, call),
        GNUTLS_E_FATAL_ALERT_RECEIVED | GNUTLS_E_WARNING_ALERT_RECEIVED => {
            remember(thread, call, call.facts.with(Facts::ALERTED));
        }
        0 if call.call == Call::Read as u8 => remember(thread, call, call.facts),
        0.. => return succeeded(thread, call),
        _ => {
            tell(call, Kind::Returned, returned.cast_unsigned());
            // An alert may be sent yet, so that more is to be told.
            remember(thread, call, call.facts);
        }
    }
    forget(thread);
    0
}

/// `SSL_get_error(session, returned)` begins.
#[uprobe]
fn openssl_get_error(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    if let Some(call) = current(thread)
        && call.phase == Phase::FAILED
        && context.arg::<u64>(0) == Some(call.session)
    {
        call.phase = Phase::ASKING;
    }
    0
}

/// `SSL_get_error` says why.
#[uretprobe]
fn openssl_get_error_return(context: RetProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = asking(thread) else {
        return 0;
    };
    match context.ret::<i32>() {
        SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => waits(thread, call),
        code @ SSL_ERROR_SYSCALL if !call.facts.has(Facts::BROKEN) => {
            tell(call, Kind::Result, code.cast_unsigned());
            remember(thread, call, call.facts.with(Facts::BROKEN));
        }
        code @ SSL_ERROR_ZERO_RETURN => {
            tell(call, Kind::Result, code.cast_unsigned());
            remember(thread, call, call.facts.with(Facts::TOLD));
        }
        _ => {}
    }
    forget(thread);
    0
}

/// `ERR_vset_error(library, reason, format, arguments)`, by which every error of OpenSSL 3 goes.
#[uprobe]
fn openssl3_raise(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    raised(&context, OPENSSL_LIB_SSL, 1);
    0
}

/// `ERR_put_error(library, function, reason, file, line)` of OpenSSL 1.1.
#[uprobe]
fn openssl1_raise(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    raised(&context, OPENSSL_LIB_SSL, 2);
    0
}

/// `ERR_put_error(library, unused, reason, file, line)` of BoringSSL.
#[uprobe]
fn boringssl_raise(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    raised(&context, BORINGSSL_LIB_SSL, 2);
    0
}

/// The first reason is the cause, what follows is its effect.
#[inline(always)]
fn raised(context: &ProbeContext, library: u32, argument: usize) {
    if context.arg::<u32>(0) != Some(library) {
        return;
    }
    if let Some(call) = inside(bpf_get_current_pid_tgid())
        && call.reason == 0
    {
        call.reason = context.arg::<u32>(argument).unwrap_or(0);
    }
}

/// `X509_STORE_CTX_get_error` returns what the verification found: the library asks before it raises.
#[uretprobe]
fn x509_get_error_return(context: RetProbeContext) -> u32 {
    keep_own_stack(&context);
    if let Some(call) = inside(bpf_get_current_pid_tgid())
        && call.reason == 0
    {
        call.verify_error = context.ret::<u32>();
    }
    0
}

/// `gnutls_alert_send(session, level, description)`, by the application or for it. Warnings say goodbye.
#[uprobe]
fn gnutls_alert_send(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    let (Some(session), Some(level), Some(description)) = (
        context.arg::<u64>(0),
        context.arg::<u32>(1),
        context.arg::<u32>(2),
    ) else {
        return 0;
    };
    if level != GNUTLS_AL_FATAL {
        return 0;
    }
    let sent = level << 8 | description & 0xff;
    // A callback that verifies the peer sends it from inside the call. The first is the cause.
    if let Some(call) = inside(thread)
        && call.session == session
    {
        if !call.facts.settled() {
            tell(call, Kind::Sent, sent);
            call.facts = call.facts.with(Facts::TOLD);
        }
    } else if let Some(call) = unsettled(session, thread) {
        tell(&call, Kind::Sent, sent);
        remember(thread, &call, call.facts.with(Facts::TOLD));
    }
    0
}

/// `gnutls_alert_get(session)` begins.
#[uprobe]
fn gnutls_alert_get(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    if let Some(session) = context.arg::<u64>(0)
        && let Some(call) = unsettled(session, thread)
        && call.facts.has(Facts::ALERTED)
    {
        let _ = CALLS.insert(&thread, &call, 0);
    }
    0
}

/// `gnutls_alert_get` says which alert came.
#[uretprobe]
fn gnutls_alert_get_return(context: RetProbeContext) -> u32 {
    keep_own_stack(&context);
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = asking(thread) else {
        return 0;
    };
    tell(call, Kind::Received, context.ret::<u32>());
    remember(thread, call, call.facts.with(Facts::TOLD));
    forget(thread);
    0
}

/// `SSL_free(session)`, `gnutls_deinit(session)`.
#[uprobe]
fn session_free(context: ProbeContext) -> u32 {
    keep_own_stack(&context);
    if let Some(session) = context.arg::<u64>(0) {
        let _ = SESSIONS.remove(&key(session, bpf_get_current_pid_tgid()));
    }
    0
}

/// A thread has taken bytes from a TCP socket: `tcp_rcv_space_adjust(sock)`.
#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
fn socket_read(context: RawTracePointContext) -> i32 {
    uses(context.arg::<u64>(0));
    0
}

/// A thread has given bytes to a socket of any kind: `sock_send_length(sock, length, flags)`.
#[raw_tracepoint(tracepoint = "sock_send_length")]
fn socket_written(context: RawTracePointContext) -> i32 {
    uses(context.arg::<u64>(0));
    0
}

/// The session that the thread is in speaks on this socket. The last one counts: a session may be used
/// for another connection when one has ended.
#[inline(always)]
fn uses(sock: u64) {
    let thread = bpf_get_current_pid_tgid();
    if let Some(call) = inside(thread)
        && call.sock != sock
        && let Some(socket) = socket::read(sock)
    {
        call.sock = sock;
        let new = call.socket.ends != socket.ends;
        call.socket = socket;
        if new {
            // Whoever sees it fail knows from this that a library will have a word to say.
            stands(thread, call, call.facts);
        }
    }
}

/// The call went well. What is new is kept.
#[inline(always)]
fn succeeded(thread: u64, call: &InCall) -> u32 {
    let read = call.call == Call::Read as u8;
    let facts = call
        .facts
        .with(Facts::DONE)
        .with(if read { Facts::READ } else { Facts(0) });
    if facts != call.facts {
        remember(thread, call, facts);
        stands(thread, call, facts);
    }
    forget(thread);
    0
}

/// The call could not go on yet.
#[inline(always)]
fn waits(thread: u64, call: &InCall) {
    let facts = call.facts.with(Facts::WAITS);
    remember(thread, call, facts);
    if !facts.has(Facts::DONE) {
        stands(thread, call, facts);
    }
}

/// Keeps what is known of a session until its next call.
#[inline(always)]
fn remember(thread: u64, call: &InCall, facts: Facts) {
    let session = Session {
        socket: call.socket,
        facts,
        stack: call.stack,
        reserved: [0; 2],
    };
    if SESSIONS
        .insert(&key(call.session, thread), &session, 0)
        .is_err()
    {
        count(Counter::Full);
    }
}

/// Keeps what is known of a connection.
#[inline(always)]
fn stands(thread: u64, call: &InCall, facts: Facts) {
    if !call.socket.known() {
        return;
    }
    let standing = Standing {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_ns() },
        socket: call.socket,
        process: (thread >> 32) as u32,
        stack: call.stack,
        facts,
        reserved: [0; 2],
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
    };
    if STANDINGS.insert(&call.socket.ends, &standing, 0).is_err() {
        count(Counter::Full);
    }
}

/// Hands a word to user space.
#[inline(always)]
fn tell(call: &InCall, kind: Kind, code: u32) {
    if !call.socket.known() {
        return count(Counter::NoSocket);
    }
    let Some(mut entry) = WORDS.reserve::<Word>(0) else {
        return count(Counter::RingFull);
    };
    entry.write(Word {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_ns() },
        abi: ABI,
        process: (bpf_get_current_pid_tgid() >> 32) as u32,
        socket: call.socket,
        code,
        verify_error: call.verify_error,
        stack: call.stack,
        kind: kind as u8,
        call: call.call,
        facts: call.facts,
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
        reserved: [0; 4],
    });
    entry.submit(0);
}

/// A session that is in no call, as one: what is known of it, unless that is all there is to know.
#[inline(always)]
fn unsettled(session: u64, thread: u64) -> Option<InCall> {
    let known = SESSIONS.get_ptr(&key(session, thread))?;
    // SAFETY: the element stays readable while the program runs.
    let known = unsafe { &*known };
    if known.facts.settled() {
        return None;
    }
    Some(InCall {
        session,
        sock: 0,
        socket: known.socket,
        reason: 0,
        verify_error: 0,
        stack: known.stack,
        call: 0,
        facts: known.facts,
        phase: Phase::ASKING,
        empty: 0,
        reserved: [0; 3],
    })
}

/// The thread's call.
#[inline(always)]
fn current(thread: u64) -> Option<&'static mut InCall> {
    // SAFETY: the element stays there while the program runs, and only this thread's programs use it.
    CALLS.get_ptr_mut(&thread).map(|call| unsafe { &mut *call })
}

/// The thread's call, if it is inside the function.
#[inline(always)]
fn inside(thread: u64) -> Option<&'static mut InCall> {
    current(thread).filter(|call| call.phase == Phase::INSIDE)
}

/// The thread's call, if it is inside the function that says why it failed.
#[inline(always)]
fn asking(thread: u64) -> Option<&'static mut InCall> {
    current(thread).filter(|call| call.phase == Phase::ASKING)
}

#[inline(always)]
fn forget(thread: u64) {
    let _ = CALLS.remove(&thread);
}

#[inline(always)]
const fn key(session: u64, thread: u64) -> SessionKey {
    SessionKey {
        address: session,
        process: thread >> 32,
    }
}

const NO_SOCKET: Socket = Socket {
    ends: Ends {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    },
    sends: 0,
    expects: 0,
    netns: 0,
};

/// A panic that could be reached would fail to load: the verifier refuses endless loops.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

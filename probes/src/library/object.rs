//! The BPF object with the probes for libraries, and what is called what in it.

use aya::EbpfLoader;
use gauntlet_wire::library::SocketLayout;
use zerocopy::IntoBytes as _;

use super::btf::{Btf, BtfError};
use crate::load::BRIEF;

/// The ELF object. Aligned, since it is parsed in place.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GAUNTLET_LIBRARY_OBJECT"));

/// The ring buffer of words.
pub const WORDS: &str = "WORDS";
/// What is known of connections whose library did not fail.
pub const STANDINGS: &str = "STANDINGS";
/// The array of counters.
pub const COUNTS: &str = "LIBRARY_COUNTS";
/// Where the loader writes a [`SocketLayout`].
pub const SOCKET_LAYOUT: &str = "SOCKET_LAYOUT";

/// The probes of functions.
pub const PROBES: [&str; 20] = [
    "openssl_handshake",
    "openssl_read",
    "openssl_write",
    "openssl_return",
    "openssl_get_error",
    "openssl_get_error_return",
    "openssl3_raise",
    "openssl1_raise",
    "x509_get_error_return",
    "boringssl_handshake",
    "boringssl_read",
    "boringssl_write",
    "boringssl_raise",
    "gnutls_handshake",
    "gnutls_read",
    "gnutls_write",
    "gnutls_return",
    "gnutls_alert_send",
    "gnutls_alert_get",
    "gnutls_alert_get_return",
];
/// The probe of a function that ends a session; beside [`PROBES`].
pub const FREE: &str = "session_free";

/// The program that sees a thread read from a socket, and its tracepoint.
pub const SOCKET_READ: (&str, &str) = ("socket_read", "tcp_rcv_space_adjust");
/// The program that sees one write, and its tracepoint.
///
/// # Kernel
/// 6.3. Before, a connection is known once its end has received something.
pub const SOCKET_WRITTEN: (&str, &str) = ("socket_written", "sock_send_length");

/// Names of all programs.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROBES
        .into_iter()
        .chain([FREE, SOCKET_READ.0, SOCKET_WRITTEN.0])
}

/// What the programs and their loader must know of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Where it keeps a socket's fields.
    pub layout: SocketLayout,
    /// It can attach a program to many functions at once.
    ///
    /// # Kernel
    /// 6.6
    pub many_functions: bool,
}

impl Kernel {
    /// The running one, by its own description.
    ///
    /// # Errors
    /// [`BtfError`]: it has none, or it says otherwise than is known here.
    pub fn running() -> Result<Self, BtfError> {
        let btf = Btf::of_kernel()?;
        let common = |field| btf.offset("sock", &["__sk_common", field]);
        let tcp = |field| btf.offset("tcp_sock", &[field]);
        // A tcp_sock begins with an inet_connection_sock, that with an inet_sock, that with a sock.
        for (outer, inner) in [
            ("tcp_sock", "inet_conn"),
            ("inet_connection_sock", "icsk_inet"),
            ("inet_sock", "sk"),
        ] {
            if btf.offset(outer, &[inner])? != 0 {
                return Err(BtfError::Absent(format!(
                    "{outer} does not begin with {inner}"
                )));
            }
        }
        // Without CONFIG_NET_NS there is one namespace only, and no pointer to it.
        let net = btf.offset("sock", &["__sk_common", "skc_net", "net"]);
        let netns = net.ok().zip(btf.offset("net", &["ns", "inum"]).ok());
        Ok(Self {
            layout: SocketLayout {
                family: common("skc_family")?,
                protocol: btf.offset("sock", &["sk_protocol"])?,
                local_v4: common("skc_rcv_saddr")?,
                remote_v4: common("skc_daddr")?,
                local_v6: common("skc_v6_rcv_saddr")?,
                remote_v6: common("skc_v6_daddr")?,
                local_port: common("skc_num")?,
                remote_port: common("skc_dport")?,
                sends: tcp("snd_nxt")?,
                expects: tcp("rcv_nxt")?,
                net: netns.map_or(0, |(net, _)| net),
                netns: netns.map_or(0, |(_, number)| number),
            },
            // The kernel's own record of such an attachment.
            many_functions: btf.offset("bpf_uprobe_multi_link", &["link"]).is_ok(),
        })
    }
}

/// A loader that fills in the layout.
pub(crate) fn loader(layout: &SocketLayout) -> EbpfLoader<'_> {
    let mut loader = EbpfLoader::new();
    loader
        .override_global(SOCKET_LAYOUT, layout.as_bytes(), true)
        .verifier_log_level(BRIEF);
    loader
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;

    /// BPF_JMP | BPF_CALL, of the helper bpf_tail_call (include/uapi/linux/bpf.h).
    const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

    /// What keeps them off the stacks that kernels give each CPU, where two that preempt each other would meet
    /// (`keep_own_stack` in the programs).
    #[test]
    fn every_probe_of_a_function_has_a_tail_call() {
        let file = object::File::parse(OBJECT).unwrap();
        for name in PROBES.into_iter().chain([FREE]) {
            let symbol = file
                .symbols()
                .find(|symbol| symbol.name() == Ok(name))
                .unwrap();
            let section = file
                .section_by_index(symbol.section_index().unwrap())
                .unwrap();
            let code = section
                .data_range(symbol.address(), symbol.size())
                .unwrap()
                .unwrap();
            let has = code
                .chunks_exact(8)
                .any(|instruction| *instruction == TAIL_CALL);
            assert!(has, "{name}");
        }
    }
}

//! Reads back what a flow kept of hellos and certificates. For user space; the bytes come from the
//! network, so every length is checked and what does not fit is left out.

use crate::Role;
use crate::flow::{
    CAPTURED_SUITES, CERTIFICATE_AT, CERTIFICATE_BYTES, Flow, HELLO_AT, HELLO_SPACE,
};
use crate::handshake::{EXT_ALPN, EXT_SERVER_NAME, EXT_SUPPORTED_VERSIONS};

/// What was kept of one side's hello.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a>(&'a [u8]);

impl<'a> Hello<'a> {
    /// The hello of a side; empty if it sent none.
    #[must_use]
    pub fn of(flow: &'a Flow, role: Role) -> Self {
        let at = usize::from(HELLO_AT[role as usize]);
        let length = flow.sides[role as usize]
            .hello_len
            .min(HELLO_SPACE[role as usize]);
        Self(&flow.bytes[at..at + usize::from(length)])
    }

    /// The kept bytes of one extension, or of the cipher suites.
    fn kept(self, what: u16) -> Option<&'a [u8]> {
        let mut rest = self.0;
        while let [a, b, c, d, after @ ..] = rest {
            let (kind, length) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            let (body, next) = after
                .split_at_checked(usize::from(length))
                .unwrap_or((after, &[]));
            if kind == what {
                return Some(body);
            }
            rest = next;
        }
        None
    }

    /// Cipher suites offered, in order.
    pub fn suites(self) -> impl Iterator<Item = u16> + 'a {
        pairs(self.kept(CAPTURED_SUITES).unwrap_or_default())
    }

    /// Versions offered in supported_versions, in order.
    pub fn supported_versions(self) -> impl Iterator<Item = u16> + 'a {
        pairs(
            self.kept(EXT_SUPPORTED_VERSIONS)
                .and_then(<[u8]>::split_first)
                .map_or(&[], |(_, list)| list),
        )
    }

    /// The host name asked for (RFC 6066 section 3), as bytes.
    #[must_use]
    pub fn server_name(self) -> Option<&'a [u8]> {
        // ServerNameList length, name type 0, name length, name.
        let [_, _, 0, high, low, name @ ..] = self.kept(EXT_SERVER_NAME)? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // `HostName<1..2^16-1>`: an empty one is malformed, and no name.
        name.get(..length).filter(|name| !name.is_empty())
    }

    /// Protocol names offered, or the one chosen (RFC 7301 section 3.1), as bytes.
    pub fn alpn(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self
            .kept(EXT_ALPN)
            .and_then(|list| list.get(2..))
            .unwrap_or_default();
        core::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (name, next) = after.split_at_checked(usize::from(*length))?;
            rest = next;
            Some(name)
        })
    }
}

/// What was kept of the beginning of a side's leaf certificate, DER.
#[must_use]
pub fn certificate(flow: &Flow, role: Role) -> &[u8] {
    let at = usize::from(CERTIFICATE_AT[role as usize]);
    let length = usize::from(flow.sides[role as usize].certificate_len).min(CERTIFICATE_BYTES);
    &flow.bytes[at..at + length]
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

//! The contract's class table, written out on purpose: were it the wire crate's own, a wrong row there
//! would change the expectation with the probe.

/// One class and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// `error.type`.
    pub class: &'static str,
    /// `root_cause.layer`.
    pub layer: &'static str,
    /// `retryable`.
    pub retryable: bool,
}

const fn row(class: &'static str, layer: &'static str, retryable: bool) -> Row {
    Row {
        class,
        layer,
        retryable,
    }
}

/// The eleven classes.
pub(super) const ROWS: [Row; 11] = [
    row("SSL_R_TLSV1_ALERT_UNKNOWN_CA", "certificate", false),
    row(
        "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED",
        "certificate",
        false,
    ),
    row("SSL_R_TLSV1_ALERT_BAD_CERTIFICATE", "certificate", false),
    row("SSL_R_TLSV1_ALERT_ACCESS_DENIED", "policy", false),
    row("SSL_R_NO_SHARED_CIPHER", "protocol", false),
    row("SSL_R_UNKNOWN_PROTOCOL", "protocol", false),
    row("SSL_R_HTTPS_PROXY_REQUEST", "protocol", false),
    row("SSL_ERROR_ZERO_RETURN", "network", true),
    row("SSL_ERROR_SYSCALL", "network", true),
    row("SSL_ERROR_WANT_READ", "network", true),
    row("SSL_ERROR_SSL", "protocol", false),
];

/// The row of a class.
pub(super) fn of(class: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.class == class)
}

#[cfg(test)]
mod tests {
    use gauntlet_wire::class::Class;

    use super::{ROWS, of};

    #[test]
    fn the_wire_crate_says_what_the_contract_says() {
        assert_eq!(ROWS.len(), Class::ALL.len());
        for class in Class::ALL {
            let row = of(class.name()).unwrap();
            assert_eq!(class.layer().name(), row.layer, "{}", row.class);
            assert_eq!(class.retryable(), row.retryable, "{}", row.class);
        }
    }
}

//! What BoringSSL says of a call that failed, on one line: `SSL_get_error`, the error queue, what the verification of
//! the other side's certificate came to, and the system's error. Names and numbers are BoringSSL's own, in the form
//! in which the harness has OpenSSL's.

use std::error::Error;
use std::fmt;

use boring::ssl::{self, ErrorCode, SslRef};

/// The only reason to which a verification belongs.
const VERIFY_FAILED: &str = "CERTIFICATE_VERIFY_FAILED";

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// Why it failed, and in which session.
    pub(crate) fn new(error: &ssl::Error, session: &SslRef) -> Self {
        let code = error.code();
        let name = code.description().unwrap_or("unknown");
        let mut text = format!("SSL_ERROR_{name}({})", code.as_raw());
        let queue = error.ssl_error().map_or(&[][..], |queue| queue.errors());
        for entry in queue {
            let (library, reason) = (entry.library_code(), entry.reason_code());
            text += &format!(
                " {library}:{reason}({})",
                entry.reason().unwrap_or("no text")
            );
        }
        if queue
            .iter()
            .any(|entry| entry.reason() == Some(VERIFY_FAILED))
            && let Err(error) = session.verify_result()
        {
            text += &format!(" X509:{}({})", error.as_raw(), error.error_string());
        }
        if code == ErrorCode::SYSCALL && queue.is_empty() {
            text += &match error.io_error() {
                Some(error) => format!(" {:?}", error.kind()),
                None => " end of stream".into(),
            };
        }
        Self(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}

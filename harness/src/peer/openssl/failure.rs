//! What OpenSSL says about a call that failed: `SSL_get_error`, the thread's error queue, `errno`, and
//! what the verification of the other side's certificate came to. One line, whose numbers are OpenSSL's
//! own; `scenarios/README.md` documents it.

use std::fmt;
use std::io;

use openssl::error::ErrorStack;
use openssl::x509::X509VerifyResult;
use openssl_sys as ffi;

/// `SSL_R_CERTIFICATE_VERIFY_FAILED`: the only reason to which a verification belongs.
const VERIFY_FAILED: i32 = 134;

/// A call that failed, or that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::peer) struct Failure {
    /// What `SSL_get_error` returned.
    pub(super) code: i32,
    /// The error queue, oldest first: library, reason, the reason's text.
    pub(super) queue: Vec<(i32, i32, String)>,
    /// `errno` right after the call; 0: it was not set.
    pub(super) errno: i32,
    /// `SSL_get_verify_result`: number and text.
    pub(super) verified: (i32, String),
}

impl Failure {
    /// Empties this thread's error queue into a failure.
    pub(super) fn take(code: i32, errno: i32, verified: X509VerifyResult) -> Self {
        let errors = ErrorStack::get();
        let entry = |error: &openssl::error::Error| {
            let text = error.reason().unwrap_or("no text").to_string();
            (error.library_code(), error.reason_code(), text)
        };
        Self {
            code,
            queue: errors.errors().iter().map(entry).collect(),
            errno,
            verified: (verified.as_raw(), verified.error_string().to_string()),
        }
    }

    /// Whether it says more than that the connection ended.
    pub(in crate::peer) fn says_why(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// The names of `SSL_get_error`'s answers, `openssl/ssl.h`.
fn name(code: i32) -> &'static str {
    match code {
        ffi::SSL_ERROR_NONE => "SSL_ERROR_NONE",
        ffi::SSL_ERROR_SSL => "SSL_ERROR_SSL",
        ffi::SSL_ERROR_WANT_READ => "SSL_ERROR_WANT_READ",
        ffi::SSL_ERROR_WANT_WRITE => "SSL_ERROR_WANT_WRITE",
        ffi::SSL_ERROR_WANT_X509_LOOKUP => "SSL_ERROR_WANT_X509_LOOKUP",
        ffi::SSL_ERROR_SYSCALL => "SSL_ERROR_SYSCALL",
        ffi::SSL_ERROR_ZERO_RETURN => "SSL_ERROR_ZERO_RETURN",
        _ => "SSL_ERROR",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", name(self.code), self.code)?;
        for (library, reason, text) in &self.queue {
            write!(f, " {library}:{reason}({text})")?;
        }
        let (number, text) = &self.verified;
        if *number != 0
            && self
                .queue
                .iter()
                .any(|(_, reason, _)| *reason == VERIFY_FAILED)
        {
            write!(f, " X509:{number}({text})")?;
        }
        if self.code == ffi::SSL_ERROR_SYSCALL {
            match self.errno {
                0 => write!(f, " errno 0")?,
                errno => write!(f, " {:?}", io::Error::from_raw_os_error(errno).kind())?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Why OpenSSL was not even asked: the harness's fault or the scenario's, never the other side's.
#[derive(Debug, thiserror::Error)]
#[error("OpenSSL was not asked: {0}")]
pub(in crate::peer) struct NotAsked(pub(super) String);

impl From<NotAsked> for io::Error {
    fn from(why: NotAsked) -> Self {
        Self::other(why)
    }
}

impl From<ErrorStack> for NotAsked {
    fn from(errors: ErrorStack) -> Self {
        Self(errors.to_string())
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32, queue: &[(i32, i32, &str)], errno: i32, verified: i32) -> String {
        let queue = queue.iter().map(|(l, r, text)| (*l, *r, (*text).into()));
        let failure = Failure {
            code,
            queue: queue.collect(),
            errno,
            verified: (verified, "why".into()),
        };
        failure.to_string()
    }

    #[test]
    fn the_line_has_the_numbers_first_and_only_what_belongs_to_it() {
        assert_eq!(
            failure(1, &[(20, 1048, "tlsv1 alert unknown ca")], 104, 0),
            "SSL_ERROR_SSL(1) 20:1048(tlsv1 alert unknown ca)"
        );
        assert_eq!(
            failure(1, &[(20, 134, "certificate verify failed")], 0, 20),
            "SSL_ERROR_SSL(1) 20:134(certificate verify failed) X509:20(why)"
        );
        // A client that does not verify may go on with a result that is not 0.
        assert_eq!(
            failure(1, &[(20, 193, "x")], 0, 18),
            "SSL_ERROR_SSL(1) 20:193(x)"
        );
        assert_eq!(
            failure(5, &[], 104, 0),
            "SSL_ERROR_SYSCALL(5) ConnectionReset"
        );
        assert_eq!(failure(5, &[], 0, 0), "SSL_ERROR_SYSCALL(5) errno 0");
        assert_eq!(failure(6, &[], 0, 0), "SSL_ERROR_ZERO_RETURN(6)");
    }
}

//! From the command line to a session of BoringSSL that has not begun. Everything that is not said is BoringSSL's
//! default.

use anyhow::{Context as _, Result};
use boring::ssl::{Ssl, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode, SslVersion};

use crate::{Arguments, ClientAuth, Role, Version};

/// The session of this end.
pub(crate) fn session(arguments: &Arguments) -> Result<Ssl> {
    let mut context = SslContextBuilder::new(SslMethod::tls())?;
    context.set_min_proto_version(Some(arguments.min.into()))?;
    context.set_max_proto_version(Some(arguments.max.into()))?;
    let authority = &arguments.ca;
    let trusted = context.set_ca_file(authority);
    trusted.with_context(|| authority.display().to_string())?;
    context.set_verify(match (arguments.role, arguments.client_auth) {
        (Role::Client, _) | (Role::Server, ClientAuth::Optional) => SslVerifyMode::PEER,
        (Role::Server, ClientAuth::None) => SslVerifyMode::NONE,
        (Role::Server, ClientAuth::Required) => {
            SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT
        }
    });
    if let (Some(certificate), Some(key)) = (&arguments.certificate, &arguments.key) {
        let own = context.set_certificate_chain_file(certificate);
        own.with_context(|| certificate.display().to_string())?;
        let own = context.set_private_key_file(key, SslFiletype::PEM);
        own.with_context(|| key.display().to_string())?;
    }
    if !arguments.suites.is_empty() {
        context.set_strict_cipher_list(&arguments.suites.join(":"))?;
    }
    let mut session = Ssl::new(&context.build())?;
    if arguments.role == Role::Client {
        session.set_hostname(&arguments.name)?;
        session.verify_param_mut().set_host(&arguments.name)?;
    }
    Ok(session)
}

impl From<Version> for SslVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V1_2 => Self::TLS1_2,
            Version::V1_3 => Self::TLS1_3,
        }
    }
}

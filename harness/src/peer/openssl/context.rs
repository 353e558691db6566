//! From what a scenario says about a peer to an `SSL_CTX`. Everything not said is the library's default,
//! or the distribution's. Refuses what OpenSSL has no way to do rather than to run a different case.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslSession, SslSessionCacheMode,
    SslVerifyMode, SslVersion, cipher_name,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use openssl_sys as ffi;

use crate::lab::Role;
use crate::peer::certs::Issued;
use crate::peer::keylog::MemoryKeyLog;
use crate::peer::tls::{ConfigFailure, Setting, versions};
use crate::scenario::model::{Certificate, ClientAuth, Encoding, Peer, Tls, Verifier};

/// What sessions are for; a server that asks for client certificates resumes none without.
const SESSION_CONTEXT: &[u8] = b"gauntlet";

/// An `SSL_CTX`, ready for connections. A client's remembers its last session.
pub(in crate::peer) struct Context {
    context: SslContext,
    role: Role,
    /// Whom a client asks for.
    name: String,
    session: Arc<Mutex<Option<SslSession>>>,
}

impl Context {
    /// The configuration of the client.
    pub(in crate::peer) fn client(
        setting: &Setting<'_>,
        log: Arc<MemoryKeyLog>,
    ) -> Result<Self, ConfigFailure> {
        let peer = setting.client;
        let mut context = builder(SslMethod::tls_client(), setting, peer, log)?;
        verify(&mut context, SslVerifyMode::PEER, peer.verifier);
        if let Some(wanted) = &peer.certificate {
            present(&mut context, setting, wanted, Role::Client)?;
        }
        if !peer.alpn.is_empty() {
            context.set_alpn_protos(&protocols(peer))?;
        }
        let session: Arc<Mutex<Option<SslSession>>> = Arc::default();
        let latest = session.clone();
        context
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        context.set_new_session_callback(move |_, fresh| {
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        });
        Ok(Self {
            context: context.build(),
            role: Role::Client,
            name: peer.server_name.clone(),
            session,
        })
    }

    /// The configuration of the server.
    pub(in crate::peer) fn server(
        setting: &Setting<'_>,
        peer: &Peer,
        log: Arc<MemoryKeyLog>,
    ) -> Result<Self, ConfigFailure> {
        let mut context = builder(SslMethod::tls_server(), setting, peer, log)?;
        let mode = match peer.client_auth {
            ClientAuth::None => SslVerifyMode::NONE,
            ClientAuth::Optional => SslVerifyMode::PEER,
            ClientAuth::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
        };
        if mode != SslVerifyMode::NONE {
            verify(&mut context, mode, peer.verifier);
            let root = X509::from_der(setting.authorities.root())?;
            context.add_client_ca(&root)?;
        }
        context.set_session_id_context(SESSION_CONTEXT)?;
        context.set_num_tickets(peer.tickets)?;
        let wanted = peer.certificate.clone().unwrap_or_default();
        present(&mut context, setting, &wanted, Role::Server)?;
        if !peer.alpn.is_empty() {
            let ours = peer.alpn.clone();
            context.set_alpn_select_callback(move |_, theirs| {
                let shared = |name: &&[u8]| ours.iter().any(|own| own.as_bytes() == *name);
                names(theirs).find(shared).ok_or(AlpnError::ALERT_FATAL)
            });
        }
        Ok(Self {
            context: context.build(),
            role: Role::Server,
            name: String::new(),
            session: Arc::default(),
        })
    }

    /// A connection of this context, that has a role and no socket yet.
    pub(super) fn begin(&self) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        match self.role {
            Role::Server => ssl.set_accept_state(),
            Role::Client => {
                ssl.set_connect_state();
                ssl.set_hostname(&self.name)?;
                ssl.param_mut().set_host(&self.name)?;
                let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(session) = &*session {
                    // SAFETY: the session was made by a connection of this same context.
                    unsafe { ssl.set_session(session) }?;
                }
            }
        }
        Ok(ssl)
    }
}

/// What both roles have in common.
fn builder(
    method: SslMethod,
    setting: &Setting<'_>,
    peer: &Peer,
    log: Arc<MemoryKeyLog>,
) -> Result<SslContextBuilder, ConfigFailure> {
    let mut context = SslContext::builder(method)?;
    let versions = versions(peer, setting.tls);
    let number = |tls: &Tls| match tls {
        Tls::V1_2 | Tls::Any => SslVersion::TLS1_2,
        Tls::V1_3 => SslVersion::TLS1_3,
    };
    let has = |tls: Tls| versions.contains(&tls);
    context.set_min_proto_version(versions.iter().min().map(number))?;
    context.set_max_proto_version(versions.iter().max().map(number))?;
    if let Some(names) = &peer.suites {
        suites(&mut context, names, has(Tls::V1_2))?;
    }
    if let Some(names) = &peer.groups {
        let names: Vec<&str> = names.iter().map(|name| group(name)).collect();
        context.set_groups_list(&names.join(":"))?;
    }
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(X509::from_der(setting.authorities.root())?)?;
    context.set_cert_store(store.build());
    context.set_keylog_callback(move |_, line| log.push(line.into()));
    Ok(context)
}

/// Restricts the suites, of TLS 1.3 and of older versions, to those named.
fn suites(
    context: &mut SslContextBuilder,
    names: &[String],
    older: bool,
) -> Result<(), ConfigFailure> {
    // IANA's names of TLS 1.2 suites say what they are used WITH; OpenSSL has its own.
    let (old, new): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| name.contains("_WITH_"));
    let new: Vec<&str> = new.into_iter().map(String::as_str).collect();
    context.set_ciphersuites(&new.join(":"))?;
    let mut translated = Vec::new();
    for name in old {
        match cipher_name(name) {
            "(NONE)" => return Err(ConfigFailure::unknown("OpenSSL", "cipher suite", name)),
            own => translated.push(own),
        }
    }
    if older {
        // Refuses an empty list.
        context.set_cipher_list(&translated.join(":"))?;
    }
    Ok(())
}

/// OpenSSL's name of a group.
fn group(iana: &str) -> &str {
    match iana {
        "x25519" => "X25519",
        "secp256r1" => "P-256",
        "secp384r1" => "P-384",
        other => other,
    }
}

/// Verifies the other side, and then objects, if `verifier` does.
fn verify(context: &mut SslContextBuilder, mode: SslVerifyMode, verifier: Verifier) {
    let Some(objection) = objection(verifier) else {
        context.set_verify(mode);
        return;
    };
    context.set_verify_callback(mode, move |good, chain| {
        // The leaf comes last, when nothing is left to be said against the chain.
        if good && chain.error_depth() == 0 {
            chain.set_error(objection);
            return false;
        }
        good
    });
}

/// What `verifier` says against a good certificate: the number decides the alert that OpenSSL sends.
fn objection(verifier: Verifier) -> Option<X509VerifyResult> {
    let number = match verifier {
        Verifier::Webpki => return None,
        Verifier::ApplicationDenies => ffi::X509_V_ERR_APPLICATION_VERIFICATION,
        Verifier::BadEncoding => ffi::X509_V_ERR_CERT_REJECTED,
        Verifier::Revoked => ffi::X509_V_ERR_CERT_REVOKED,
    };
    // SAFETY: the numbers are OpenSSL's own.
    Some(unsafe { X509VerifyResult::from_raw(number) })
}

/// Gives the context its certificate and key; a server that shall have none has one, and knows no name.
fn present(
    context: &mut SslContextBuilder,
    setting: &Setting<'_>,
    wanted: &Certificate,
    role: Role,
) -> Result<(), ConfigFailure> {
    let mut wanted = wanted.clone();
    if wanted.encoding == Encoding::Absent {
        wanted.encoding = Encoding::Der;
        if role == Role::Client {
            return Ok(());
        }
        // SAFETY: the callback has the signature that OpenSSL calls it with, and lives forever.
        unsafe {
            ffi::SSL_CTX_set_tlsext_servername_callback__fixed_rust(
                context.as_ptr(),
                Some(knows_no_name),
            );
        }
    }
    let name = &setting.client.server_name;
    if let Some(Issued { der, pkcs8 }) = setting.authorities.issue(&wanted, role, name)? {
        let leaf = X509::from_der(&der)?;
        context.set_certificate(&leaf)?;
        let key = PKey::private_key_from_der(&pkcs8)?;
        context.set_private_key(&key)?;
    }
    Ok(())
}

/// A servername callback of an application that serves nobody. The crate's own names only four alerts.
unsafe extern "C" fn knows_no_name(_: *mut ffi::SSL, alert: *mut c_int, _: *mut c_void) -> c_int {
    // SAFETY: OpenSSL passes the address of the alert it is about to send.
    unsafe { alert.write(ffi::SSL_AD_ACCESS_DENIED) };
    ffi::SSL_TLSEXT_ERR_ALERT_FATAL
}

/// The peer's ALPN protocols as RFC 7301 has them on the wire.
fn protocols(peer: &Peer) -> Vec<u8> {
    peer.alpn
        .iter()
        .flat_map(|name| {
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            std::iter::once(length).chain(name.bytes().take(length.into()))
        })
        .collect()
}

/// The names in a list of RFC 7301; OpenSSL has checked its lengths.
fn names(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = list.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        list = rest;
        Some(name)
    })
}

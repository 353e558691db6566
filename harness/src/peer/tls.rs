//! From what a scenario says about a peer to its TLS configuration: rustls' here, OpenSSL's in
//! [`super::openssl`]. Everything not said is rustls' default with the ring provider. Refuses names it does not know rather than to run a different case.

use std::io;
use std::sync::Arc;

use openssl::error::ErrorStack;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};

use super::certs::{Authorities, CertificateFailure};
use super::keylog::MemoryKeyLog;
use super::openssl::Context;
use super::verifier::{RefuseClient, RefuseServer, objection};
use crate::lab::Role;
use crate::scenario::model::{Certificate, ClientAuth, Peer, Stack, Tls};

/// A TLS configuration, ready for connections. Connections of one value share its sessions.
pub(super) enum Endpoint {
    /// rustls, for the side that connects.
    Client {
        /// rustls' configuration.
        config: Arc<ClientConfig>,
        /// Whom it asks for.
        name: ServerName<'static>,
    },
    /// rustls, for the side that listens.
    Server(Arc<ServerConfig>),
    /// OpenSSL, for either side.
    OpenSsl(Context),
}

/// Why a peer cannot be configured: always the scenario's fault, but for failures of the crypto library.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFailure {
    /// The suites named, or the groups, or the versions they leave.
    #[error("{stack} has no {kind} called {name}")]
    Unknown {
        /// Who does not know it.
        stack: &'static str,
        /// What the name was given for.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The name the client asks for.
    #[error("not a server name: {0}")]
    Name(String),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateFailure),
    /// A verifier.
    #[error("verifier: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// rustls refuses the combination.
    #[error("rustls configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// OpenSSL refuses the combination.
    #[error("OpenSSL configuration: {0}")]
    OpenSsl(#[from] ErrorStack),
    /// A program's files cannot be written.
    #[error("files for a program: {0}")]
    Files(#[source] io::Error),
    /// A program is not there.
    #[error("{0}")]
    Program(&'static str),
}

impl ConfigFailure {
    /// A name that `stack` does not know.
    pub(super) fn unknown(stack: &'static str, kind: &'static str, name: &str) -> Self {
        Self::Unknown {
            stack,
            kind,
            name: name.into(),
        }
    }
}

/// What both ends of a case have in common.
pub(super) struct Setting<'a> {
    /// The CAs.
    pub(super) authorities: &'a Authorities,
    /// The version of the case.
    pub(super) tls: Tls,
    /// The client's peer: its `server_name` and `early_data` concern the server too.
    pub(super) client: &'a Peer,
}

impl Setting<'_> {
    /// The configuration of one end, whose stack speaks TLS; `peer` is that end.
    pub(super) fn endpoint(
        &self,
        role: Role,
        peer: &Peer,
        log: Arc<MemoryKeyLog>,
    ) -> Result<Endpoint, ConfigFailure> {
        match (peer.stack, role) {
            (Stack::OpenSsl, Role::Client) => Context::client(self, log).map(Endpoint::OpenSsl),
            (Stack::OpenSsl, Role::Server) => {
                Context::server(self, peer, log).map(Endpoint::OpenSsl)
            }
            (_, Role::Client) => self.client(log),
            (_, Role::Server) => self.server(peer, log),
        }
    }

    fn client(&self, log: Arc<MemoryKeyLog>) -> Result<Endpoint, ConfigFailure> {
        let peer = self.client;
        let provider = Arc::new(provider(peer)?);
        let webpki = WebPkiServerVerifier::builder_with_provider(
            self.authorities.roots()?,
            provider.clone(),
        )
        .build()?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&supported(peer, self.tls))?;
        let builder = match objection(peer.verifier) {
            None => builder.with_webpki_verifier(webpki),
            Some(objection) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(RefuseServer {
                    inner: webpki,
                    objection,
                })),
        };
        let presented = match &peer.certificate {
            Some(wanted) => self
                .authorities
                .issue(wanted, Role::Client, &peer.server_name)?,
            None => None,
        };
        let mut config = match presented {
            Some(issued) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(issued.certified()?))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn(peer);
        config.max_fragment_size = peer.max_fragment_size;
        config.enable_early_data = peer.early_data > 0;
        config.key_log = log;
        let name = ServerName::try_from(peer.server_name.clone())
            .map_err(|_| ConfigFailure::Name(peer.server_name.clone()))?;
        Ok(Endpoint::Client {
            config: Arc::new(config),
            name,
        })
    }

    fn server(&self, peer: &Peer, log: Arc<MemoryKeyLog>) -> Result<Endpoint, ConfigFailure> {
        let provider = Arc::new(provider(peer)?);
        let verifier = self.client_verifier(peer, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&supported(peer, self.tls))?
            .with_client_cert_verifier(verifier);
        let good = Certificate::default();
        let wanted = peer.certificate.as_ref().unwrap_or(&good);
        let mut config =
            match self
                .authorities
                .issue(wanted, Role::Server, &self.client.server_name)?
            {
                Some(issued) => builder
                    .with_cert_resolver(Arc::new(SingleCertAndKey::from(issued.certified()?))),
                None => builder.with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new())),
            };
        config.alpn_protocols = alpn(peer);
        config.max_fragment_size = peer.max_fragment_size;
        config.send_tls13_tickets = peer.tickets;
        config.max_early_data_size = u32::try_from(self.client.early_data).unwrap_or(u32::MAX);
        config.key_log = log;
        Ok(Endpoint::Server(Arc::new(config)))
    }

    fn client_verifier(
        &self,
        peer: &Peer,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, ConfigFailure> {
        let builder = WebPkiClientVerifier::builder_with_provider(
            self.authorities.roots()?,
            provider.clone(),
        );
        let inner = match peer.client_auth {
            ClientAuth::None => return Ok(Arc::new(NoClientAuth)),
            ClientAuth::Optional => builder.allow_unauthenticated().build()?,
            ClientAuth::Required => builder.build()?,
        };
        Ok(match objection(peer.verifier) {
            None => inner,
            Some(objection) => Arc::new(RefuseClient { inner, objection }),
        })
    }
}

/// The ring provider, cut down to the suites and groups the peer names, in its order.
fn provider(peer: &Peer) -> Result<CryptoProvider, ConfigFailure> {
    let mut provider = ring::default_provider();
    if let Some(names) = &peer.suites {
        // rustls calls TLS_AES_128_GCM_SHA256 TLS13_AES_128_GCM_SHA256; IANA does not.
        provider.cipher_suites = pick("cipher suite", names, &provider.cipher_suites, |suite| {
            format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
        })?;
    }
    if let Some(names) = &peer.groups {
        provider.kx_groups = pick("group", names, &provider.kx_groups, |group| {
            format!("{:?}", group.name())
        })?;
    }
    Ok(provider)
}

fn pick<T: Copy>(
    kind: &'static str,
    names: &[String],
    all: &[T],
    name_of: impl Fn(&T) -> String,
) -> Result<Vec<T>, ConfigFailure> {
    let find = |name: &String| {
        all.iter()
            .copied()
            .find(|item| name_of(item).eq_ignore_ascii_case(name))
            .ok_or_else(|| ConfigFailure::unknown("the ring provider", kind, name))
    };
    names.iter().map(find).collect()
}

/// The versions that a peer has in a case of one version; `any` is both.
pub(super) fn versions(peer: &Peer, of_case: Tls) -> Vec<Tls> {
    let named = peer.versions.clone().unwrap_or_else(|| vec![of_case]);
    named
        .into_iter()
        .flat_map(|tls| match tls {
            Tls::Any => vec![Tls::V1_3, Tls::V1_2],
            one => vec![one],
        })
        .collect()
}

fn supported(peer: &Peer, of_case: Tls) -> Vec<&'static SupportedProtocolVersion> {
    versions(peer, of_case)
        .into_iter()
        .map(|tls| match tls {
            Tls::V1_2 => &version::TLS12,
            Tls::V1_3 | Tls::Any => &version::TLS13,
        })
        .collect()
}

fn alpn(peer: &Peer) -> Vec<Vec<u8>> {
    peer.alpn
        .iter()
        .map(|protocol| protocol.clone().into_bytes())
        .collect()
}

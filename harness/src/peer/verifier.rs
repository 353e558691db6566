//! Verifiers that overrule webpki: the certificate is good, and is refused all the same. A certificate
//! that webpki itself refuses is refused for webpki's reason.

use std::fmt::Debug;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::scenario::model::Verifier;

/// What `verifier` says against a good certificate, if anything.
pub(super) fn objection(verifier: Verifier) -> Option<CertificateError> {
    match verifier {
        Verifier::Webpki => None,
        Verifier::ApplicationDenies => Some(CertificateError::ApplicationVerificationFailure),
        Verifier::BadEncoding => Some(CertificateError::BadEncoding),
        Verifier::Revoked => Some(CertificateError::Revoked),
    }
}

/// A client's verifier that objects to every server.
#[derive(Debug)]
pub(super) struct RefuseServer {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    pub(super) objection: CertificateError,
}

impl ServerCertVerifier for RefuseServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner
            .verify_server_cert(leaf, chain, name, ocsp, now)?;
        Err(Error::InvalidCertificate(self.objection.clone()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A server's verifier that objects to every client that has a certificate.
#[derive(Debug)]
pub(super) struct RefuseClient {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) objection: CertificateError,
}

impl ClientCertVerifier for RefuseClient {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(leaf, chain, now)?;
        Err(Error::InvalidCertificate(self.objection.clone()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

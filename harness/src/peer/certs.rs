//! The certificates of a case: one CA that both sides trust, one that nobody trusts, and leaves that are
//! wrong in exactly the way a scenario asks for.
//!
//! What the seed decides: serial numbers and the names of the CAs. What it cannot decide: the P-256 keys
//! (ring takes no seed; they are made once per process) and ECDSA signatures (randomised by ring), so two
//! runs with one seed send certificates that say the same but do not have the same bytes, and whose DER
//! may differ in length by a byte or two. Validity is relative to the moment a case starts.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer as Signer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use crate::lab::Role;
use crate::scenario::model::{Certificate, Encoding, Issuer, Usage, Validity};

/// The name in a client certificate that asks for none.
const CLIENT_NAME: &str = "client.internal";
/// A SEQUENCE of one BOOLEAN: well-formed DER, and no certificate.
const MALFORMED: [u8; 5] = [0x30, 0x03, 0x01, 0x01, 0x01];

/// The two CAs of a case.
pub(super) struct Authorities {
    seed: u64,
    trusted: CertificateParams,
    other: CertificateParams,
    root: CertificateDer<'static>,
}

/// A certificate and its key, as bytes for whatever library presents it.
pub(super) struct Issued {
    /// What is sent as the leaf; not always a certificate.
    pub(super) der: CertificateDer<'static>,
    /// The key, PKCS #8.
    pub(super) pkcs8: Vec<u8>,
}

impl Issued {
    /// For rustls.
    pub(super) fn certified(self) -> Result<Arc<CertifiedKey>, CertificateFailure> {
        let signing = any_ecdsa_type(&PrivatePkcs8KeyDer::from(self.pkcs8).into())?;
        // `new`, not `from_der`: that one refuses what `Malformed` is for.
        Ok(Arc::new(CertifiedKey::new(vec![self.der], signing)))
    }
}

/// Why a certificate could not be made: the scenario asks for something that X.509 has no form for, or
/// the crypto library failed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFailure {
    /// Making it failed.
    #[error("make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// rustls cannot use the key.
    #[error("use a key: {0}")]
    Key(#[from] rustls::Error),
}

impl Authorities {
    /// Makes the CAs of the case with this seed.
    pub(super) fn new(seed: u64) -> Result<Self, CertificateFailure> {
        let trusted = authority(seed, "Trusted");
        let root = trusted.self_signed(&Keys::get()?.trusted)?.der().clone();
        Ok(Self {
            seed,
            trusted,
            other: authority(seed, "Other"),
            root,
        })
    }

    /// The certificate of the CA that both sides trust.
    pub(super) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// What both sides trust, for rustls.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, CertificateFailure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        Ok(Arc::new(roots))
    }

    /// The certificate and key that a peer presents; none for [`Encoding::Absent`]. `asked_for` is the
    /// name the client asks the server for.
    pub(super) fn issue(
        &self,
        wanted: &Certificate,
        role: Role,
        asked_for: &str,
    ) -> Result<Option<Issued>, CertificateFailure> {
        let keys = Keys::get()?;
        let key = match role {
            Role::Client => &keys.client,
            Role::Server => &keys.server,
        };
        let der = match wanted.encoding {
            Encoding::Absent => return Ok(None),
            Encoding::Malformed => CertificateDer::from(MALFORMED.to_vec()),
            Encoding::Der => {
                let leaf = self.leaf(wanted, role, asked_for)?;
                let signed = match wanted.issuer {
                    Issuer::Trusted => {
                        leaf.signed_by(key, &Signer::from_params(&self.trusted, &keys.trusted))
                    }
                    Issuer::Other => {
                        leaf.signed_by(key, &Signer::from_params(&self.other, &keys.other))
                    }
                    Issuer::SelfSigned => leaf.self_signed(key),
                };
                signed?.der().clone()
            }
        };
        Ok(Some(Issued {
            der,
            pkcs8: key.serialize_der(),
        }))
    }

    fn leaf(
        &self,
        wanted: &Certificate,
        role: Role,
        asked_for: &str,
    ) -> Result<CertificateParams, rcgen::Error> {
        let (default_name, default_usage, label) = match role {
            Role::Client => (CLIENT_NAME, Usage::ClientAuth, "client"),
            Role::Server => (asked_for, Usage::ServerAuth, "server"),
        };
        let name = wanted.name.as_deref().unwrap_or(default_name);
        let mut leaf = params(self.seed, label, name);
        leaf.subject_alt_names = vec![match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into()?),
        }];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![match wanted.usage.unwrap_or(default_usage) {
            Usage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        leaf.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        (leaf.not_before, leaf.not_after) = match wanted.validity {
            Validity::Current => (now - Duration::DAY, now + Duration::DAY),
            Validity::Expired => (now - Duration::DAY, now - Duration::MINUTE),
            Validity::NotYetValid => (now + Duration::HOUR, now + Duration::DAY),
            Validity::NearlyExpired => (now - Duration::DAY, now + Duration::MINUTE),
        };
        Ok(leaf)
    }
}

fn authority(seed: u64, kind: &str) -> CertificateParams {
    let mut ca = params(seed, kind, &format!("{kind} CA {seed}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca
}

fn params(seed: u64, label: &str, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(serial(seed, label));
    params
}

/// FNV-1a over the seed and what the certificate is for: repeatable, and different for each.
fn serial(seed: u64, label: &str) -> SerialNumber {
    let bytes = seed.to_be_bytes();
    let hash = bytes
        .iter()
        .chain(label.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // A serial number is positive (RFC 5280 section 4.1.2.2) and here always eight bytes long.
    SerialNumber::from((hash >> 1) | (1 << 62))
}

/// The keys of this process.
struct Keys {
    trusted: KeyPair,
    other: KeyPair,
    client: KeyPair,
    server: KeyPair,
}

impl Keys {
    fn get() -> Result<&'static Self, rcgen::Error> {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        if let Some(keys) = KEYS.get() {
            return Ok(keys);
        }
        // Two threads may both get here; the first to finish wins, and both then use its keys.
        let made = Self {
            trusted: KeyPair::generate()?,
            other: KeyPair::generate()?,
            client: KeyPair::generate()?,
            server: KeyPair::generate()?,
        };
        Ok(KEYS.get_or_init(|| made))
    }
}

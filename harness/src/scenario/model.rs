//! What a scenario file says, as types. One file is one claim; [`super::matrix`] expands it into
//! cases, `super::parse` reads it. Nothing here does I/O or knows how a peer or a probe works.
//!
//! Every knob has a default that makes the handshake succeed, so a scenario names only what it
//! breaks.

use serde::Deserialize;

/// One claim about one way a handshake ends, for every combination of its matrix.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The claim, one sentence.
    pub claim: String,
    /// What is set up wrongly, or done on purpose, one sentence.
    pub cause: String,
    /// Why the expected class is the right one: the clause of an RFC, or of the contract.
    pub why: String,
    /// First segment of the case id: what the scenario is about, `unknown_ca`, or `none` for traffic
    /// that must be silence.
    pub class: String,
    /// Third segment of the case id, who ends it and how: `client_rejects`, `server_resets`, `nobody_fails`.
    pub side: String,
    /// Last segment of the case id, where one class and side have several scenarios.
    pub variant: Option<String>,
    /// TLS versions to run it with. `any`: the scenario never negotiates one.
    pub tls: Vec<Tls>,
    /// Address families to run it with.
    #[serde(default = "both_families")]
    pub family: Vec<Family>,
    /// Bad cables to run it on too, over IPv4, one case each. Where both ends can be OpenSSL, only those with
    /// rustls are.
    #[serde(default)]
    pub network: Vec<Network>,
    /// Whether the server's port is known to speak TLS before the case: one good handshake goes first.
    #[serde(default)]
    pub known_tls_server: bool,
    /// What the client is and does.
    #[serde(default)]
    pub client: Peer,
    /// What the server is and does.
    #[serde(default)]
    pub server: Peer,
    /// What both endpoints and the wire must show, before the probe is judged.
    pub witness: Witness,
    /// What the probe must report. Absent: nothing at all.
    pub expect: Option<Expect>,
}

fn both_families() -> Vec<Family> {
    vec![Family::Ipv4, Family::Ipv6]
}

/// A TLS version of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Tls {
    /// TLS 1.2, RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3, RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
    /// No version is ever negotiated (plain HTTP, an HTTP CONNECT, garbage).
    #[serde(rename = "any")]
    Any,
}

/// An address family of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a bad cable does to packets, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Some are lost, and sent again.
    Loss,
    /// Some overtake others.
    Reorder,
    /// Some come twice.
    Duplicate,
    /// All come late, each by another time.
    Delay,
}

/// One end of the connection: its TLS configuration, and the script it follows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// Who speaks: `rustls` (through tokio-rustls), `openssl` (the system's libssl), `raw` (a plain socket; never
    /// says TLS by itself), or a program of its own, where it is installed: `gnutls`, `go`, `boring`.
    pub stack: Stack,
    /// TLS versions offered or accepted; default: the version of the case (both for `any`).
    pub versions: Option<Vec<Tls>>,
    /// Cipher suites by IANA name; default: all that rustls' ring provider has, or OpenSSL's default.
    pub suites: Option<Vec<String>>,
    /// Key exchange groups by IANA name (`x25519`, `secp256r1`, `secp384r1`); default: all. In the order of preference.
    pub groups: Option<Vec<String>>,
    /// ALPN protocol names; default: none sent.
    pub alpn: Vec<String>,
    /// Client: the name asked for (SNI, and what the certificate must match). Server: unused.
    pub server_name: String,
    /// The peer's own certificate. Default: a good one for the server, none for the client.
    pub certificate: Option<Certificate>,
    /// Server only: whether it asks for a client certificate.
    pub client_auth: ClientAuth,
    /// What its verifier answers to an otherwise good certificate of the other side.
    pub verifier: Verifier,
    /// TLS 1.3 session tickets a server sends after the handshake (rustls' default is 2).
    pub tickets: usize,
    /// Connections made one after another; from the second on the session is resumed. Set it on the client.
    pub connections: usize,
    /// 0-RTT bytes the client sends on a resumed connection (the server then accepts them); 0: none.
    pub early_data: usize,
    /// `max_fragment_size` of rustls, for messages that span records.
    pub max_fragment_size: Option<usize>,
    /// How long a read may wait before the peer gives up with `timeout`, milliseconds.
    pub patience_ms: u64,
    /// Whether it reads to the end once it has closed its own direction, so that nothing it was sent stays
    /// unread. One that does not closes at once, as most programs do; the kernel then sends RST for bytes unread.
    pub lingers: bool,
    /// What it does, in order, once the TCP connection stands. Whatever is left open at the end is closed
    /// in the ordinary way (FIN).
    pub script: Vec<Step>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            stack: Stack::Rustls,
            versions: None,
            suites: None,
            groups: None,
            alpn: Vec::new(),
            server_name: "api.internal".into(),
            certificate: None,
            client_auth: ClientAuth::None,
            verifier: Verifier::Webpki,
            tickets: 2,
            connections: 1,
            early_data: 0,
            max_fragment_size: None,
            patience_ms: 5_000,
            lingers: true,
            script: vec![Step::Handshake, Step::Exchange, Step::CloseNotify],
        }
    }
}

/// The implementation at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// rustls, driven through tokio-rustls.
    Rustls,
    /// The system's OpenSSL, in this process.
    OpenSsl,
    /// A plain TCP socket that follows its script.
    Raw,
    /// GnuTLS, by its own programs.
    GnuTls,
    /// Go's crypto/tls, by a program of ours.
    Go,
    /// BoringSSL, by a program of ours.
    Boring,
}

/// A certificate made by rcgen for the case. Defaults are all good.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificate {
    /// Who signed it.
    pub issuer: Issuer,
    /// When it is valid, relative to now.
    pub validity: Validity,
    /// DNS name (subjectAltName) and common name; default: the `server_name` asked for, or `client.internal`.
    pub name: Option<String>,
    /// Extended key usage.
    pub usage: Option<Usage>,
    /// Send these bytes instead of a DER certificate: `malformed` is `30 03 01 01 01`.
    pub encoding: Encoding,
}

impl Default for Certificate {
    fn default() -> Self {
        Self {
            issuer: Issuer::Trusted,
            validity: Validity::Current,
            name: None,
            usage: None,
            encoding: Encoding::Der,
        }
    }
}

/// Who signed a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    /// The CA that both sides trust.
    Trusted,
    /// A CA that nobody trusts.
    Other,
    /// Itself.
    SelfSigned,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validity {
    /// From yesterday to tomorrow.
    Current,
    /// Ended a minute ago.
    Expired,
    /// Begins in an hour.
    NotYetValid,
    /// Ends in a minute: the near miss of `expired`.
    NearlyExpired,
}

/// Extended key usage of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// id-kp-serverAuth.
    ServerAuth,
    /// id-kp-clientAuth.
    ClientAuth,
}

/// What is sent as the leaf certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The certificate.
    Der,
    /// Bytes that no X.509 parser accepts.
    Malformed,
    /// No certificate: the server's resolver returns none for any name; OpenSSL's servername callback refuses all.
    Absent,
}

/// Whether a server asks for a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// It does not.
    None,
    /// It asks, and goes on without.
    Optional,
    /// It asks, and rejects a client without.
    Required,
}

/// What a verifier answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// What the library says: webpki for rustls, its own verification for OpenSSL.
    Webpki,
    /// `CertificateError::ApplicationVerificationFailure`, which rustls sends as access_denied(49);
    /// X509_V_ERR_APPLICATION_VERIFICATION, which OpenSSL sends as handshake_failure(40).
    ApplicationDenies,
    /// `CertificateError::BadEncoding` or X509_V_ERR_CERT_REJECTED, bad_certificate(42).
    BadEncoding,
    /// `CertificateError::Revoked` or X509_V_ERR_CERT_REVOKED, certificate_revoked(44).
    Revoked,
}

/// One act of a peer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Do the TLS handshake, as the configuration says, to its end or failure. A failure ends the script,
    /// after the TLS library's alert was written; the error is the peer's outcome.
    Handshake,
    /// Do the handshake by one flight: read until there is something to answer, and send that. The first
    /// flight of a client is its ClientHello. `handshake` goes on from there; any other step acts in the
    /// middle of the handshake.
    Flight,
    /// Client: send `ping`, expect `pong`; server the other way round. Over TLS once the handshake is done,
    /// else in the clear.
    Exchange,
    /// Send these bytes: over TLS once the handshake is done, else in the clear. `\r\n` are as in TOML.
    Send(String),
    /// Send these bytes in the clear, as hex with blanks: `80 2e 01 00 02`.
    SendHex(String),
    /// Read in the clear until these bytes have come by.
    Expect(String),
    /// Read in the clear until one whole TLS record has come; it is consumed, never answered.
    ReadRecord,
    /// Read (TLS or clear) until the other side closes or fails; the error, if any, is the peer's outcome.
    ReadToEnd,
    /// Send close_notify: encrypted or not as the library has it at this point of the handshake.
    CloseNotify,
    /// Send a plaintext alert record, `[level, description]`.
    Alert([u8; 2]),
    /// Close the sending direction (FIN).
    Fin,
    /// Close with RST (SO_LINGER 0).
    Reset,
    /// Do nothing for so many milliseconds. Only where time is the subject.
    PauseMs(u64),
    /// Keep the connection open and say nothing until the other side closes.
    Silence,
}

/// What the two witnesses beside the probe must show.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// The client's outcome must contain this: `ok`, or part of its error, `InvalidCertificate(UnknownIssuer)`.
    pub client: String,
    /// The server's outcome must contain this.
    pub server: String,
    /// Lines that must stand in the wire's transcript, in this order, others between them allowed:
    /// `client: alert fatal unknown_ca`.
    pub wire: Vec<String>,
}

/// The one event the probe must report. A field that is not given is not asked for, but what the wire
/// witness read (addresses, names, suites, version) is always compared.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `error.type`, the OpenSSL name.
    pub class: String,
    /// `confidence`: `certain`, `inferred` or `ambiguous`.
    pub confidence: String,
    /// `handshake.ended_by`: `client` or `server`.
    pub ended_by: String,
    /// `tls.alert.code`; absent: the event must not name one.
    pub alert: Option<u8>,
    /// `tls.alert.encrypted`; absent: the event must not say.
    pub encrypted: Option<bool>,
    /// `handshake.stage`.
    pub stage: Option<String>,
    /// Classes that must be among `candidates`; `none` may be there only if it is here.
    #[serde(default)]
    pub candidates: Vec<String>,
    /// What a library says, where libraries are asked; absent: none may be quoted.
    pub quotes: Option<Quotes>,
}

/// A library's own words in an event. A field that is not given must not be there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotes {
    /// `tls.library.name`.
    pub library: String,
    /// `tls.library.side`.
    pub side: String,
    /// `tls.library.reason`.
    pub reason: Option<String>,
    /// `tls.library.x509.verify_error`.
    pub verify_error: Option<String>,
}

//! A key log: the secrets that an application writes down for whoever may read its traffic, in the format
//! of NSS (`SSLKEYLOGFILE`; draft-ietf-tls-keylogfile), and which of them a connection used.
//!
//! Only what TLS 1.3 alerts are encrypted with is kept. Labels that are not known are none of our
//! business; lines that are no lines of a key log are counted.

use std::collections::{HashMap, VecDeque};

/// Bytes of a ClientHello's random: what a line is found by.
pub type Random = [u8; 32];

/// The longest secret there is (SHA-384's).
const LONGEST_SECRET: usize = 48;
/// A line that is longer than this is none of a key log: the longest known label, a random and a secret
/// are some 200 bytes.
const LONGEST_LINE: usize = 1_024;

/// Which direction's secret, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// `CLIENT_HANDSHAKE_TRAFFIC_SECRET`
    ClientHandshake = 0,
    /// `SERVER_HANDSHAKE_TRAFFIC_SECRET`
    ServerHandshake = 1,
    /// `CLIENT_TRAFFIC_SECRET_0`
    ClientTraffic = 2,
    /// `SERVER_TRAFFIC_SECRET_0`
    ServerTraffic = 3,
}

impl Label {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::ClientHandshake,
        Self::ServerHandshake,
        Self::ClientTraffic,
        Self::ServerTraffic,
    ];

    /// As it stands in a key log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientHandshake => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            Self::ServerHandshake => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            Self::ClientTraffic => "CLIENT_TRAFFIC_SECRET_0",
            Self::ServerTraffic => "SERVER_TRAFFIC_SECRET_0",
        }
    }
}

/// One secret. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    bytes: [u8; LONGEST_SECRET],
    length: u8,
}

/// The secrets of one connection, as far as they were logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Secrets([Option<Secret>; Label::ALL.len()]);

/// What a key log said so far.
#[derive(Debug)]
pub struct KeyLog {
    connections: HashMap<Random, Secrets>,
    /// The randoms, the oldest first.
    order: VecDeque<Random>,
    most: usize,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
    malformed: u64,
    lines: u64,
}

/// What one line is.
enum Line {
    /// Empty, a comment, or of a label that does not matter.
    Other,
    Secret(Label, Random, Secret),
    Malformed,
}

impl Secret {
    /// The secret.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn new(bytes: &[u8]) -> Option<Self> {
        // As long as the hash of the cipher suite (RFC 8446 section 7.1): SHA-256 or SHA-384.
        if !matches!(bytes.len(), 32 | 48) {
            return None;
        }
        let mut secret = Self {
            bytes: [0; LONGEST_SECRET],
            length: bytes.len() as u8,
        };
        secret.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(secret)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Secret({} bytes)", self.length)
    }
}

impl Secrets {
    /// One of them.
    #[must_use]
    pub fn secret(&self, label: Label) -> Option<&Secret> {
        self.0[label as usize].as_ref()
    }
}

impl KeyLog {
    /// An empty one, that remembers the last `most` connections.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            connections: HashMap::new(),
            order: VecDeque::new(),
            most: most.max(1),
            begun: Vec::new(),
            malformed: 0,
            lines: 0,
        }
    }

    /// Takes what was written next. A line counts once its end has come.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            if self.begun.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend(&line[..line.len().min(LONGEST_LINE + 1)]);
                self.line(&whole);
            }
            bytes = &rest[1..];
        }
        // No more of it than shows that it is too long.
        let room = (LONGEST_LINE + 1).saturating_sub(self.begun.len());
        self.begun.extend(&bytes[..bytes.len().min(room)]);
    }

    /// Takes the last line, if it has no end: nothing more will come.
    pub fn finish(&mut self) {
        let last = std::mem::take(&mut self.begun);
        self.line(&last);
    }

    /// Forgets the line that was begun: what comes next is not its end.
    pub fn interrupt(&mut self) {
        self.begun.clear();
    }

    /// The secrets of the connection whose ClientHello had this random.
    #[must_use]
    pub fn secrets(&self, random: &Random) -> Option<&Secrets> {
        self.connections.get(random)
    }

    /// How many lines were none of a key log.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// How many lines there were, comments and empty ones left out.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        self.lines += 1;
        match parse(line) {
            Line::Other => {}
            Line::Malformed => self.malformed += 1,
            Line::Secret(label, random, secret) => {
                let secrets = self.connections.entry(random).or_insert_with(|| {
                    self.order.push_back(random);
                    Secrets::default()
                });
                secrets.0[label as usize] = Some(secret);
                if self.order.len() > self.most
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.connections.remove(&oldest);
                }
            }
        }
    }
}

fn parse(line: &[u8]) -> Line {
    let mut fields = line.split(|byte| *byte == b' ');
    let (Some(label), Some(random), Some(secret), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Line::Malformed;
    };
    let (Some(random), Some(secret)) = (hex(random), hex(secret)) else {
        return Line::Malformed;
    };
    let Some(label) = Label::ALL
        .into_iter()
        .find(|known| known.name().as_bytes() == label)
    else {
        let plausible = label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        return if plausible && !label.is_empty() {
            Line::Other
        } else {
            Line::Malformed
        };
    };
    match (Random::try_from(random), Secret::new(&secret)) {
        (Ok(random), Some(secret)) => Line::Secret(label, random, secret),
        _ => Line::Malformed,
    }
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || text.len() > LONGEST_LINE {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, random: u8, secret: &[u8]) -> String {
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        format!("{label} {} {}\n", hex(&[random; 32]), hex(secret))
    }

    fn known(log: &KeyLog, random: u8, label: Label) -> Option<&[u8]> {
        log.secrets(&[random; 32])?.secret(label).map(Secret::bytes)
    }

    #[test]
    fn lines_are_found_by_random_and_label_however_they_are_cut() {
        let text = [
            "# a comment\r\n\r\n".to_owned(),
            line("CLIENT_HANDSHAKE_TRAFFIC_SECRET", 1, &[0xc1; 32]),
            line("SERVER_TRAFFIC_SECRET_0", 1, &[0xab; 48]).to_uppercase(),
            line("EXPORTER_SECRET", 2, &[9; 32]),
            "CLIENT_RANDOM 00ff 0011\n".to_owned(),
            "RSA 0102030405060708 00\n".to_owned(),
            line("SERVER_TRAFFIC_SECRET_0", 2, &[3; 32]).replace('\n', "\r\n"),
        ]
        .concat();
        for cut in 0..=text.len() {
            let mut log = KeyLog::new(10);
            log.add(&text.as_bytes()[..cut]);
            log.add(&text.as_bytes()[cut..]);
            assert_eq!(log.malformed(), 0, "{cut}");
            assert_eq!(log.lines(), 6, "{cut}");
            let handshake = known(&log, 1, Label::ClientHandshake);
            assert_eq!(handshake, Some(&[0xc1; 32][..]), "{cut}");
            assert_eq!(known(&log, 1, Label::ServerTraffic), Some(&[0xab; 48][..]));
            assert_eq!(known(&log, 1, Label::ClientTraffic), None);
            assert_eq!(known(&log, 2, Label::ServerTraffic), Some(&[3; 32][..]));
        }
    }

    #[test]
    fn what_is_no_line_of_a_key_log_is_counted_and_does_no_harm() {
        let good = line("SERVER_TRAFFIC_SECRET_0", 7, &[5; 32]);
        let bad = [
            line("SERVER_TRAFFIC_SECRET_0", 8, &[5; 31]),
            line("SERVER_TRAFFIC_SECRET_0", 8, &[5; 33]),
            "SERVER_TRAFFIC_SECRET_0 0102 0304\n".into(),
            "SERVER_TRAFFIC_SECRET_0\n".into(),
            format!("SERVER_TRAFFIC_SECRET_0 {} zz\n", "00".repeat(32)),
            format!(
                "SERVER_TRAFFIC_SECRET_0 {} {} more\n",
                "00".repeat(32),
                "00".repeat(32)
            ),
            "\u{1b}]0;x\u{7} 00 00\n".into(),
            "word\n".into(),
            format!("X {}\n", "00".repeat(100_000)),
        ];
        let mut log = KeyLog::new(10);
        for line in &bad {
            log.add(line.as_bytes());
            log.add(good.as_bytes());
        }
        assert_eq!(log.malformed(), bad.len() as u64);
        assert_eq!(known(&log, 7, Label::ServerTraffic), Some(&[5; 32][..]));
        assert_eq!(known(&log, 8, Label::ServerTraffic), None);
    }

    #[test]
    fn a_line_without_an_end_counts_when_nothing_more_will_come() {
        let text = line("SERVER_TRAFFIC_SECRET_0", 7, &[5; 32]);
        let mut log = KeyLog::new(10);
        log.add(text.trim_end().as_bytes());
        assert_eq!(known(&log, 7, Label::ServerTraffic), None);
        log.finish();
        assert_eq!(known(&log, 7, Label::ServerTraffic), Some(&[5; 32][..]));
    }

    #[test]
    fn the_oldest_connections_are_forgotten() {
        let mut log = KeyLog::new(2);
        for random in 1..=3 {
            log.add(line("SERVER_TRAFFIC_SECRET_0", random, &[random; 32]).as_bytes());
            log.add(line("CLIENT_TRAFFIC_SECRET_0", random, &[random; 32]).as_bytes());
        }
        assert_eq!(log.secrets(&[1; 32]), None);
        for random in 2..=3 {
            assert!(known(&log, random, Label::ClientTraffic).is_some());
            assert!(known(&log, random, Label::ServerTraffic).is_some());
        }
    }
}

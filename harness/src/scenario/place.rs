//! Where a scenario runs: one TLS version and one pair of stacks, and which overlays of `[at]` are meant
//! for there.
//!
//! A key of `[at]` is words, all of which must fit: a version (`1.3`), a pair as in a case id (`openssl`,
//! `rustls-openssl`), or one end of it (`client:openssl`). Refuses keys that fit nowhere.

use toml::{Table, Value};

use super::model::{Stack, Tls};
use super::parse::{Wrong, merge};

/// One TLS version, and the stacks of both ends where `stacks` lists pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The version.
    pub(super) tls: Tls,
    pair: Option<Pair>,
}

/// The client's stack and the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    client: Stack,
    server: Stack,
}

/// The stacks there are, for messages.
const STACKS: &str = "rustls, openssl, CLIENT-SERVER of rustls, openssl, raw, gnutls, go, boring";

/// What is wrong where a peer's own table names a stack beside `stacks`.
const SAID: &str = "`stacks` says that already; allowed: one of them";

/// Every place of a file, versions first, in the order in which they are listed.
pub(super) fn places(
    versions: &[Tls],
    stacks: Option<&Value>,
    base: &Table,
) -> Result<Vec<Place>, Wrong> {
    let pairs = match stacks {
        None => vec![None],
        Some(listed) => pairs(listed, base)?.into_iter().map(Some).collect(),
    };
    let at = |tls: &Tls| {
        let tls = *tls;
        pairs.iter().map(move |pair| Place { tls, pair: *pair })
    };
    Ok(versions.iter().flat_map(at).collect())
}

/// The pairs that `stacks` lists.
fn pairs(listed: &Value, base: &Table) -> Result<Vec<Pair>, Wrong> {
    if let Some(path) = said_again(base) {
        return Err(Wrong::new(&path.join("."), SAID));
    }
    let wrong = |what: String| Wrong::new("stacks", format!("{what}; allowed: a list of {STACKS}"));
    let mut pairs: Vec<Pair> = Vec::new();
    for one in listed
        .as_array()
        .ok_or_else(|| wrong("not a list".into()))?
    {
        let named = one.as_str().and_then(Pair::named);
        let pair = named.ok_or_else(|| wrong(format!("{one} is not known")))?;
        if pairs.contains(&pair) {
            return Err(wrong(format!("{one} is there twice")));
        }
        pairs.push(pair);
    }
    if pairs.is_empty() {
        return Err(wrong("empty".into()));
    }
    Ok(pairs)
}

/// Where a table says who speaks at one end.
fn said_again(table: &Table) -> Option<[&'static str; 2]> {
    ["client", "server"]
        .into_iter()
        .find(|end| {
            let peer = table.get(*end).and_then(Value::as_table);
            peer.is_some_and(|peer| peer.contains_key("stack"))
        })
        .map(|end| [end, "stack"])
}

/// The overlays of `[at]` in the order in which they are merged: those with fewer words first, so that
/// what is said more exactly wins; among equals, by the alphabet.
pub(super) fn overlays(at: Table, places: &[Place]) -> Result<Vec<(String, Table)>, Wrong> {
    let mut overlays = Vec::new();
    for (key, overlay) in at {
        let wrong = |message| Wrong {
            path: vec!["at".into(), key.clone()],
            message,
        };
        if !places.iter().any(|place| place.fits(&key)) {
            return Err(wrong(format!(
                "{key:?} fits nothing of `tls` and `stacks`; allowed, each word of it: {}",
                words(places).join(", ")
            )));
        }
        let Value::Table(overlay) = overlay else {
            return Err(wrong("not a table".into()));
        };
        if places.iter().any(|place| place.pair.is_some())
            && let Some(path) = said_again(&overlay)
        {
            let path = ["at", &key].into_iter().chain(path).map(String::from);
            return Err(Wrong {
                path: path.collect(),
                message: SAID.into(),
            });
        }
        overlays.push((key, overlay));
    }
    overlays.sort_by_key(|(key, _)| (key.split_whitespace().count(), key.clone()));
    Ok(overlays)
}

/// Every word that fits somewhere, once.
fn words(places: &[Place]) -> Vec<String> {
    let mut words = Vec::new();
    for word in places.iter().flat_map(Place::words) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

impl Place {
    /// Whether an overlay with this key is meant for here.
    pub(super) fn fits(&self, key: &str) -> bool {
        let own = self.words();
        let mut words = key.split_whitespace().peekable();
        words.peek().is_some() && words.all(|word| own.iter().any(|own| own == word))
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec![self.tls.as_str().to_string()];
        if let Some(pair) = self.pair {
            let Pair { client, server } = pair;
            words.push(pair.segment());
            words.push(format!("client:{}", client.as_str()));
            words.push(format!("server:{}", server.as_str()));
        }
        words
    }

    /// Writes into a scenario what follows from the place: who speaks and, where the file does not say,
    /// over what. No library says anything else over another IP version, so pairs with another library, which
    /// come on top of rustls', run over one of them: TLS 1.3 over IPv6, the others over IPv4.
    pub(super) fn settle(&self, whole: &mut Table) {
        let Some(pair) = self.pair else { return };
        let Pair { client, server } = pair;
        for (end, stack) in [("client", client), ("server", server)] {
            let mut peer = Table::new();
            peer.insert("stack".into(), stack.as_str().into());
            let mut overlay = Table::new();
            overlay.insert(end.into(), Value::Table(peer));
            merge(whole, overlay);
        }
        if (client.comes_on_top() || server.comes_on_top()) && !whole.contains_key("family") {
            let family = match self.tls {
                Tls::V1_3 => "ipv6",
                Tls::V1_2 | Tls::Any => "ipv4",
            };
            whole.insert("family".into(), Value::Array(vec![family.into()]));
        }
    }
}

impl Pair {
    fn named(name: &str) -> Option<Self> {
        let (client, server) = match name.split_once('-') {
            // A raw end speaks no TLS by itself, and what a program experienced the other end must know too.
            None if Stack::named(name).is_none_or(|one| one == Stack::Raw || one.is_program()) => {
                return None;
            }
            None => (name, name),
            Some(both) => both,
        };
        let pair = Self {
            client: Stack::named(client)?,
            server: Stack::named(server)?,
        };
        // One name for one pair: it is the case id's.
        (pair.segment() == name).then_some(pair)
    }

    fn segment(self) -> String {
        super::matrix::stacks(self.client, self.server)
    }
}

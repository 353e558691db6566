//! One scenario file, read: base and overlays merged, once for each TLS version, pair of stacks and near miss.
//!
//! A file is TOML as [`super::model`] has it, plus `stacks`, the pairs to run it with, and two overlays
//! that are merged, deep, into the same table: `[at."1.3 client:openssl"]` for what differs at a TLS version
//! or with a stack, and `[near_miss]`, the sibling that must succeed in silence; `[key_log]`, `[library]` and
//! `[library_deep]` are merged into `[expect]`, where the probe has that beside the wire. Refuses to touch the file system, and to go on with a file that is wrong.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::Fault;
use super::check::{self, NO_FAILURE};
use super::matrix::Beside;
use super::model::{Expect, Scenario, Stack, Tls};
use super::place::{self, Place};

/// A scenario for one TLS version and pair of stacks, overlays applied.
#[derive(Debug)]
pub(super) struct Variant {
    /// What the file says for this version.
    pub(super) scenario: Scenario,
    /// The version.
    pub(super) tls: Tls,
    /// Whether it is the sibling.
    pub(super) near_miss: bool,
    /// What the probe has beside the wire.
    pub(super) beside: Beside,
    /// The line and value of `near_miss = "FILE"`, where the sibling is another file's scenario.
    pub(super) sibling: Option<(usize, String)>,
}

/// A path into a table: `["client", "certificate", "issuer"]`.
type Path = Vec<String>;

/// What is wrong with a field, before it has a line.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) path: Path,
    pub(super) message: String,
}

impl Wrong {
    pub(super) fn new(path: &str, message: impl Into<String>) -> Self {
        let path = path
            .split('.')
            .filter(|key| !key.is_empty())
            .map(String::from)
            .collect();
        Self {
            path,
            message: message.into(),
        }
    }
}

/// Reads one file.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Variant>, Vec<Fault>> {
    let table: Table = text
        .parse()
        .map_err(|error| vec![syntax(file, text, &error)])?;
    let source = Source {
        file,
        lines: Lines::of(text),
    };
    let mut base = table;
    let refuse = |wrong| source.faults([wrong], &[&[]]);
    let at = take_table(&mut base, "at").map_err(refuse)?;
    let stacks = base.remove("stacks");
    // The base alone says where it runs; its other faults are found at each place.
    let versions = versions(&base).map_err(refuse)?;
    let places = place::places(&versions, stacks.as_ref(), &base).map_err(refuse)?;
    let overlays = place::overlays(at, &places).map_err(refuse)?;

    let mut variants = Vec::new();
    let mut faults = Vec::new();
    for place in &places {
        let overlays: Vec<&(String, Table)> =
            overlays.iter().filter(|(key, _)| place.fits(key)).collect();
        match at_place(&source, &base, &overlays, place) {
            Ok(mut both) => variants.append(&mut both),
            Err(mut wrong) => faults.append(&mut wrong),
        }
    }
    if faults.is_empty() {
        return Ok(variants);
    }
    faults.sort();
    faults.dedup();
    Err(faults)
}

fn versions(base: &Table) -> Result<Vec<Tls>, Wrong> {
    let listed = base.get("tls").ok_or_else(|| {
        Wrong::new(
            "tls",
            "missing; allowed: a list of \"1.2\", \"1.3\", \"any\"",
        )
    })?;
    let versions: Vec<Tls> = listed
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| {
            Wrong::new(
                "tls",
                format!("{}; allowed: a list of these", error.message()),
            )
        })?;
    if versions.is_empty() {
        return Err(Wrong::new(
            "tls",
            "empty; allowed: at least one of \"1.2\", \"1.3\", \"any\"",
        ));
    }
    Ok(versions)
}

/// The scenario and its near miss, at one place.
fn at_place(
    source: &Source<'_>,
    base: &Table,
    overlays: &[&(String, Table)],
    place: &Place,
) -> Result<Vec<Variant>, Vec<Fault>> {
    let tls = place.tls;
    let keys: Vec<[&str; 2]> = overlays.iter().map(|(key, _)| ["at", key]).collect();
    let mut layers: Vec<&[&str]> = vec![&[]];
    layers.extend(keys.iter().map(|key| &key[..]));
    let mut whole = base.clone();
    for (_, overlay) in overlays {
        merge(&mut whole, overlay.clone());
    }
    place.settle(&mut whole);
    let near_miss = whole.remove("near_miss");
    let more: Vec<(Beside, &str, Value)> = Beside::MORE
        .into_iter()
        .filter_map(|beside| {
            let key = beside.key()?;
            Some((beside, key, whole.remove(key)?))
        })
        .collect();

    let scenario = deserialize(whole.clone()).map_err(|wrong| source.faults([wrong], &layers))?;
    let mut wrong = check::scenario(&scenario, tls, Beside::Nothing);
    let sibling = match &near_miss {
        Some(Value::String(file)) => {
            Some((source.line(&["near_miss".into()], &layers), file.clone()))
        }
        _ => None,
    };
    if near_miss.is_none() && scenario.expect.is_some() {
        wrong.push(Wrong::new(
            "near_miss",
            "missing: a failure needs a sibling that must be silence; allowed: a table with one knob, or the file of another scenario",
        ));
    }
    if !wrong.is_empty() {
        return Err(source.faults(wrong, &layers));
    }

    let mut variants = vec![Variant {
        scenario,
        tls,
        near_miss: false,
        beside: Beside::Nothing,
        sibling,
    }];
    // Where an overlay says something of a table that is taken out before.
    let inside =
        |table| -> Vec<[&str; 3]> { keys.iter().map(|[at, key]| [*at, *key, table]).collect() };
    for (beside, key, told) in more {
        let (table, deep) = ([key], inside(key));
        let mut layers = layers.clone();
        layers.push(&table);
        layers.extend(deep.iter().map(|key| &key[..]));
        let scenario = with(beside, key, told, whole.clone(), &variants[0].scenario)
            .map_err(|wrong| source.faults([wrong], &layers))?;
        let wrong = check::scenario(&scenario, tls, beside);
        if !wrong.is_empty() {
            return Err(source.faults(wrong, &layers));
        }
        variants.push(Variant {
            scenario,
            tls,
            near_miss: false,
            beside,
            sibling: None,
        });
    }
    match near_miss {
        None | Some(Value::String(_)) => {}
        Some(Value::Table(near)) => {
            let deep = inside("near_miss");
            layers.push(&["near_miss"]);
            layers.extend(deep.iter().map(|key| &key[..]));
            let scenario = near_miss_of(whole, near, &variants[0].scenario)
                .map_err(|wrong| source.faults([wrong], &layers))?;
            let wrong = check::scenario(&scenario, tls, Beside::Nothing);
            if !wrong.is_empty() {
                return Err(source.faults(wrong, &layers));
            }
            variants.push(Variant {
                scenario,
                tls,
                near_miss: true,
                beside: Beside::Nothing,
                sibling: None,
            });
        }
        Some(_) => {
            let wrong = Wrong::new(
                "near_miss",
                "neither a table nor the file of another scenario",
            );
            return Err(source.faults([wrong], &layers));
        }
    }
    Ok(variants)
}

/// The same handshake before a probe that has more than the wire: what the table `key` says is expected
/// otherwise.
fn with(
    beside: Beside,
    key: &str,
    told: Value,
    mut whole: Table,
    plain: &Scenario,
) -> Result<Scenario, Wrong> {
    let wrong = |message: &str| Err(Wrong::new(key, message));
    let Value::Table(mut told) = told else {
        return wrong("not a table; allowed: what [expect] has");
    };
    let hides = |expect: &Expect| expect.encrypted == Some(true) && expect.confidence != "certain";
    if beside == Beside::KeyLog && !plain.expect.as_ref().is_some_and(hides) {
        return wrong(
            "nothing is hidden here; allowed: where [expect] has encrypted = true and is not certain",
        );
    }
    let ends = [plain.client.stack, plain.server.stack];
    if beside.hears_libraries() && !ends.into_iter().any(Stack::is_shared_library) {
        return wrong(
            "no library can be asked here; allowed: where OpenSSL or GnuTLS is at an end",
        );
    }
    let silent = told.remove("silent") == Some(Value::Boolean(true));
    match whole.get_mut("expect") {
        Some(_) if silent && !told.is_empty() => return wrong("`silent = true` stands alone"),
        Some(_) if silent && plain.class != NO_FAILURE => {
            return wrong("only a good handshake may be silent");
        }
        Some(_) if silent => drop(whole.remove("expect")),
        Some(Value::Table(expect)) => merge(expect, told),
        _ if silent || !told.is_empty() => {
            return wrong("nothing is expected here; allowed: an empty table");
        }
        _ => {}
    }
    deserialize(whole)
}

/// The sibling: the same scenario with one knob turned, where everybody is content.
fn near_miss_of(mut whole: Table, mut near: Table, failing: &Scenario) -> Result<Scenario, Wrong> {
    let witness = near.remove("witness");
    if let Some(key) = near.keys().find(|key| *key != "client" && *key != "server") {
        return Err(Wrong::new(
            key,
            "not in a near miss; allowed: client, server, witness",
        ));
    }
    let knobs: Vec<String> = near
        .iter()
        .flat_map(|(key, value)| leaves(key, value))
        .collect();
    if knobs.len() != 1 {
        let listed = if knobs.is_empty() {
            "none".into()
        } else {
            knobs.join(", ")
        };
        return Err(Wrong::new(
            "near_miss",
            format!(
                "turns {} knobs ({listed}); allowed: exactly one under client or server",
                knobs.len()
            ),
        ));
    }
    let (mut turned, before) = (whole.clone(), whole.clone());
    merge(&mut turned, near.clone());
    if turned == before {
        return Err(Wrong::new(
            "near_miss",
            format!("{} has this value already", knobs[0]),
        ));
    }
    merge(&mut whole, near);
    whole.remove("expect");
    let mut content = Table::new();
    content.insert("client".into(), "ok".into());
    content.insert("server".into(), "ok".into());
    content.insert(
        "wire".into(),
        Value::Array(vec!["server: ServerHello".into()]),
    );
    if let Some(Value::Table(witness)) = witness {
        merge(&mut content, witness);
    }
    whole.insert("witness".into(), Value::Table(content));
    let scenario = deserialize(whole)?;
    if scenario.client == failing.client && scenario.server == failing.server {
        return Err(Wrong::new(
            "near_miss",
            format!("{} is the default already", knobs[0]),
        ));
    }
    Ok(scenario)
}

fn deserialize(table: Table) -> Result<Scenario, Wrong> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path: Path = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                _ => None,
            })
            .collect();
        let message = error.inner().message().to_string();
        // A field that is unknown or missing is named by the message, not by the path.
        let mut path = path;
        let named = ["unknown field `", "missing field `"]
            .iter()
            .find_map(|start| {
                let (name, _) = message.strip_prefix(start)?.split_once('`')?;
                Some(name.to_string())
            });
        if let Some(name) = named
            && path.last() != Some(&name)
        {
            path.push(name);
        }
        Wrong { path, message }
    })
}

/// Sets what `overlay` says in `base`: tables go deep, everything else replaces.
pub(super) fn merge(base: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The dotted names of the values in a table that are no tables: the knobs.
fn leaves(name: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Table(table) => table
            .iter()
            .flat_map(|(key, value)| leaves(&format!("{name}.{key}"), value))
            .collect(),
        _ => vec![name.into()],
    }
}

fn take_table(table: &mut Table, key: &str) -> Result<Table, Wrong> {
    match table.remove(key) {
        None => Ok(Table::new()),
        Some(Value::Table(inner)) => Ok(inner),
        Some(_) => Err(Wrong::new(
            key,
            "not a table; allowed: [at.\"1.2\"], [at.\"1.3 client:openssl\"]",
        )),
    }
}

pub(super) fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Fault {
    let start = error.span().map_or(0, |span| span.start);
    Fault {
        file: file.into(),
        line: line_at(text, start),
        field: String::new(),
        message: format!("not TOML: {}", error.message()),
    }
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// A file, for saying where in it something stands.
struct Source<'a> {
    file: &'a str,
    lines: Lines,
}

impl Source<'_> {
    fn faults(&self, wrong: impl IntoIterator<Item = Wrong>, layers: &[&[&str]]) -> Vec<Fault> {
        wrong
            .into_iter()
            .map(|Wrong { path, message }| Fault {
                file: self.file.into(),
                line: self.line(&path, layers),
                field: path.join("."),
                message,
            })
            .collect()
    }

    /// The line of a field: where the topmost overlay sets it, else the nearest table around it.
    fn line(&self, path: &[String], layers: &[&[&str]]) -> usize {
        for depth in (0..=path.len()).rev() {
            for layer in layers.iter().rev() {
                let mut full: Path = layer.iter().map(ToString::to_string).collect();
                full.extend_from_slice(&path[..depth]);
                if let Some(line) = self.lines.0.get(&full)
                    && (depth > 0 || path.is_empty())
                {
                    return *line;
                }
            }
        }
        1
    }
}

/// The line of every key and element of a file.
struct Lines(BTreeMap<Path, usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = BTreeMap::new();
        if let Ok(table) = DeTable::parse(text) {
            Self::walk(text, table.get_ref(), &mut Vec::new(), &mut lines);
        }
        Self(lines)
    }

    fn walk(text: &str, table: &DeTable<'_>, at: &mut Path, lines: &mut BTreeMap<Path, usize>) {
        for (key, value) in table {
            at.push(key.get_ref().to_string());
            lines.insert(at.clone(), line_at(text, key.span().start));
            Self::descend(text, value, at, lines);
            at.pop();
        }
    }

    fn descend(
        text: &str,
        value: &Spanned<DeValue<'_>>,
        at: &mut Path,
        lines: &mut BTreeMap<Path, usize>,
    ) {
        match value.get_ref() {
            DeValue::Table(table) => Self::walk(text, table, at, lines),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    at.push(index.to_string());
                    lines.insert(at.clone(), line_at(text, element.span().start));
                    Self::descend(text, element, at, lines);
                    at.pop();
                }
            }
            _ => {}
        }
    }
}

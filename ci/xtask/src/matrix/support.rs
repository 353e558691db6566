//! `support.toml`: what each program does on each kernel, as promised, and what it costs to load.
//!
//! Both directions are red: a program that no longer works, and one that works where the table says
//! that it does not. So is a cost more than a tenth above the one written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{
    results::{Limits, Program},
    series,
};
use crate::paths;

/// How much worse than the baseline a cost may be, in percent.
const TOLERANCE: u64 = 10;

/// The whole file.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// What every kernel allows one program.
    pub(crate) limits: Limits,
    /// By series, then by program.
    pub(crate) kernel: BTreeMap<String, BTreeMap<String, Entry>>,
}

/// One program on one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) is: Support,
    /// Why it is not `works`.
    pub(crate) reason: Option<String>,
    pub(crate) verified_instructions: Option<u64>,
    pub(crate) jited_bytes: Option<u64>,
    pub(crate) stack_bytes: Option<u64>,
}

/// How far a program can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Support {
    Works,
    /// Loads, and does less than elsewhere.
    Degraded,
    /// The kernel refuses it.
    Unsupported,
}

impl Support {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Degraded => "degraded",
            Self::Unsupported => "unsupported",
        }
    }
}

pub(crate) fn path() -> PathBuf {
    paths::repo_root().join("support.toml")
}

impl Table {
    /// # Errors
    /// When the file is not there, or is no such table.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: Self = toml::from_str(text).context("support.toml")?;
        for (series, programs) in &table.kernel {
            for (name, entry) in programs {
                let reason = entry.reason.as_deref().unwrap_or_default();
                if (entry.is == Support::Works) != reason.trim().is_empty() {
                    anyhow::bail!(
                        "support.toml: {name} on {series}: `{}` {} a reason",
                        entry.is.name(),
                        if entry.is == Support::Works {
                            "takes no"
                        } else {
                            "needs"
                        }
                    );
                }
            }
        }
        Ok(table)
    }

    /// The compatibility table of the README: kernels as rows, oldest first, programs as columns. A program
    /// in another configuration has one of its own only where that changes something.
    pub(crate) fn markdown(&self) -> String {
        let programs: BTreeSet<&str> = self
            .kernel
            .values()
            .flat_map(|programs| programs.keys().map(String::as_str))
            .filter(|name| self.stands_alone(name))
            .collect();
        let head: Vec<String> = programs.iter().map(|name| format!("`{name}`")).collect();
        let mut text = format!(
            "| Linux | {} |\n|{}\n",
            head.join(" | "),
            "---|".repeat(head.len() + 1)
        );
        let known = series::ALL
            .iter()
            .filter_map(|series| Some((series.name, self.kernel.get(series.name)?)));
        for (name, entries) in known {
            let cells = programs.iter().map(|program| match entries.get(*program) {
                None => "-".to_owned(),
                Some(Entry {
                    is, reason: None, ..
                }) => is.name().to_owned(),
                Some(Entry {
                    is,
                    reason: Some(reason),
                    ..
                }) => format!("{}: {reason}", is.name()),
            });
            let cells: Vec<String> = cells.collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
        text
    }

    /// Whether a program is anywhere promised something else than in its default configuration.
    fn stands_alone(&self, name: &str) -> bool {
        let Some((plain, _)) = name.split_once('@') else {
            return true;
        };
        self.kernel.values().any(|programs| {
            let promised = |name| programs.get(name).map(|entry| (entry.is, &entry.reason));
            promised(name) != promised(plain)
        })
    }

    /// What loading costs, by what is written down, and how much of the kernel's limits is left: kernels
    /// as rows, oldest first, for each program instructions and stack.
    pub(crate) fn costs(&self) -> String {
        let mut text = String::from(
            "| Linux | program | verified instructions | left | stack, bytes | left |\n|---|---|---|---|---|---|\n",
        );
        let left = |used: Option<u64>, limit: Option<u64>| match (used, limit) {
            (Some(used), Some(limit)) if limit > 0 => {
                format!("{used} | {} %", limit.saturating_sub(used) * 100 / limit)
            }
            _ => "- | -".into(),
        };
        for series in &series::ALL {
            for (program, entry) in self.kernel.get(series.name).into_iter().flatten() {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "| {} | `{program}` | {} | {} |",
                    series.name,
                    left(
                        entry.verified_instructions,
                        self.limits.verified_instructions
                    ),
                    left(entry.stack_bytes, self.limits.stack_bytes)
                );
            }
        }
        text
    }

    /// How a program differs from what is written down; a kernel of one's own is not written down.
    pub(crate) fn differs(&self, series: &str, program: &Program) -> Option<String> {
        let programs = self.kernel.get(series)?;
        let name = &program.name;
        let Some(entry) = programs.get(name) else {
            return Some(format!("support.toml says nothing of {name} on {series}"));
        };
        match (entry.is, program.loaded) {
            (Support::Works | Support::Degraded, false) => Some(format!(
                "{name} was refused by {series}; support.toml says `{}`",
                entry.is.name()
            )),
            (Support::Unsupported, true) => Some(format!(
                "{name} loads on {series}, though support.toml says `unsupported`: raise what is promised"
            )),
            (_, false) => None,
            (_, true) => match program.limits {
                Some(limits) if limits != self.limits => Some(format!(
                    "{series} allows a program {limits:?}; support.toml says {:?}",
                    self.limits
                )),
                _ => entry
                    .dearer(program)
                    .map(|cost| format!("{name} on {series}: {cost}")),
            },
        }
    }
}

impl Entry {
    fn dearer(&self, program: &Program) -> Option<String> {
        let costs = [
            (
                "verified instructions",
                self.verified_instructions,
                program.verified_instructions,
            ),
            (
                "bytes of machine code",
                self.jited_bytes,
                program.jited_bytes,
            ),
            ("bytes of stack", self.stack_bytes, program.stack_bytes),
        ];
        costs.into_iter().find_map(|(what, baseline, now)| {
            let (baseline, now) = (baseline?, now?);
            // Baselines are far below what would overflow.
            (now * 100 > baseline * (100 + TOLERANCE)).then(|| {
                format!(
                    "{now} {what}, more than {TOLERANCE} % above the {baseline} of support.toml"
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str =
        "[limits]\nverified_instructions = 1000000\nstack_bytes = 512\ntail_calls = 33\n";
    const TABLE: &str = "[limits]\nverified_instructions = 1000000\nstack_bytes = 512\ntail_calls = 33\n\
        [kernel.\"5.10\"]\n\
        gauntlet_watch = { is = \"works\", verified_instructions = 1000 }\n\
        gauntlet_old = { is = \"unsupported\", reason = \"needs 5.17\" }\n";

    fn program(name: &str, loaded: bool, verified: u64) -> Program {
        Program {
            name: name.into(),
            configuration: "default".into(),
            loaded,
            load_us: None,
            verified_instructions: loaded.then_some(verified),
            jited_bytes: None,
            stack_bytes: None,
            limits: None,
            headroom: None,
        }
    }

    fn differs(name: &str, loaded: bool, verified: u64) -> Option<String> {
        Table::parse(TABLE)
            .unwrap()
            .differs("5.10", &program(name, loaded, verified))
    }

    #[test]
    fn both_directions_differ() {
        assert_eq!(differs("gauntlet_watch", true, 1000), None);
        assert!(
            differs("gauntlet_watch", false, 0)
                .unwrap()
                .contains("was refused by 5.10")
        );
        assert_eq!(differs("gauntlet_old", false, 0), None);
        assert!(
            differs("gauntlet_old", true, 1)
                .unwrap()
                .contains("raise what is promised")
        );
        assert!(
            differs("gauntlet_new", true, 1)
                .unwrap()
                .contains("says nothing")
        );
    }

    #[test]
    fn a_tenth_more_is_allowed_and_not_more() {
        assert_eq!(differs("gauntlet_watch", true, 1100), None);
        assert!(
            differs("gauntlet_watch", true, 1101)
                .unwrap()
                .contains("1101 verified")
        );
    }

    #[test]
    fn whatever_is_not_works_needs_a_reason() {
        let parse = |kernel: &str| Table::parse(&format!("{LIMITS}{kernel}"));
        let without = "[kernel.\"5.10\"]\nx = { is = \"degraded\" }\n";
        assert!(
            parse(without)
                .unwrap_err()
                .to_string()
                .contains("needs a reason")
        );
        let superfluous = "[kernel.\"5.10\"]\nx = { is = \"works\", reason = \"y\" }\n";
        assert!(parse(superfluous).is_err());
        assert!(parse("[kernel.\"5.10\"]\nx = { is = \"perhaps\" }\n").is_err());
        assert!(Table::parse("[kernel]\n").is_err(), "no limits");
    }

    #[test]
    fn the_readme_gets_reasons_too() {
        let text = Table::parse(TABLE).unwrap().markdown();
        assert_eq!(
            text,
            "| Linux | `gauntlet_old` | `gauntlet_watch` |\n|---|---|---|\n\
             | 5.10 | unsupported: needs 5.17 | works |\n"
        );
    }

    #[test]
    fn a_kernel_with_other_limits_differs() {
        let table = Table::parse(TABLE).unwrap();
        let mut small = program("gauntlet_watch", true, 1000);
        small.limits = Some(table.limits);
        assert_eq!(table.differs("5.10", &small), None);
        small.limits = Some(Limits {
            verified_instructions: Some(4096),
            ..table.limits
        });
        let said = table.differs("5.10", &small).unwrap();
        assert!(said.contains("4096") && said.contains("1000000"), "{said}");
    }

    #[test]
    fn headroom_follows_from_the_limits() {
        let costs = Table::parse(TABLE).unwrap().costs();
        assert!(
            costs.contains("| 5.10 | `gauntlet_watch` | 1000 | 99 % | - | - |\n"),
            "{costs}"
        );
    }

    #[test]
    fn the_tables_of_the_documents_are_those_of_support_toml() {
        let table = Table::read().unwrap();
        for (file, text) in [
            ("README.md", table.markdown()),
            ("ci/README.md", table.costs()),
        ] {
            let document = fs::read_to_string(paths::repo_root().join(file)).unwrap();
            assert!(
                document.contains(&text),
                "the table in {file} is stale; `cargo xtask matrix --table` prints both:\n{text}"
            );
        }
    }

    #[test]
    fn the_table_of_the_repository_has_every_series() {
        let table = Table::read().unwrap();
        let series: Vec<&str> = series::ALL.iter().map(|series| series.name).collect();
        assert!(
            series.iter().all(|name| table.kernel.contains_key(*name)),
            "{series:?}"
        );
        assert_eq!(table.kernel.len(), series.len());
    }
}

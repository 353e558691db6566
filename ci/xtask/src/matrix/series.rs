//! The kernel series of the matrix, and which of them a run is about. Knows nothing of packages.

/// One series: what a distribution ships under one `MAJOR.MINOR`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// `5.10`
    pub(crate) name: &'static str,
    /// The suites of Debian that have it, the best first.
    pub(crate) suites: &'static [&'static str],
}

/// Oldest first. Series that no Debian suite has any more (5.15, 6.6) or has no modules of (6.19 to
/// 7.1) are not here; `--kernel-image` boots those.
pub(crate) const ALL: [Series; 8] = [
    Series {
        name: "5.10",
        suites: &["bullseye"],
    },
    Series {
        name: "6.1",
        suites: &["bookworm"],
    },
    Series {
        name: "6.12",
        suites: &["trixie", "bookworm-backports"],
    },
    Series {
        name: "6.16",
        suites: &["trixie-backports"],
    },
    Series {
        name: "6.17",
        suites: &["trixie-backports"],
    },
    Series {
        name: "6.18",
        suites: &["trixie-backports"],
    },
    Series {
        name: "7.2",
        suites: &["trixie-backports"],
    },
    Series {
        name: "7.3",
        suites: &["trixie-backports"],
    },
];

/// What `cargo xtask test` runs: the oldest, one in the middle and the newest.
pub(crate) const GATE: [&str; 3] = ["5.10", "6.12", "7.3"];

/// One part of several: `1/3` is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    part: usize,
    of: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if (1..=of).contains(&part) => Ok(Self { part, of }),
            _ => Err(format!("`{text}` is no shard: the first of three is 1/3")),
        }
    }
}

/// The series that were asked for, in the order of the table; all without a name.
///
/// # Errors
/// In one line, when a name is no series.
pub(crate) fn select(
    names: &[String],
    shard: Option<Shard>,
) -> Result<Vec<&'static Series>, String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !ALL.iter().any(|s| s.name == **name))
    {
        let known: Vec<&str> = ALL.iter().map(|series| series.name).collect();
        return Err(format!(
            "no kernel series `{unknown}`; there are: {}",
            known.join(", ")
        ));
    }
    let wanted = |series: &&Series| names.is_empty() || names.iter().any(|n| n == series.name);
    let selected = ALL.iter().filter(wanted).enumerate();
    // Every nth, so that old and new kernels are spread over the parts.
    let mine = |index: usize| shard.is_none_or(|shard| index % shard.of == shard.part - 1);
    Ok(selected
        .filter(|(index, _)| mine(*index))
        .map(|(_, series)| series)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selected: &[&'static Series]) -> Vec<&'static str> {
        selected.iter().map(|series| series.name).collect()
    }

    #[test]
    fn nothing_asked_is_everything_and_an_unknown_name_is_an_error() {
        assert_eq!(select(&[], None).unwrap().len(), ALL.len());
        let two = ["7.3".to_owned(), "5.10".to_owned()];
        assert_eq!(names(&select(&two, None).unwrap()), ["5.10", "7.3"]);
        let error = select(&["5.11".into()], None).unwrap_err();
        assert!(error.contains("5.11") && error.contains("6.18") && !error.contains('\n'));
    }

    #[test]
    fn shards_are_disjoint_and_together_everything() {
        let mut together: Vec<_> = ["1/3", "2/3", "3/3"]
            .iter()
            .flat_map(|shard| names(&select(&[], Some(shard.parse().unwrap())).unwrap()))
            .collect();
        together.sort_unstable();
        let mut all = names(&ALL.iter().collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(together, all);
    }

    #[test]
    fn a_shard_outside_its_range_is_refused() {
        for text in ["0/3", "4/3", "1", "1/0", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_gate_has_oldest_and_newest() {
        assert_eq!(GATE.first(), ALL.first().map(|series| &series.name));
        assert_eq!(GATE.last(), ALL.last().map(|series| &series.name));
        assert!(
            GATE.iter()
                .all(|gate| ALL.iter().any(|series| series.name == *gate))
        );
    }
}

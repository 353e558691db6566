//! `known-deviations.toml`: cases the probe is known to get wrong, each with its reason.
//!
//! `"pattern" = "reason"`, where `*` in a pattern stands for anything. A deviation that no case of
//! the suite matches is an error, and one that no longer happens is `xpass`, which is never green.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{Case, Fault, parse};

/// Patterns of case ids, and why the cases they match are expected to fail.
#[derive(Debug, Clone, Default)]
pub struct Deviations {
    file: String,
    reasons: BTreeMap<String, Reason>,
}

#[derive(Debug, Clone)]
struct Reason {
    line: usize,
    text: String,
}

/// A deviation that matches no case of the suite.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}:{line}: {pattern:?} matches no case: the deviation is over, or misspelt; remove it"
)]
pub struct UnusedDeviation {
    file: String,
    line: usize,
    pattern: String,
}

impl Deviations {
    /// Reads the file's text.
    pub(super) fn read(file: &str, text: &str) -> Result<Self, Vec<Fault>> {
        let read: BTreeMap<String, Spanned<String>> = toml::from_str(text).map_err(|error| {
            let mut fault = parse::syntax(file, text, &error);
            fault.message = format!("{}; allowed: \"pattern\" = \"reason\"", error.message());
            vec![fault]
        })?;
        let reasons = read.into_iter().map(|(pattern, reason)| {
            let line = parse::line_at(text, reason.span().start);
            let text = reason.into_inner();
            (pattern, Reason { line, text })
        });
        Ok(Self {
            file: file.into(),
            reasons: reasons.collect(),
        })
    }

    /// Why this case is expected to fail, if it is.
    #[must_use]
    pub fn reason(&self, id: &str) -> Option<&str> {
        let known = self
            .reasons
            .iter()
            .find(|(pattern, _)| matches(pattern, id));
        known.map(|(_, reason)| reason.text.as_str())
    }

    /// Checks that every deviation still has a case.
    ///
    /// # Errors
    /// When one matches none of `cases`.
    pub fn check(&self, cases: &[Case]) -> Result<(), UnusedDeviation> {
        let used = |pattern: &str| cases.iter().any(|case| matches(pattern, &case.id));
        match self.reasons.iter().find(|(pattern, _)| !used(pattern)) {
            None => Ok(()),
            Some((pattern, reason)) => Err(UnusedDeviation {
                file: self.file.clone(),
                line: reason.line,
                pattern: pattern.clone(),
            }),
        }
    }
}

/// Whether the whole of `text` fits `pattern`, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    (0..=text.len())
        .filter(|at| text.is_char_boundary(*at))
        .any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        assert!(matches("a::b", "a::b"));
        assert!(!matches("a::b", "a::b::c"));
        assert!(matches("a::*", "a::b::c"));
        assert!(matches("*::c", "a::b::c"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("a*b*c", "a-b-b-d"));
    }
}

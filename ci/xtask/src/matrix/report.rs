//! The runs of a matrix, laid out: kernels by classes. Everything was judged before.

mod human;
mod junit;
mod markdown;
mod ndjson;

use std::{collections::BTreeSet, time::Duration};

use gauntlet_guest::qemu::Accelerator;

use super::{results::Results, verdict::Judgement};

pub(crate) use self::{human::human, junit::junit, markdown::markdown, ndjson::ndjson};

/// One kernel, run.
pub(crate) struct Run {
    /// `5.10`, or what a kernel of one's own is called.
    pub(crate) kernel: String,
    pub(crate) accelerator: Accelerator,
    pub(crate) judgement: Judgement,
    /// What came back, if it is whole.
    pub(crate) results: Option<Results>,
    pub(crate) took: Duration,
}

/// The classes that any kernel was asked for.
fn classes(runs: &[Run]) -> Vec<String> {
    let results = runs.iter().filter_map(|run| run.results.as_ref());
    let classes: BTreeSet<String> = results
        .flat_map(|results| results.recall().into_keys())
        .collect();
    classes.into_iter().collect()
}

/// One cell: named of made; `-` where nothing came back.
fn cell(run: &Run, class: &str) -> String {
    let score = run
        .results
        .as_ref()
        .and_then(|results| results.recall().remove(class));
    score.map_or_else(
        || "-".into(),
        |score| format!("{}/{}", score.named, score.made),
    )
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{results, verdict::Verdict};

    fn runs() -> Vec<Run> {
        let run = |kernel: &str, verdict, reasons: &[&str], results| Run {
            kernel: kernel.into(),
            accelerator: Accelerator::Tcg,
            judgement: Judgement {
                verdict,
                reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            },
            results,
            took: Duration::from_secs(61),
        };
        vec![
            run("5.10", Verdict::Pass, &[], Some(results::tests::whole())),
            run(
                "7.3",
                Verdict::Infra,
                &["no <end> marker | came back"],
                None,
            ),
        ]
    }

    #[test]
    fn every_form_shows_both_kernels_and_the_reason() {
        let runs = runs();
        for (text, reason) in [
            (human(&runs), "no <end> marker | came back"),
            (ndjson(&runs), "no <end> marker | came back"),
            (junit(&runs), "no &lt;end&gt; marker | came back"),
            (markdown(&runs), "no &lt;end&gt; marker \\| came back"),
        ] {
            assert!(text.contains("5.10") && text.contains("7.3"), "{text}");
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn load_cost_and_headroom_are_in_every_form_for_people_and_programs() {
        let runs = runs();
        let text = human(&runs);
        for (row, cells) in [
            ("gauntlet_watch: verified instructions", ["1000", "-"]),
            ("gauntlet_watch: instructions left, %", ["99", "-"]),
            ("gauntlet_watch: stack left, %", ["60", "-"]),
            ("gauntlet_watch: tail calls left", ["0", "-"]),
        ] {
            let line = text.lines().find_map(|line| line.strip_prefix(row));
            let found: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
            assert_eq!(found, cells, "{row}");
        }
        let text = markdown(&runs);
        let row = "| 5.10 | `gauntlet_watch` | 0 | 1000 | 99 % | 200 | 60 % | 0 | 2000 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| 7.3 | `gauntlet_watch` | - |"), "{text}");
        let text = ndjson(&runs);
        let headroom = r#""headroom":{"verified_instructions":999000,"#;
        assert!(text.contains(headroom), "{text}");
    }

    #[test]
    fn ndjson_is_one_object_a_line() {
        let text = ndjson(&runs());
        let kinds: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].to_string()
            })
            .collect();
        assert_eq!(kinds, ["\"kernel\"", "\"kernel\"", "\"summary\""]);
    }

    #[test]
    fn a_kernel_without_a_result_is_an_error_in_junit() {
        let text = junit(&runs());
        assert!(
            text.contains("<testsuite name=\"7.3\" tests=\"1\" failures=\"0\" errors=\"1\""),
            "{text}"
        );
        assert!(text.contains("<testcase name=\"a::x\""), "{text}");
    }

    #[test]
    fn a_class_that_a_kernel_said_nothing_of_is_no_success() {
        let text = human(&runs());
        let row = text
            .lines()
            .find(|line| line.contains("SSL_ERROR_SYSCALL"))
            .unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["SSL_ERROR_SYSCALL", "1/1", "-"]
        );
    }
}

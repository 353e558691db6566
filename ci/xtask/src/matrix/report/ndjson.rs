//! For programs: one object for each kernel, and one at the end.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Results, Run};
use crate::matrix::verdict::Verdict;

pub(crate) fn ndjson(runs: &[Run]) -> String {
    let mut lines: Vec<String> = runs.iter().map(|run| kernel(run).to_string()).collect();
    let count = |verdict| {
        runs.iter()
            .filter(|run| run.judgement.verdict == verdict)
            .count()
    };
    let verdicts = [Verdict::Pass, Verdict::Fail, Verdict::Hang, Verdict::Infra];
    let mut summary = Map::from_iter([("type".to_owned(), json!("summary"))]);
    summary.extend(verdicts.map(|verdict| (verdict.name().to_owned(), json!(count(verdict)))));
    lines.push(Value::Object(summary).to_string());
    lines.join("\n") + "\n"
}

fn kernel(run: &Run) -> Value {
    let results = run.results.as_ref();
    let recall = results.map(|results| {
        let scores = results.recall().into_iter();
        let scores =
            scores.map(|(class, score)| (class, json!({"made": score.made, "named": score.named})));
        Value::Object(scores.collect())
    });
    json!({
        "type": "kernel",
        "kernel": run.kernel,
        "release": results.map(|results| &results.release),
        "accelerator": run.accelerator.name(),
        "verdict": run.judgement.verdict.name(),
        "reasons": run.judgement.reasons,
        "seconds": run.took.as_secs_f64(),
        "cases": results.map(|results| &results.summary),
        "endings": results.map(endings),
        "recall": recall,
        "false_alarms": results.map(Results::false_alarms),
        "programs": results.map(|results| &results.programs),
    })
}

/// The cases by verdict: what another kernel's must be like.
fn endings(results: &Results) -> BTreeMap<&str, Vec<&str>> {
    let mut endings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in &results.cases {
        endings.entry(&case.verdict).or_default().push(&case.id);
    }
    endings
}

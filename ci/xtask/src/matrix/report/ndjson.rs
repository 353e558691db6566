//! For programs: one object for each kernel, and one at the end.

use serde_json::{Map, Value, json};

use super::Run;
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
        "recall": recall,
        "false_alarms": results.map(super::Results::false_alarms),
        "programs": results.map(|results| &results.programs),
    })
}

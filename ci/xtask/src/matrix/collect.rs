//! Many runs as one check: what each kernel's own run printed as NDJSON, counted against the list of
//! kernels. A kernel that nobody reported is as red as one that failed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::verdict::differing;
use crate::exit;

/// What a report says of one kernel, as far as this looks at it.
#[derive(Debug, Deserialize)]
struct Kernel {
    kernel: String,
    verdict: String,
    reasons: Vec<String>,
    seconds: f64,
    /// The cases by verdict; none where there was no result.
    endings: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Record {
    Kernel(Kernel),
    #[serde(other)]
    Other,
}

/// Reads every `*.ndjson` below `folder`, prints a line for each kernel of `wanted`, and judges.
///
/// # Errors
/// In one line, when the folder cannot be read, or a file is no report.
pub(super) fn collect(folder: &Path, wanted: &[&str]) -> Result<u8> {
    let mut kernels = Vec::new();
    for file in reports(folder)? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let read = read(&text).with_context(|| file.display().to_string())?;
        kernels.extend(read);
    }
    let (lines, code) = judge(&kernels, wanted);
    for line in lines {
        println!("{line}");
    }
    Ok(code)
}

/// In the order of their names.
fn reports(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "ndjson")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(text: &str) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let record = serde_json::from_str(line)
            .with_context(|| format!("line {}: no report of a matrix", index + 1))?;
        if let Record::Kernel(kernel) = record {
            kernels.push(kernel);
        }
    }
    Ok(kernels)
}

/// A line for each kernel, and the exit code of all of them.
fn judge<'a>(kernels: &'a [Kernel], wanted: &[&str]) -> (Vec<String>, u8) {
    let mut by_name: BTreeMap<&str, Vec<&Kernel>> = BTreeMap::new();
    for kernel in kernels {
        by_name.entry(&kernel.kernel).or_default().push(kernel);
    }
    let mut code = exit::OK;
    let mut lines = Vec::new();
    let mut green = 0;
    for name in wanted {
        match by_name.get(name).map_or(&[][..], Vec::as_slice) {
            [] => {
                code = exit::NO_VERDICT;
                lines.push(format!("{name}: nobody reported it"));
            }
            [one] => {
                lines.push(format!("{name}: {}, {:.0} s", one.verdict, one.seconds));
                lines.extend(one.reasons.iter().map(|reason| format!("{name}: {reason}")));
                match one.verdict.as_str() {
                    "pass" => green += 1,
                    "fail" => code = code.max(exit::UNEXPECTED),
                    _ => code = exit::NO_VERDICT,
                }
            }
            several => {
                code = exit::NO_VERDICT;
                lines.push(format!(
                    "{name}: {} reports, and nobody knows which counts",
                    several.len()
                ));
            }
        }
    }
    let disagreements = differing(kernels.iter().flat_map(|kernel| {
        let endings = kernel.endings.iter().flatten();
        endings.flat_map(|(verdict, cases)| {
            let of_case =
                |case: &'a String| (kernel.kernel.as_str(), verdict.as_str(), case.as_str());
            cases.iter().map(of_case)
        })
    }));
    if !disagreements.is_empty() {
        code = code.max(exit::UNEXPECTED);
    }
    lines.extend(disagreements);
    lines.push(format!("{green} of {} kernels are green", wanted.len()));
    (lines, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kernel: &str, verdict: &str) -> String {
        format!(
            r#"{{"type":"kernel","kernel":"{kernel}","verdict":"{verdict}","reasons":[],"seconds":42.5,"endings":{{"{verdict}":["a::x"]}},"programs":null}}"#
        )
    }

    fn code(reports: &[(&str, &str)]) -> (String, u8) {
        let text: Vec<String> = reports
            .iter()
            .map(|(kernel, verdict)| report(kernel, verdict))
            .chain([r#"{"type":"summary","pass":1}"#.to_owned()])
            .collect();
        let (lines, code) = judge(&read(&text.join("\n")).unwrap(), &["5.10", "7.3"]);
        (lines.join("\n"), code)
    }

    #[test]
    fn green_is_every_kernel_reported_once_and_green() {
        let (lines, all) = code(&[("7.3", "pass"), ("5.10", "pass")]);
        assert_eq!(all, exit::OK);
        assert!(lines.ends_with("2 of 2 kernels are green"), "{lines}");
        assert_eq!(
            code(&[("5.10", "pass"), ("7.3", "fail")]).1,
            exit::UNEXPECTED
        );
        assert_eq!(
            code(&[("5.10", "fail"), ("7.3", "hang")]).1,
            exit::NO_VERDICT
        );
    }

    #[test]
    fn a_kernel_that_nobody_or_two_reported_is_red() {
        let (lines, missing) = code(&[("5.10", "pass")]);
        assert_eq!(missing, exit::NO_VERDICT);
        assert!(lines.contains("7.3: nobody reported it"), "{lines}");
        let twice = code(&[("5.10", "pass"), ("5.10", "pass"), ("7.3", "pass")]);
        assert_eq!(twice.1, exit::NO_VERDICT);
        assert_eq!(code(&[]).1, exit::NO_VERDICT);
    }

    #[test]
    fn kernels_that_disagree_on_a_case_are_not_green() {
        let other = report("7.3", "pass").replace(r#"{"pass":["#, r#"{"xfail":["#);
        let text = [report("5.10", "pass"), other].join("\n");
        let (lines, code) = judge(&read(&text).unwrap(), &["5.10", "7.3"]);
        assert_eq!(code, exit::UNEXPECTED);
        assert!(
            lines.contains(&"a::x: pass on 5.10; xfail on 7.3".to_owned()),
            "{lines:?}"
        );
    }

    #[test]
    fn what_is_no_report_is_an_error_with_its_line() {
        let text = format!(
            "{}\n{}",
            report("5.10", "pass"),
            &report("7.3", "pass")[..40]
        );
        let error = format!("{:#}", read(&text).unwrap_err());
        assert!(
            error.starts_with("line 2: no report of a matrix"),
            "{error}"
        );
    }
}

//! A finding: made as small as it gets, named by what it shows, and put where `cargo test` replays it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// How long minimising may take, seconds.
const SECONDS: u32 = 30;

/// Keeps an input; where.
pub(super) fn keep(
    root: &Path,
    target: &str,
    artifact: &Path,
    why: &str,
    program: impl Fn() -> Command,
) -> Result<PathBuf> {
    let small = artifact.with_extension("min");
    // What minimising says is that it fails, over and over.
    let _ = program()
        .arg("-minimize_crash=1")
        .arg(format!("-max_total_time={SECONDS}"))
        .arg(format!("-exact_artifact_path={}", small.display()))
        .arg(artifact)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let from = if small.is_file() { &small } else { artifact };
    let folder = root.join("fuzz/regressions").join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let name = (1..)
        .map(|number| format!("{}-{number}", slug(why)))
        .find(|name| !folder.join(name).exists())
        .context("numbers do not end")?;
    let kept = folder.join(name);
    fs::copy(from, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(kept
        .strip_prefix(root)
        .map_or(kept.clone(), Path::to_path_buf))
}

/// Words of a message, as the name of a file.
fn slug(why: &str) -> String {
    let words: Vec<String> = why
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .filter(|word| !matches!(*word, "assertion" | "failed" | "left" | "right"))
        .take(8)
        .map(str::to_ascii_lowercase)
        .collect();
    if words.is_empty() {
        "crash".into()
    } else {
        words.join("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_named_by_what_it_shows() {
        let why = "assertion `left == right` failed: cut by seed 9; left: [";
        assert_eq!(slug(why), "cut_by_seed_9");
        assert_eq!(slug("\u{1b}!"), "crash");
    }
}

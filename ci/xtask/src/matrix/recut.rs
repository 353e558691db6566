//! `cargo xtask matrix --recut` and `--differential`: the recorded cases in other packets, or conversations from a
//! seed, in the guests. What is compared there is `gauntlet recut`'s and `laws`'s; this boots, one kernel after another.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Options, Target, repro::show, say};
use crate::exit;

/// Runs them in each guest. No verdict wins over an unexpected one.
///
/// # Errors
/// When vmtest cannot be started.
pub(super) fn recut(targets: &[Target], options: &Options, limit: Duration) -> Result<u8> {
    let mut codes = Vec::new();
    for target in targets {
        let request = options.request();
        target.folder.ask(&request)?;
        let start = Instant::now();
        let seen = target.boot(limit, None)?;
        let code = show(target, seen)?;
        say(format!(
            "{}: {}: {}, {} s",
            target.name,
            request.task.name(),
            if code == exit::OK { "pass" } else { "red" },
            start.elapsed().as_secs()
        ));
        codes.push(code);
    }
    Ok(worst(&codes))
}

fn worst(codes: &[u8]) -> u8 {
    let first = |wanted: u8| codes.iter().copied().find(|code| *code == wanted);
    let other = codes.iter().copied().find(|code| *code != exit::OK);
    match codes {
        [] => exit::NO_VERDICT,
        _ => first(exit::NO_VERDICT).or(other).unwrap_or(exit::OK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn green_is_every_guest_green() {
        assert_eq!(worst(&[exit::OK, exit::OK]), exit::OK);
        assert_eq!(worst(&[exit::OK, exit::UNEXPECTED]), exit::UNEXPECTED);
        assert_eq!(
            worst(&[exit::UNEXPECTED, exit::NO_VERDICT]),
            exit::NO_VERDICT
        );
        assert_eq!(worst(&[exit::NOTHING]), exit::NOTHING);
        assert_eq!(worst(&[]), exit::NO_VERDICT);
    }
}

//! `cargo xtask matrix --recut` and `--differential`: the recorded cases in other packets, or conversations from a
//! seed, in the guests. What is compared there is `gauntlet recut`'s and `laws`'s; this boots, one kernel after another.

use std::time::{Duration, Instant};

use anyhow::Result;
use gauntlet_guest::qemu::Accelerator;

use super::{Options, Target, repro::show, say};
use crate::exit;

/// Runs them in each guest: the exit code, and why it is not green. No verdict wins over an unexpected one.
///
/// # Errors
/// When vmtest cannot be started.
pub(super) fn recut(
    targets: &[Target],
    options: &Options,
    limit: Duration,
    accelerator: Accelerator,
) -> Result<(u8, Vec<String>)> {
    let (mut codes, mut reasons) = (Vec::new(), Vec::new());
    for target in targets {
        let request = options.request();
        let start = Instant::now();
        let seen = target.ask(&request, None, limit, accelerator)?;
        let shown = show(target, seen)?;
        say(format!(
            "{}: {}: {}, {} s",
            target.name,
            request.task.name(),
            if shown.code == exit::OK {
                "pass"
            } else {
                "red"
            },
            start.elapsed().as_secs()
        ));
        codes.push(shown.code);
        let of_kernel = |reason| format!("{}: {reason}", target.name);
        reasons.extend(shown.reasons.into_iter().map(of_kernel));
    }
    Ok((worst(&codes), reasons))
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

//! What loading the programs costs a kernel: time, instructions its verifier walked, stack, machine
//! code.
//!
//! aya drops the verifier's log of a program that loads, and kernels before 5.16 say nowhere else how
//! much they verified. So the programs are loaded here once more, by the system call itself, with
//! nothing but statistics in the log. What is loaded is gone when this returns; nothing is attached.
//!
//! # Kernel
//! 5.10, and the capabilities of [`crate::load`].

use std::time::{Duration, Instant};

use aya::{Ebpf, EbpfError};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::bpf::{Attach, Program, Relocated, jited_bytes};
use crate::load::{Settings, loader};
use crate::object::Family;
use crate::{library, object};

/// What one program cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Which program.
    pub program: &'static str,
    /// How long the kernel took.
    pub took: Duration,
    /// Instructions the verifier walked.
    pub verified_instructions: Option<u64>,
    /// Stack of all frames, bytes.
    pub stack_bytes: Option<u64>,
    /// Machine code, bytes.
    pub jited_bytes: Option<u64>,
    /// Whether it goes on in another program by tail call.
    pub calls_on: bool,
    /// What this kernel allows.
    pub limits: Limits,
}

/// What a kernel allows one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instructions its verifier walks before it gives up, in the kernel's own words.
    pub verified_instructions: Option<u64>,
    /// Stack of all frames, bytes: `MAX_BPF_STACK`.
    pub stack_bytes: u64,
    /// Tail calls for one packet: `MAX_TAIL_CALL_CNT`.
    pub tail_calls: u64,
}

/// How far a program is from what a kernel allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// Instructions that its verifier could still walk.
    pub verified_instructions: Option<u64>,
    /// Bytes of stack.
    pub stack_bytes: Option<u64>,
    /// Tail calls. None for a program that goes on by tail call: it does so as often as the packet has
    /// records, to the kernel's limit, and counts what is beyond (`steps_exhausted`).
    pub tail_calls: u64,
}

impl Cost {
    /// What is left.
    #[must_use]
    pub fn headroom(&self) -> Headroom {
        let left = |limit: u64, used: u64| limit.saturating_sub(used);
        let limits = self.limits;
        Headroom {
            verified_instructions: limits
                .verified_instructions
                .zip(self.verified_instructions)
                .map(|(limit, used)| left(limit, used)),
            stack_bytes: self.stack_bytes.map(|used| left(limits.stack_bytes, used)),
            tail_calls: if self.calls_on { 0 } else { limits.tail_calls },
        }
    }
}

/// A kernel that refused a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which program.
    pub program: &'static str,
    /// What the verifier said; without the source's lines.
    pub log: String,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The kernel refused the maps, or the object is damaged.
    #[error("the BPF object cannot be loaded: {0}")]
    Object(#[from] EbpfError),
    /// The object cannot be made ready for the kernel.
    #[error("the BPF object is damaged: {0}")]
    Damaged(String),
}

/// Loads each program, measures, and lets it go.
///
/// # Errors
/// [`CostError`]; a program that is refused is no error of the measurement.
pub fn measure(settings: &Settings) -> Result<Vec<Result<Cost, Refused>>, CostError> {
    let mut costs = of_object(object::OBJECT, settings, object::INTERFACE)?;
    if settings.capture_time {
        // There is no cgroup in a capture, and no library.
        return Ok(costs);
    }
    costs.extend(of_object(object::OBJECT, settings, object::CGROUP)?);
    // Where the kernel does not say where it keeps a socket's fields, the programs are verified alike.
    let kernel = library::object::Kernel::running().unwrap_or_default();
    let maps = library::object::loader(&kernel.layout).load(library::object::OBJECT)?;
    let probes = all_of(library::object::OBJECT, &maps, library::object::programs())?;
    costs.push(together(LIBRARY, probes));
    Ok(costs)
}

/// The same of one family of an object, an ELF file's bytes; with maps of its own: the table of the tail call
/// takes programs of one kind.
///
/// # Errors
/// As [`measure`].
pub fn of_object(
    object: &[u8],
    settings: &Settings,
    family: Family,
) -> Result<Vec<Result<Cost, Refused>>, CostError> {
    // Before 5.11 maps count against the limit.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let maps = loader(settings).load(object)?;
    all_of(object, &maps, family.all())
}

/// What the probes for libraries are called together: two dozen, none of which is used without the others.
const LIBRARY: &str = "gauntlet_library";

/// Many programs as one: the time and the code of all, the instructions and the stack of the largest.
fn together(name: &'static str, parts: Vec<Result<Cost, Refused>>) -> Result<Cost, Refused> {
    let most = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
    let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
    let mut parts = parts.into_iter().map(|part| {
        part.map_err(|refused| Refused {
            program: name,
            log: format!("{}:\n{}", refused.program, refused.log),
        })
    });
    let nothing = || Refused {
        program: name,
        log: "it has no programs".into(),
    };
    let mut whole = parts.next().ok_or_else(nothing)??;
    whole.program = name;
    for part in parts {
        let part = part?;
        whole.took += part.took;
        whole.verified_instructions = most(whole.verified_instructions, part.verified_instructions);
        whole.stack_bytes = most(whole.stack_bytes, part.stack_bytes);
        whole.jited_bytes = sum(whole.jited_bytes, part.jited_bytes);
        whole.calls_on |= part.calls_on;
    }
    Ok(whole)
}

/// The costs of an object's programs.
fn all_of(
    object: &[u8],
    maps: &Ebpf,
    programs: impl IntoIterator<Item = &'static str>,
) -> Result<Vec<Result<Cost, Refused>>, CostError> {
    let relocated = Relocated::new(object, maps).map_err(CostError::Damaged)?;
    let cost = |name| {
        let program = relocated.program(name);
        let program = program.ok_or_else(|| CostError::Damaged(format!("it has no {name}")))?;
        Ok(load(name, &program))
    };
    programs.into_iter().map(cost).collect()
}

fn load(program: &'static str, what: &Program<'_>) -> Result<Cost, Refused> {
    let start = Instant::now();
    let (loaded, log) = what.load(Attach::Any);
    let took = start.elapsed();
    match loaded {
        Err(error) => Err(Refused {
            program,
            log: format!("{log}{error}\n"),
        }),
        Ok(loaded) => Ok(Cost {
            program,
            took,
            verified_instructions: verified_instructions(&log),
            stack_bytes: stack_bytes(&log),
            jited_bytes: jited_bytes(&loaded),
            calls_on: what.calls_on(),
            limits: Limits {
                verified_instructions: verified_limit(&log),
                stack_bytes: MAX_BPF_STACK,
                tail_calls: MAX_TAIL_CALL_CNT,
            },
        }),
    }
}

/// `processed 44796 insns (limit 1000000) max_states_per_insn 4 ...`
fn verified_instructions(log: &str) -> Option<u64> {
    let line = log
        .lines()
        .find_map(|line| line.strip_prefix("processed "))?;
    line.split_once(" insns")?.0.parse().ok()
}

/// The limit in the same line.
fn verified_limit(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.starts_with("processed "))?;
    let (_, rest) = line.split_once("(limit ")?;
    rest.split_once(')')?.0.parse().ok()
}

/// `stack depth 152+24`, one number for each function; since 7.2 `stack depth max 176`.
fn stack_bytes(log: &str) -> Option<u64> {
    let said = log
        .lines()
        .find_map(|line| line.strip_prefix("stack depth "))?;
    let frames = said.strip_prefix("max ").unwrap_or(said).trim();
    frames
        .split('+')
        .map(|frame| frame.parse::<u64>().ok())
        .sum()
}

// include/linux/filter.h and include/linux/bpf.h; 33 calls are what 5.10, which says 32, allows too.
const MAX_BPF_STACK: u64 = 512;
const MAX_TAIL_CALL_CNT: u64 = 33;

#[cfg(test)]
mod tests {
    use super::*;

    /// As 6.1 writes it.
    const LOG: &str = "verification time 61230 usec\nstack depth 152+24\n\
        processed 44796 insns (limit 1000000) max_states_per_insn 4 total_states 1019 peak_states 204 mark_read 9\n";

    #[test]
    fn numbers_are_read_from_the_verifiers_statistics() {
        assert_eq!(verified_instructions(LOG), Some(44_796));
        assert_eq!(verified_limit(LOG), Some(1_000_000));
        assert_eq!(stack_bytes(LOG), Some(176));
        assert_eq!(stack_bytes("stack depth 0\n"), Some(0));
        assert_eq!(stack_bytes("stack depth max 112\n"), Some(112));
    }

    #[test]
    fn many_programs_cost_together_what_they_cost() {
        let part = |milliseconds, verified, stack, code| {
            Ok(Cost {
                program: "one",
                took: Duration::from_millis(milliseconds),
                verified_instructions: verified,
                stack_bytes: Some(stack),
                jited_bytes: Some(code),
                calls_on: false,
                limits: Limits {
                    verified_instructions: Some(1_000_000),
                    stack_bytes: MAX_BPF_STACK,
                    tail_calls: MAX_TAIL_CALL_CNT,
                },
            })
        };
        let whole = together(
            "all",
            vec![part(1, Some(20), 8, 100), part(2, Some(30), 4, 50)],
        );
        let whole = whole.expect("none was refused");
        assert_eq!(
            (whole.program, whole.took),
            ("all", Duration::from_millis(3))
        );
        assert_eq!(whole.verified_instructions, Some(30));
        assert_eq!((whole.stack_bytes, whole.jited_bytes), (Some(8), Some(150)));
        // One number that is not known makes the whole's unknown.
        let unknown = together("all", vec![part(1, None, 8, 100), part(2, Some(30), 4, 50)]);
        assert_eq!(unknown.map(|cost| cost.verified_instructions), Ok(None));
        let refused = Err(Refused {
            program: "one",
            log: "why".into(),
        });
        let refusal = together("all", vec![part(1, None, 8, 100), refused]).expect_err("refused");
        assert_eq!(
            (refusal.program, refusal.log.as_str()),
            ("all", "one:\nwhy")
        );
    }

    #[test]
    fn a_log_that_says_nothing_gives_no_numbers() {
        assert_eq!(verified_instructions("func#0 @0\n"), None);
        assert_eq!(verified_limit("processed 7 insns\n"), None);
        assert_eq!(stack_bytes(""), None);
    }

    #[test]
    fn headroom_is_what_is_left_and_unknown_where_the_use_is() {
        let cost = Cost {
            program: "x",
            took: Duration::ZERO,
            verified_instructions: Some(120_000),
            stack_bytes: None,
            jited_bytes: None,
            calls_on: true,
            limits: Limits {
                verified_instructions: Some(1_000_000),
                stack_bytes: MAX_BPF_STACK,
                tail_calls: MAX_TAIL_CALL_CNT,
            },
        };
        let left = cost.headroom();
        assert_eq!(left.verified_instructions, Some(880_000));
        assert_eq!((left.stack_bytes, left.tail_calls), (None, 0));
        let alone = Cost {
            calls_on: false,
            stack_bytes: Some(500),
            ..cost
        };
        let left = alone.headroom();
        assert_eq!((left.stack_bytes, left.tail_calls), (Some(12), 33));
    }
}

//! How much of each program was run, and the lines of what was not. Refuses to run anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::{Line, Measured, Run};

/// Percent of all programs' reachable instructions that must be run. Two seeds gave 71.0, the same to a twentieth.
///
/// It is far from all, since the same source is compiled into several programs and several times into one: for packets
/// whose headers the kernel does not keep in one piece, which BPF_PROG_TEST_RUN does not make; for what follows
/// another seventeen fields of one packet; for maps without a slot, which there never are.
const ALL: f64 = 69.0;
/// Percent of each one's: `gauntlet_more` has the least, 51.2 and 51.6, since few packets have so many fields.
const EACH: f64 = 48.0;
/// Percent of the lines that can be reached of which some program must run something: 97.2 with either seed.
const LINES: f64 = 96.5;
/// Percent of all instructions that may be in blocks without a mark, of which nothing is known.
const UNMEASURED: f64 = 1.0;

/// Instructions of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Total {
    /// That the verifier takes out wherever it was loaded.
    removed: u32,
    /// In blocks without a mark.
    unmeasured: u32,
    reachable: u32,
    by_corpus: u32,
    by_all: u32,
}

/// Instructions of a line that can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfLine {
    reachable: u32,
    /// By program.
    missed: BTreeMap<String, u32>,
    unmeasured: BTreeMap<String, u32>,
}

impl OfLine {
    /// Whether some program ran some of it.
    fn is_run(&self) -> bool {
        self.missed.values().sum::<u32>() < self.reachable
    }
}

/// A line, its instructions that can be reached, and those of each program that were not.
type Missed<'r> = (&'r Line, u32, &'r BTreeMap<String, u32>);

/// What was run, and what was not.
#[derive(Debug, Clone, Default)]
pub struct Report {
    programs: BTreeMap<String, Total>,
    lines: BTreeMap<Line, OfLine>,
    /// Where files are told from.
    root: String,
}

impl Report {
    /// Of a run of these blocks; lines are told of files below `root`.
    #[must_use]
    pub fn new(blocks: &[Measured], run: &Run, root: &Path) -> Self {
        let mut report = Self {
            root: format!("{}/", root.display()),
            ..Self::default()
        };
        for (number, block) in blocks.iter().enumerate() {
            let total = report.programs.entry(block.function.clone()).or_default();
            let many = block.instructions();
            let is_reachable = run.reachable.has(number);
            let is_missed = is_reachable && !run.by_all.has(number);
            if !block.has_mark {
                total.unmeasured += many;
            } else if is_reachable {
                total.reachable += many;
                total.by_corpus += if run.by_corpus.has(number) { many } else { 0 };
                total.by_all += if is_missed { 0 } else { many };
            } else {
                total.removed += many;
            }
            for (line, many) in &block.lines {
                let of_line = report.lines.entry(line.clone()).or_default();
                of_line.reachable += if is_reachable { *many } else { 0 };
                let to = match (block.has_mark, is_missed) {
                    (false, _) => &mut of_line.unmeasured,
                    (true, true) => &mut of_line.missed,
                    (true, false) => continue,
                };
                *to.entry(block.function.clone()).or_default() += many;
            }
        }
        report
    }

    /// What is below a floor, each in words.
    #[must_use]
    pub fn below(&self) -> Vec<String> {
        let all = self.all();
        let mut below = Vec::new();
        if all.percent(all.by_all) < ALL {
            below.push(format!("all programs are below {ALL} %"));
        }
        for (program, total) in &self.programs {
            // The verifier takes out all of a function that nothing can call.
            if total.reachable > 0 && total.percent(total.by_all) < EACH {
                below.push(format!("{program} is below {EACH} %"));
            }
        }
        let (run, lines) = self.lines_run();
        if percent(run as u32, lines as u32) < LINES {
            below.push(format!("lines run by some program are below {LINES} %"));
        }
        let whole = all.removed + all.unmeasured + all.reachable;
        if percent(all.unmeasured, whole) > UNMEASURED {
            below.push(format!("more than {UNMEASURED} % have no mark"));
        }
        below
    }

    /// Lines of which something was not run, with how many instructions they have that can be reached and how many
    /// of each program were not: of those that no program ran any of first, then of the rest, then without marks.
    fn missed(&self) -> [(&'static str, Vec<Missed<'_>>); 3] {
        let lines = |of: fn(&OfLine) -> Option<&BTreeMap<String, u32>>| {
            let found = self
                .lines
                .iter()
                .filter_map(move |(line, of_line)| Some((line, of_line.reachable, of(of_line)?)));
            found.collect()
        };
        [
            (
                "missed in all",
                lines(|line| (!line.missed.is_empty() && !line.is_run()).then_some(&line.missed)),
            ),
            (
                "missed in some",
                lines(|line| (!line.missed.is_empty() && line.is_run()).then_some(&line.missed)),
            ),
            (
                "not measured",
                lines(|line| (!line.unmeasured.is_empty()).then_some(&line.unmeasured)),
            ),
        ]
    }

    /// How many lines were run by some program, and of how many.
    fn lines_run(&self) -> (usize, usize) {
        let reachable = self.lines.values().filter(|line| line.reachable > 0);
        let run = reachable.clone().filter(|line| line.is_run()).count();
        (run, reachable.count())
    }

    fn all(&self) -> Total {
        let add = |one: Total, other: &Total| Total {
            removed: one.removed + other.removed,
            unmeasured: one.unmeasured + other.unmeasured,
            reachable: one.reachable + other.reachable,
            by_corpus: one.by_corpus + other.by_corpus,
            by_all: one.by_all + other.by_all,
        };
        self.programs.values().fold(Total::default(), add)
    }

    /// A file's name without what is this machine's.
    fn short<'f>(&self, file: &'f str) -> &'f str {
        if let Some(ours) = file.strip_prefix(&self.root) {
            return ours;
        }
        let behind = |mark: &str| file.split_once(mark).map(|(_, behind)| behind);
        let of_crate = behind("/registry/src/").and_then(|rest| rest.split_once('/'));
        let of_crate = of_crate.map(|(_, rest)| rest);
        of_crate
            .or_else(|| behind("/rust/library/"))
            .unwrap_or(file)
    }
}

impl Total {
    fn percent(&self, run: u32) -> f64 {
        percent(run, self.reachable)
    }
}

/// Of nothing, nothing was run.
fn percent(part: u32, whole: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(whole.max(1))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, lines) in self.missed() {
            for (line, of, programs) in lines {
                let file = self.short(&line.file);
                let many: u32 = programs.values().sum();
                let by: Vec<_> = programs
                    .iter()
                    .map(|(name, many)| format!("{name} {many}"))
                    .collect();
                let (number, by) = (line.number, by.join(", "));
                writeln!(
                    f,
                    "{kind}: {file}:{number}: {many} of {of} instructions: {by}"
                )?;
            }
        }
        let (run, lines) = self.lines_run();
        writeln!(
            f,
            "{run} of {lines} lines that can be reached ({:.2} %) are run by some program, at least in part",
            percent(run as u32, lines as u32)
        )?;
        writeln!(
            f,
            "{:16} {:>9} {:>9} {:>7} {:>9} {:>7} {:>8} {:>12}",
            "program", "reachable", "by corpus", "%", "by all", "%", "removed", "not measured"
        )?;
        let all = ("together".to_owned(), self.all());
        for (name, total) in self
            .programs
            .iter()
            .map(|(name, total)| (name.clone(), *total))
            .chain([all])
        {
            writeln!(
                f,
                "{name:16} {:>9} {:>9} {:>7.2} {:>9} {:>7.2} {:>8} {:>12}",
                total.reachable,
                total.by_corpus,
                total.percent(total.by_corpus),
                total.by_all,
                total.percent(total.by_all),
                total.removed,
                total.unmeasured
            )?;
        }
        Ok(())
    }
}

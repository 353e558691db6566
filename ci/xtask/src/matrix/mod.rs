//! `cargo xtask matrix`: the conformance suite on stock kernels, in virtual machines.
//!
//! Data flows one way: [`package`] (which) → [`mirror`] (fetch) → [`kernel`] (keep what is needed) →
//! [`folder`] (ready to boot) → [`vm`] (vmtest, with a limit) → [`results`] and [`console`] (what came
//! back) → [`verdict`] → [`report`]. Nothing is green that did not run: a verdict needs a whole result
//! with its end marker, and a kernel that had nothing to complain of.
//!
//! Runs kernels one after another: a guest keeps both cores of a small machine busy.

use std::{
    fs,
    io::{IsTerminal, Write, stdin, stdout},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use gauntlet_guest::qemu::Accelerator;

mod accelerator;
mod attempt;
mod bench;
mod build;
mod collect;
mod console;
mod cpio;
#[cfg(test)]
mod doctored;
mod faults;
mod folder;
mod gate;
mod instead;
mod kernel;
mod library;
mod mirror;
mod options;
mod package;
mod recut;
mod refusal;
mod report;
mod repro;
mod results;
mod series;
mod support;
mod targets;
mod terminal;
mod verdict;
mod vm;

use folder::Folder;
use kernel::Kernel;
use options::Format;
use report::Run;
use results::Results;
use verdict::{Judgement, Seen, Verdict};

pub(crate) use bench::bench;
pub(crate) use gate::{Ending, faults_gate, gate, recut_gate};
pub(crate) use instead::instead;
pub(crate) use options::Options;

use crate::{child, exit, paths, setup};

/// A kernel that is to be run.
struct Target {
    name: String,
    folder: Folder,
    configuration: PathBuf,
    /// Image and modules, as they were named, of a kernel of one's own.
    own: Option<(PathBuf, PathBuf)>,
}

impl Target {
    /// Boots it and runs what was asked for, to its end or the limit's; at a terminal, where there is one.
    fn boot(
        &self,
        limit: impl Into<vm::Limit>,
        terminal: Option<&terminal::Terminal>,
    ) -> Result<Seen> {
        vm::run(
            &self.name,
            &self.folder,
            &self.configuration,
            limit,
            terminal,
        )
    }

    /// The arguments that name this kernel once more.
    fn again(&self) -> String {
        match &self.own {
            None => format!(" --kernel {}", self.name),
            Some((image, modules)) => format!(
                " --kernel-image {} --modules {}",
                image.display(),
                modules.display()
            ),
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    if options.targets {
        print!("{}", targets::checked_in());
        return Ok(exit::OK);
    }
    if options.table {
        let table = support::Table::read()?;
        print!("{}\n{}", table.markdown(), table.costs());
        return Ok(exit::OK);
    }
    if (options.format == Format::Json) != (options.list && options.format != Format::Human) {
        eprintln!("xtask: --format json is for --list, ndjson for a run");
        return Ok(exit::USAGE);
    }
    let selected = match series::select(&options.kernel, options.shard) {
        Ok(selected) => selected,
        Err(line) => {
            eprintln!("xtask: {line}");
            return Ok(exit::USAGE);
        }
    };
    let names: Vec<&str> = selected.iter().map(|series| series.name).collect();
    if options.list {
        match options.format {
            Format::Json => println!("{}", serde_json::to_string(&names)?),
            _ => names.iter().for_each(|name| println!("{name}")),
        }
        return Ok(exit::OK);
    }
    if names.is_empty() {
        eprintln!("xtask: this shard has no kernel");
        return Ok(exit::NOTHING);
    }
    if let Some(folder) = &options.collect {
        return collect::collect(folder, &names);
    }
    if options.repro.is_some() && options.kernel_image.is_none() && names.len() != 1 {
        eprintln!(
            "xtask: --repro is for one kernel; name it with --kernel, or with --kernel-image and --modules"
        );
        return Ok(exit::USAGE);
    }
    if options.keep && !(stdin().is_terminal() && stdout().is_terminal()) {
        eprintln!(
            "xtask: --keep opens a shell in the guest, which needs a terminal, and here is none"
        );
        return Ok(exit::NO_VERDICT);
    }
    let runs = match runs(options, &selected)? {
        Ended::Early(code, _) => return Ok(code),
        Ended::Ran(runs) => runs,
    };
    let disagreements = verdict::disagreements(&runs);
    publish(options, &runs, &disagreements)?;
    Ok(exit_code(&runs, &disagreements))
}

/// How far it came.
enum Ended {
    /// Without a run of the suite: this is the exit code. Whoever has to know was told; the reasons are for a place
    /// further down, where the log is read first.
    Early(u8, Vec<String>),
    Ran(Vec<Run>),
}

impl Ended {
    fn early(code: u8) -> Self {
        Self::Early(code, Vec::new())
    }
}

/// Builds, fetches, boots and judges.
fn runs(options: &Options, selected: &[&series::Series]) -> Result<Ended> {
    let scope = match options.prebuilt {
        None => setup::Scope::Vm,
        Some(_) => setup::Scope::Boot,
    };
    if let Some(code) = setup::blocked(scope)? {
        let why = "this machine lacks what kernels are booted with; see above";
        return Ok(Ended::Early(code, vec![why.into()]));
    }
    let _one_matrix_at_a_time = folder::lock()?;
    let Some(bin) = programs(options)? else {
        let why = "gauntlet does not build, so nothing was run";
        eprintln!("xtask: {why}");
        return Ok(Ended::Early(exit::NO_VERDICT, vec![why.into()]));
    };
    if options.build {
        say(format!("built into {}", bin.display()));
        return Ok(Ended::early(exit::OK));
    }
    // A selection without cases is not worth a boot.
    let mut list = child::command(bin.join("gauntlet"));
    list.arg("list")
        .args(options.selection())
        .current_dir(paths::repo_root());
    let listed = child::output(&mut list)?;
    if !listed.status.success() {
        let complaint = String::from_utf8_lossy(&listed.stderr);
        eprint!("{complaint}");
        let code = listed.status.code().and_then(|code| code.try_into().ok());
        let last = complaint.lines().last().map(String::from);
        return Ok(Ended::Early(
            code.unwrap_or(exit::NO_VERDICT),
            last.into_iter().collect(),
        ));
    }
    let (targets, mut runs) = prepare(options, selected, &bin)?;
    if options.prepare {
        report_missing(&runs);
        if let Some(first) = targets.first() {
            accelerator::find(&first.folder)?;
        }
        let ready: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        say(format!("ready for vmtest: {}", ready.join(", ")));
        return Ok(Ended::early(if runs.is_empty() {
            exit::OK
        } else {
            exit::NO_VERDICT
        }));
    }
    if let Some(first) = targets.first() {
        let accelerator = accelerator::find(&first.folder)?;
        let limit = options
            .time_limit
            .map_or_else(|| vm::limit(accelerator), Duration::from_secs);
        say(format!(
            "accelerator: {}; a kernel may take {} s",
            accelerator.name(),
            limit.as_secs()
        ));
        if options.faults {
            let wrong = faults::check(first, accelerator)?;
            for line in &wrong {
                eprintln!("xtask: {line}");
            }
            let code = if wrong.is_empty() {
                exit::OK
            } else {
                exit::UNEXPECTED
            };
            return Ok(Ended::Early(code, wrong));
        }
        if options.recut.is_some() || options.differential.is_some() {
            // A kernel that could not be had is as red as one that fails.
            let (mut code, mut reasons) = recut::recut(&targets, options, limit, accelerator)?;
            if !runs.is_empty() {
                code = exit::NO_VERDICT;
                reasons.extend(report_missing(&runs));
            }
            return Ok(Ended::Early(code, reasons));
        }
        if options.repro.is_some() {
            return repro::repro(first, options, limit, accelerator).map(Ended::early);
        }
        let table = support::Table::read()?;
        for target in &targets {
            runs.push(one(target, options, accelerator, limit, &table)?);
        }
    }
    runs.sort_by_key(|run| selected.iter().position(|series| series.name == run.kernel));
    Ok(Ended::Ran(runs))
}

/// Says what could not be booted, and why; a line each.
fn report_missing(runs: &[Run]) -> Vec<String> {
    let reasons = runs.iter().map(|run| {
        let why = run.judgement.reasons.join("; ");
        format!("{}: {why}", run.kernel)
    });
    let reasons: Vec<String> = reasons.collect();
    for line in &reasons {
        eprintln!("xtask: {line}");
    }
    reasons
}

/// The folder of what is run in the guests. `None` when something does not build.
fn programs(options: &Options) -> Result<Option<PathBuf>> {
    if let Some(folder) = &options.prebuilt {
        return build::prebuilt(folder).map(Some);
    }
    let Some(bin) = build::build()? else {
        return Ok(None);
    };
    if options.faults && build::refused()?.is_none()
        || options.differential.is_some() && !build::differential()?
    {
        return Ok(None);
    }
    Ok(Some(bin))
}

/// What can be booted, and for what cannot, why.
fn prepare(
    options: &Options,
    selected: &[&series::Series],
    bin: &Path,
) -> Result<(Vec<Target>, Vec<Run>)> {
    let init = bin.join("gauntlet-init");
    if let (Some(image), Some(modules)) = (&options.kernel_image, &options.modules) {
        return Ok((vec![own(image, modules, &init)?], Vec::new()));
    }
    let library = library::Library::open(&paths::cache_dir()?, options.prepare);
    let (mut targets, mut runs) = (Vec::new(), Vec::new());
    for series in selected {
        let folder = Folder::of(series.name);
        match library
            .kernel(series)
            .and_then(|kernel| folder.fill(&kernel, &init))
        {
            Ok(()) => targets.push(Target {
                name: series.name.into(),
                folder,
                configuration: paths::repo_root().join("vmtest.toml"),
                own: None,
            }),
            Err(error) => runs.push(Run {
                kernel: series.name.into(),
                accelerator: Accelerator::Tcg,
                judgement: Judgement {
                    verdict: Verdict::Infra,
                    // One line, whatever came before it.
                    reasons: vec![format!("{error:#}").replace('\n', " ")],
                },
                results: None,
                took: Duration::ZERO,
            }),
        }
    }
    Ok((targets, runs))
}

/// A kernel that nobody packaged, under a name that is no series.
fn own(image: &Path, modules: &Path, init: &Path) -> Result<Target> {
    const NAME: &str = "own";
    let folder = Folder::of(NAME);
    let kept = Kernel::keep(modules, image, &folder.path().join("kernel"))?;
    folder.fill(&kept, init)?;
    let configuration = folder.path().join("vmtest.toml");
    fs::write(&configuration, targets::own(NAME, &folder::root()))
        .with_context(|| format!("cannot write {}", configuration.display()))?;
    Ok(Target {
        name: NAME.into(),
        folder,
        configuration,
        own: Some((image.into(), modules.into())),
    })
}

fn one(
    target: &Target,
    options: &Options,
    accelerator: Accelerator,
    limit: Duration,
    table: &support::Table,
) -> Result<Run> {
    let start = Instant::now();
    let seen = target.ask(&options.request(), None, limit, accelerator)?;
    let judgement = judge(target, &seen, table)?;
    let results = seen.results.as_ref().ok();
    let took = start.elapsed();
    if let Some(case) = results.and_then(Results::first_red) {
        say(format!(
            "again: gauntlet repro {} --seed {}{}",
            case.id,
            options.seed,
            target.again()
        ));
    }
    for case in results.iter().flat_map(|results| &results.cases) {
        if let Some(first) = &case.first_attempt {
            say(format!("{}: run again: {}: {first}", target.name, case.id));
        }
    }
    say(format!(
        "{}: {}, {} s",
        target.name,
        judgement.verdict.name(),
        took.as_secs()
    ));
    for reason in &judgement.reasons {
        say(format!("{}: {reason}", target.name));
    }
    Ok(Run {
        kernel: target.name.clone(),
        accelerator,
        judgement,
        results: seen.results.ok(),
        took,
    })
}

/// Judges a run; what the kernel refused is kept.
fn judge(target: &Target, seen: &Seen, table: &support::Table) -> Result<Judgement> {
    let results = seen.results.as_ref().ok();
    let mut differences = results.map_or_else(Vec::new, |results| {
        verdict::differences(&target.name, results, table)
    });
    differences.extend(refusal::keep(&target.name, &target.folder, results)?);
    Ok(verdict::judge(seen, &differences))
}

fn publish(options: &Options, runs: &[Run], disagreements: &[String]) -> Result<()> {
    let text = match options.format {
        Format::Ndjson => report::ndjson(runs),
        _ => report::human(runs),
    };
    let mut out = stdout().lock();
    write!(out, "{text}")?;
    out.flush()?;
    for line in disagreements {
        eprintln!("xtask: {line}");
    }
    if let Some(path) = &options.junit {
        fs::write(path, report::junit(runs))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.summary {
        let append = fs::File::options().create(true).append(true).open(path);
        append
            .and_then(|mut file| file.write_all(report::markdown(runs).as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// No verdict wins over an unexpected one.
fn exit_code(runs: &[Run], disagreements: &[String]) -> u8 {
    let any = |wanted: &[Verdict]| {
        runs.iter()
            .any(|run| wanted.contains(&run.judgement.verdict))
    };
    if runs.is_empty() || any(&[Verdict::Hang, Verdict::Infra]) {
        exit::NO_VERDICT
    } else if any(&[Verdict::Fail]) || !disagreements.is_empty() {
        exit::UNEXPECTED
    } else {
        exit::OK
    }
}

fn say(line: impl AsRef<str>) {
    eprintln!("matrix: {}", line.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(verdict: Verdict) -> Run {
        Run {
            kernel: "5.10".into(),
            accelerator: Accelerator::Tcg,
            judgement: Judgement {
                verdict,
                reasons: Vec::new(),
            },
            results: None,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn no_verdict_wins_and_nothing_run_is_none() {
        let code = |verdicts: &[Verdict]| {
            exit_code(&verdicts.iter().copied().map(run).collect::<Vec<_>>(), &[])
        };
        assert_eq!(code(&[Verdict::Pass]), exit::OK);
        assert_eq!(code(&[Verdict::Pass, Verdict::Fail]), exit::UNEXPECTED);
        assert_eq!(code(&[Verdict::Fail, Verdict::Hang]), exit::NO_VERDICT);
        assert_eq!(code(&[Verdict::Infra, Verdict::Pass]), exit::NO_VERDICT);
        assert_eq!(code(&[]), exit::NO_VERDICT);
        assert_eq!(
            exit_code(&[run(Verdict::Pass)], &["differs".into()]),
            exit::UNEXPECTED
        );
    }
}

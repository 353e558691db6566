//! The harness judged: probes that are wrong on purpose, input that is wrong on purpose, and the exit
//! code of each.
//!
//! A suite that nobody can fail proves nothing. `--probe null` must fail every failing case and pass
//! every silent one; `--probe always:CLASS` must fail every case that is not of its class.

mod gate;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gate::Gate;
use gauntlet_harness::probe::{Program, Spec, stall_after};
use gauntlet_harness::run::lacks;
use gauntlet_harness::scenario;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

type Checked = Result<(), Failed>;

fn main() -> ExitCode {
    let mut gate = Gate::default();
    let mut trials = broken_files(&mut gate);
    let no_lane = gate::no_lane();
    let mut trial = |name: &str, test: fn() -> Checked| {
        // Reading input takes no privilege; running cases does.
        let obstacle = no_lane.as_deref().filter(|_| name.starts_with("run::"));
        trials.push(gate.trial(name, obstacle, test));
    };
    trial(
        "input::every_broken_file_is_listed",
        every_broken_file_is_listed,
    );
    trial(
        "input::duplicate_ids_are_refused",
        duplicate_ids_are_refused,
    );
    trial("input::an_unused_deviation_is_an_error", unused_deviation);
    trial("input::bad_usage_is_64", bad_usage_is_64);
    trial(
        "input::another_kernel_needs_the_repository",
        a_kernel_elsewhere,
    );
    trial("input::an_empty_selection_is_3", empty_selection_is_3);
    trial("input::explain_knows_classes_alerts_and_cases", explain);
    trial("run::can_be_read_back_by_report", report_reads_a_run_back);
    trial("run::nobody_is_told_what_is_missing", nobody_is_told);
    trial(
        "run::null_fails_every_failure_and_passes_every_silence",
        null,
    );
    trial("run::always_syscall_fails_every_foreign_case", || {
        always("SSL_ERROR_SYSCALL")
    });
    trial("run::always_unknown_ca_fails_every_foreign_case", || {
        always("SSL_R_TLSV1_ALERT_UNKNOWN_CA")
    });
    trial("run::probes_that_cannot_be_asked_are_infra", bad_probes);
    trial("run::a_failing_case_leaves_its_artifacts", artifacts);
    trial("run::paths_that_cannot_be_written_are_2", unwritable);
    trial("run::a_full_disk_is_one_line_and_2", full_disk);
    trial("run::ctrl_c_ends_it_with_one_line", ctrl_c);
    trial("run::a_probe_dies_with_the_harness", killed);
    trial("run::a_pipeline_dies_with_the_harness", killed_pipeline);
    trial("run::a_deviation_is_xfail_and_its_end_xpass", deviations);
    let not_built = || Some(Spec::Shipped.program().err()?.to_string());
    let obstacle = no_lane.clone().or_else(not_built);
    let name = "run::two_runs_at_once_do_not_meet";
    trials.push(gate.trial(name, obstacle.as_deref(), two_at_once));
    let name = "run::a_case_during_which_the_machine_stood_still_is_run_again";
    trials.push(gate.trial(name, obstacle.as_deref(), stood_still));
    let name = "run::a_probe_that_hears_no_library_fails_where_one_speaks";
    trials.push(gate.trial(name, obstacle.as_deref(), hears_no_library));
    let arguments = Arguments::from_args();
    if !arguments.list {
        gate.tell();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Where runs keep what failed on purpose, unless a test looks at it.
const SHELF: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/self_check");

/// Cases that take no time, one failing and one silent.
const FAILING: &str = "unknown_ca::tls1_2::client_rejects::rustls::ipv4";
const SILENT: &str = "unknown_ca::tls1_2::client_rejects::rustls::ipv4::near_miss";

fn gauntlet(arguments: &[&str]) -> Output {
    command(arguments).output().expect("gauntlet is built")
}

/// `gauntlet run`, NDJSON, with what fails on purpose kept out of the way.
fn run(probe: &str, arguments: &[&str]) -> Output {
    let mut all = vec![
        "run",
        "--probe",
        probe,
        "--format",
        "ndjson",
        "--artifacts",
        SHELF,
    ];
    all.extend(arguments);
    gauntlet(&all)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("NO_COLOR", "1")
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check(holds: bool, what: impl Into<String>) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(what.into().into())
    }
}

/// The exit code, and a line of stderr that is there.
fn ends(output: &Output, code: i32, line: &str) -> Checked {
    let said = stderr(output);
    check(
        output.status.code() == Some(code) && said.contains(line),
        format!("meant: {code} and {line:?}\nwas: {}\n{said}", output.status),
    )
}

/// An empty folder of its own for a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        // From an earlier run with the same process id, if there was one.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the target folder can be written");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("the target folder can be written");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Only rubbish would be left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The cases of a run's NDJSON.
fn reports(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .filter(|record: &Value| record["type"] == "case")
        .collect()
}

/// Each file in `tests/broken` begins with the line that it must give: `#! LINE: FIELD: what is wrong`.
fn broken_files(gate: &mut Gate) -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let entries = fs::read_dir(folder).expect("tests/broken is there");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let title = format!("input::broken::{name}");
            gate.trial(title, None, move || broken_file(&name, &file))
        })
        .collect()
}

fn broken_file(name: &str, file: &Path) -> Checked {
    let text = fs::read_to_string(file)?;
    let wanted = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("#! "));
    let wanted = wanted.ok_or("the first line does not say what is expected")?;
    let scratch = Scratch::new(name);
    scratch.write("x.toml", &text);
    let folder = scratch.0.display().to_string();
    let output = gauntlet(&["run", "--scenarios", &folder]);
    let said = stderr(&output);
    check(
        output.status.code() == Some(64),
        format!("{}\n{said}", output.status),
    )?;
    check(output.stdout.is_empty(), "something ran")?;
    let line = format!("gauntlet: {folder}/x.toml:{wanted}");
    check(
        said.lines().count() == 1 && said.starts_with(&line),
        format!("meant: {line}\nwas:   {said}"),
    )
}

fn every_broken_file_is_listed() -> Checked {
    let scratch = Scratch::new("listed");
    scratch.write("a.toml", "claim = 1");
    scratch.write("b.toml", "tls = []");
    scratch.write("known-deviations.toml", "\"x\" = 7");
    let folder = scratch.0.display().to_string();
    let output = gauntlet(&["list", "--scenarios", &folder]);
    for file in ["a.toml:1: ", "b.toml:1: ", "known-deviations.toml:1: "] {
        ends(&output, 64, file)?;
    }
    check(stderr(&output).lines().count() == 3, stderr(&output))
}

const HEALTHY: &str = r#"
claim = "c"
cause = "c"
why = "w"
class = "none"
side = "nobody_fails"
tls = ["1.2"]
witness = { client = "ok", server = "ok", wire = [] }
"#;

fn duplicate_ids_are_refused() -> Checked {
    let scratch = Scratch::new("duplicates");
    scratch.write("a.toml", HEALTHY);
    scratch.write("b.toml", HEALTHY);
    let folder = scratch.0.display().to_string();
    let output = gauntlet(&["list", "--scenarios", &folder]);
    ends(
        &output,
        64,
        "b.toml:1: variant: case id none::tls1_2::nobody_fails::rustls::ipv4 is made by a.toml too",
    )
}

fn unused_deviation() -> Checked {
    let scratch = Scratch::new("unused");
    scratch.write("a.toml", HEALTHY);
    scratch.write(
        "known-deviations.toml",
        "# none\n\"*::ipv5\" = \"there is none\"",
    );
    let folder = scratch.0.display().to_string();
    let output = gauntlet(&["run", "--probe", "null", "--scenarios", &folder]);
    let line = format!("gauntlet: {folder}/known-deviations.toml:2: \"*::ipv5\" matches no case");
    ends(&output, 64, &line)
}

fn bad_usage_is_64() -> Checked {
    for (arguments, line) in [
        (&[][..], "a command is missing: list, run, "),
        (&["run", "--wrong"], "unexpected argument '--wrong' found"),
        (
            &["run", "--probe", "magic"],
            "allowed: shipped, null, always:CLASS",
        ),
        (
            &["run", "--probe", "always:CLASS"],
            "allowed: SSL_ERROR_SSL, ",
        ),
        (&["run", "--jobs", "0"], "0 is not in 1..=256"),
        (
            &["repro"],
            "not provided: <CASE>; see `gauntlet repro --help`",
        ),
        (
            &["repro", "a::b", "--kernel", "5.10", "--probe", "null"],
            "cannot be used with",
        ),
        (&["list", "--scenarios", "/nowhere"], "/nowhere: "),
        (&["report", "/nowhere"], "/nowhere: "),
        (
            &["report", "Cargo.toml"],
            "Cargo.toml: line 1: not a record of a run",
        ),
        (&["explain", "everything"], "is no class, alert or case id"),
    ] {
        let output = gauntlet(arguments);
        ends(&output, 64, line)?;
        let said = stderr(&output);
        check(
            said.lines().count() == 1 && said.starts_with("gauntlet: "),
            format!("{arguments:?} was not told in one line: {said}"),
        )?;
    }
    ends(&gauntlet(&["--help"]), 0, "")
}

/// Kernels are the repository's; elsewhere there is a line that says so.
fn a_kernel_elsewhere() -> Checked {
    let folder = std::env::temp_dir();
    let copy = folder.join(format!("gauntlet-alone-{}", std::process::id()));
    // By another process: a child of this one, started by another test at that moment, would have it open for writing
    // for as long as it takes to become what it is, and nobody could run it (ETXTBSY).
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_gauntlet"))
        .arg(&copy)
        .status()?;
    check(copied.success(), "cp failed")?;
    let output = Command::new(&copy)
        .args(["repro", "a::b", "--kernel", "5.10"])
        .current_dir(&folder)
        .output();
    fs::remove_file(&copy)?;
    let output = output?;
    ends(&output, 2, "run this inside the repository")?;
    check(stderr(&output).lines().count() == 1, stderr(&output))
}

fn empty_selection_is_3() -> Checked {
    ends(
        &gauntlet(&["list", "no_such_case"]),
        3,
        "no case matches no_such_case",
    )?;
    ends(
        &gauntlet(&["run", "--probe", "null", "no_such_case"]),
        3,
        "no case matches",
    )?;
    // A part of an id is no id.
    ends(
        &gauntlet(&["list", "--exact", "unknown_ca"]),
        3,
        "no case matches unknown_ca",
    )?;
    ends(
        &gauntlet(&["repro", "unknown_ca"]),
        3,
        "no case is called unknown_ca",
    )?;
    ends(&gauntlet(&["list", "--exact", FAILING]), 0, "")
}

fn explain() -> Checked {
    for topic in ["unknown_ca", "48", "SSL_R_TLSV1_ALERT_UNKNOWN_CA", FAILING] {
        let output = gauntlet(&["explain", topic]);
        let text = String::from_utf8_lossy(&output.stdout);
        ends(&output, 0, "")?;
        check(
            text.contains("openssl verify -CAfile"),
            format!("{topic}: {text}"),
        )?;
    }
    Ok(())
}

fn report_reads_a_run_back() -> Checked {
    let scratch = Scratch::new("report");
    let run = run("null", &["--exact", FAILING]);
    check(run.status.code() == Some(1), stderr(&run))?;
    fs::write(scratch.0.join("run.ndjson"), &run.stdout)?;
    let output = gauntlet(&["report", &scratch.path("run.ndjson")]);
    ends(&output, 1, "")?;
    let text = String::from_utf8_lossy(&output.stdout);
    check(text.contains("1 fail; 0 events lost"), text)?;
    let cut: Vec<u8> = run
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .take(2)
        .flatten()
        .copied()
        .collect();
    fs::write(scratch.0.join("cut.ndjson"), cut)?;
    ends(
        &gauntlet(&["report", &scratch.path("cut.ndjson")]),
        2,
        "the run was cut short",
    )
}

/// The shipped probe, deaf to libraries whatever it is told: the wire alone cannot pass for them.
fn hears_no_library() -> Checked {
    let Program::Command { command, .. } = Spec::Shipped.program()? else {
        return Err("the shipped probe is a program".into());
    };
    let program = command.first().ok_or("the shipped probe has a path")?;
    let probe = format!(
        "exec:exec {program} watch --format ndjson --library off --stall-after ${{GAUNTLET_STALL_MS}}ms \
         --netns $GAUNTLET_NETNS --interface $GAUNTLET_INTERFACE"
    );
    let spoken = "client_rejects::rustls-openssl::ipv6::library";
    let output = run(&probe, &[spoken]);
    ends(&output, 1, "")?;
    let reports = judged(&output)?;
    check(reports.len() > 3, format!("only {} cases", reports.len()))?;
    for report in &reports {
        let said = &report["reported"][0];
        check(
            report["verdict"] == "fail" && said["confidence"] == "ambiguous",
            format!("was: {report}"),
        )?;
    }
    Ok(())
}

/// Without a capability there is one line that names it. Root gives them all away to show that.
fn nobody_is_told() -> Checked {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_admin,-sys_admin", "--inh-caps=-all"])
        .args([
            env!("CARGO_BIN_EXE_gauntlet"),
            "run",
            "--probe",
            "null",
            SILENT,
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()?;
    ends(&output, 2, "missing CAP_NET_ADMIN")?;
    check(stderr(&output).lines().count() == 1, stderr(&output))
}

fn null() -> Checked {
    let output = run("null", &[]);
    ends(&output, 1, "")?;
    let reports = judged(&output)?;
    check(reports.len() > 300, format!("only {} cases", reports.len()))?;
    for report in &reports {
        let meant = if report["expected"].is_null() {
            "pass"
        } else {
            "fail"
        };
        check(
            report["verdict"] == meant,
            format!("meant: {meant}\nwas: {report}"),
        )?;
    }
    Ok(())
}

/// The cases that were run: all but those that need what is not here, and these say what that is.
fn judged(output: &Output) -> Result<Vec<Value>, Failed> {
    let suite = scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"))?;
    let (skipped, judged): (Vec<Value>, Vec<Value>) = reports(output)
        .into_iter()
        .partition(|report| report["verdict"] == "skip");
    for report in &skipped {
        let id = report["id"].as_str().unwrap_or_default();
        let case = suite.cases.iter().find(|case| case.id == id);
        let lacking = case.and_then(lacks).ok_or("nothing is lacking")?;
        check(
            report["reason"] == lacking.why && report["lacks"] == lacking.need,
            format!("was: {report}"),
        )?;
    }
    Ok(judged)
}

fn always(class: &str) -> Checked {
    let probe = format!("always:{class}");
    let output = run(&probe, &["::ipv4"]);
    ends(&output, 1, "")?;
    let mut foreign = 0;
    for report in judged(&output)? {
        if report["expected"]["class"] == class {
            // It says the class and nothing else: wrong as well, but that is no foreign case.
            continue;
        }
        foreign += 1;
        check(
            report["verdict"] == "fail",
            format!("meant: fail\nwas: {report}"),
        )?;
        let reason = report["reason"].as_str().unwrap_or_default();
        check(reason.contains(&format!("the probe said {class}")), reason)?;
    }
    check(foreign > 150, format!("only {foreign} foreign cases"))
}

fn bad_probes() -> Checked {
    for (command, reason) in [
        (
            "echo nonsense; sleep 60",
            "the probe printed a line that is no event (not JSON",
        ),
        ("echo '{}'; sleep 60", "no event (no error.type): {}"),
        ("echo '[1]'; sleep 60", "no event (not a JSON object): [1]"),
        (
            "echo why >&2; exit 7",
            "the probe ended, exit status 7: why",
        ),
        ("kill -9 $$", "the probe ended, signal: 9 (SIGKILL)"),
        (
            "no-such-program",
            "the probe ended, exit status 127 (no such command)",
        ),
        (
            "head -c 100000 /dev/urandom; sleep 60",
            "the probe printed a line that is no event",
        ),
    ] {
        let probe = format!("exec:{command}");
        let output = run(&probe, &["--exact", FAILING]);
        ends(&output, 2, "")?;
        let reports = reports(&output);
        let said = reports[0]["reason"].as_str().unwrap_or_default();
        check(
            reports[0]["verdict"] == "infra",
            format!("{command}: {}", reports[0]),
        )?;
        check(
            said.contains(reason),
            format!("meant: {reason}\nwas: {said}"),
        )?;
    }
    Ok(())
}

fn artifacts() -> Checked {
    let scratch = Scratch::new("artifacts");
    let folder = scratch.path("kept");
    let output = gauntlet(&[
        "run",
        "--probe",
        "null",
        "--format",
        "ndjson",
        "--artifacts",
        &folder,
        "--seed",
        "7",
        "--exact",
        FAILING,
        SILENT,
    ]);
    ends(&output, 1, "")?;
    for report in reports(&output) {
        let failed = report["verdict"] == "fail";
        let Some(folder) = report["artifacts"].as_str() else {
            check(!failed, "a failure without artifacts")?;
            continue;
        };
        check(failed, "artifacts of a case that passed")?;
        for name in [
            "capture.pcap",
            "keys.log",
            "client.log",
            "server.log",
            "events.ndjson",
            "wire.txt",
            "kernel.log",
            "reproduce.sh",
        ] {
            let file = Path::new(folder).join(name);
            // The null probe has no events, and the kernel may have had nothing to say.
            let may_be_empty = ["events.ndjson", "kernel.log"].contains(&name);
            let size = fs::metadata(&file)
                .map_err(|error| format!("{name}: {error}"))?
                .len();
            check(size > 0 || may_be_empty, format!("{name} is empty"))?;
        }
        let again = fs::read_to_string(Path::new(folder).join("reproduce.sh"))?;
        check(
            again.contains(report["repro"].as_str().unwrap_or("?")),
            again,
        )?;
        check(
            report["repro"] == format!("gauntlet repro {FAILING} --seed 7 --probe null"),
            report.to_string(),
        )?;
    }
    Ok(())
}

fn unwritable() -> Checked {
    let run = |option, path| gauntlet(&["run", "--probe", "null", option, path, SILENT]);
    ends(
        &run("--junit", "/nowhere/junit.xml"),
        2,
        "JUnit file /nowhere/junit.xml: ",
    )?;
    ends(&run("--junit", "/proc"), 2, "JUnit file /proc: is a folder")?;
    ends(
        &run("--artifacts", "/proc/nowhere"),
        2,
        "artifacts cannot be kept in /proc/nowhere: ",
    )
}

/// A file system of one page, in a mount namespace that ends with the run.
fn full_disk() -> Checked {
    let scratch = Scratch::new("full");
    let disk = scratch.0.display().to_string();
    let script = format!(
        "mount -t tmpfs -o size=4k tmpfs {disk} && exec {} run --probe null --artifacts {disk} --junit {disk}/junit.xml {FAILING}",
        env!("CARGO_BIN_EXE_gauntlet")
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()?;
    ends(&output, 2, "No space left on device")?;
    check(stderr(&output).lines().count() == 1, stderr(&output))
}

/// A probe that never becomes ready, so that the run lasts until it is ended.
fn endless(scratch: &Scratch, junit: &str) -> (Child, u32) {
    let probe = format!("exec:echo $$ > {}; exec sleep 600", scratch.path("pid"));
    endless_probe(scratch, junit, &probe)
}

/// The run, and the process that the probe names in the file `pid`.
fn endless_probe(scratch: &Scratch, junit: &str, probe: &str) -> (Child, u32) {
    let child = command(&[
        "run", "--probe", probe, "--jobs", "1", "--junit", junit, "--exact", FAILING,
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("gauntlet is built");
    let pid = within(Duration::from_secs(20), || {
        fs::read_to_string(scratch.0.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    });
    (child, pid.expect("the probe starts"))
}

/// Asks until there is an answer, or time is up.
fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(pid: u32) -> bool {
    let gone = || {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie waits for whoever has to reap it, and does nothing any more.
        (status.is_empty() || status.contains(") Z ")).then_some(())
    };
    within(Duration::from_secs(5), gone).is_some()
}

fn signal(child: &Child, signal: Signal) -> Checked {
    Ok(kill(Pid::from_raw(child.id().try_into()?), signal)?)
}

fn ctrl_c() -> Checked {
    for (number, name) in [(Signal::SIGINT, "SIGINT"), (Signal::SIGTERM, "SIGTERM")] {
        let scratch = Scratch::new(name);
        let junit = scratch.path("junit.xml");
        let (child, probe) = endless(&scratch, &junit);
        signal(&child, number)?;
        let asked = Instant::now();
        let output = child.wait_with_output()?;
        check(asked.elapsed() < Duration::from_secs(5), "it took too long")?;
        ends(
            &output,
            2,
            &format!("{name}: ended before the run was over"),
        )?;
        check(stderr(&output).lines().count() == 1, stderr(&output))?;
        check(is_gone(probe), "the probe lives on")?;
        let left: Vec<_> = fs::read_dir(&scratch.0)?
            .flatten()
            .map(|file| file.file_name())
            .collect();
        check(left == ["pid"], format!("left behind: {left:?}"))?;
    }
    Ok(())
}

fn killed() -> Checked {
    let scratch = Scratch::new("killed");
    let (mut child, probe) = endless(&scratch, &scratch.path("junit.xml"));
    signal(&child, Signal::SIGKILL)?;
    child.wait()?;
    check(is_gone(probe), "the probe lives on")
}

/// No process of it is the one that `sh -c` becomes.
fn killed_pipeline() -> Checked {
    let scratch = Scratch::new("killed_pipeline");
    let pid = scratch.path("pid");
    let probe = format!("exec:sh -c 'echo $$ > {pid}; exec sleep 600' | cat");
    let (mut child, member) = endless_probe(&scratch, &scratch.path("junit.xml"), &probe);
    signal(&child, Signal::SIGKILL)?;
    child.wait()?;
    check(is_gone(member), "a part of the probe lives on")
}

fn two_at_once() -> Checked {
    let arguments = [
        "run",
        "--format",
        "ndjson",
        "--artifacts",
        SHELF,
        "--seed",
        "5",
        "unknown_ca",
    ];
    let start = || {
        command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let runs = [start()?, start()?];
    // Each is read by a thread of its own: a full pipe would hold the other up.
    let readers = runs.map(|run| thread::spawn(|| run.wait_with_output()));
    for output in readers.map(thread::JoinHandle::join) {
        let output = output.map_err(|_| "the reader panicked")??;
        let printed = String::from_utf8_lossy(&output.stdout);
        check(
            output.status.code() == Some(0),
            format!("{}\n{}{printed}", output.status, stderr(&output)),
        )?;
        check(!reports(&output).is_empty(), "nothing ran")?;
        let last = printed.lines().last().unwrap_or_default();
        let summary: Value = serde_json::from_str(last)?;
        check(
            summary["type"] == "summary" && summary["lost_events"] == 0,
            last,
        )?;
    }
    Ok(())
}

/// Stopped again and again for longer than what counts as a stall, while the probe goes on and rightly says so.
fn stood_still() -> Checked {
    const CASES_BETWEEN: usize = 12;
    let stop = stall_after() + stall_after() / 2;
    let arguments = [
        "run",
        "--format",
        "ndjson",
        "--artifacts",
        SHELF,
        "--seed",
        "6",
    ];
    let mut child = command(&arguments)
        .args(["none::", "unknown_ca"])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no stdout")?;
    let mut lines = Vec::new();
    for line in BufReader::new(out).lines() {
        lines.push(line?);
        // What hung or was red before has been run again by now.
        if lines.len().is_multiple_of(CASES_BETWEEN) {
            signal(&child, Signal::SIGSTOP)?;
            thread::sleep(stop);
            signal(&child, Signal::SIGCONT)?;
        }
    }
    let code = child.wait()?.code();
    let summary: Value = serde_json::from_str(lines.last().ok_or("it said nothing")?)?;
    let again = lines.iter().find(|line| {
        line.contains("first_attempt") && line.contains("; the machine stood still for")
    });
    check(
        code == Some(0) && again.is_some() && summary["run_again"].as_u64() > Some(0),
        format!("{code:?}; {summary}"),
    )
}

fn deviations() -> Checked {
    let scratch = Scratch::new("deviations");
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/unknown_ca/client_rejects.toml");
    fs::copy(shipped, scratch.0.join("a.toml"))?;
    scratch.write(
        "known-deviations.toml",
        "\"unknown_ca::tls1_2::*::ipv4*\" = \"the null probe\"",
    );
    let folder = scratch.0.display().to_string();
    let output = run("null", &["--scenarios", &folder, "--jobs", "1", "tls1_2"]);
    ends(&output, 1, "")?;
    let verdicts: BTreeMap<String, String> = reports(&output)
        .iter()
        .map(|report| (report["id"].to_string(), report["verdict"].to_string()))
        .collect();
    let verdict = |id: &str| {
        verdicts
            .get(&format!("{id:?}"))
            .cloned()
            .unwrap_or_default()
    };
    check(verdict(FAILING) == "\"xfail\"", format!("{verdicts:?}"))?;
    check(verdict(SILENT) == "\"xpass\"", format!("{verdicts:?}"))?;
    check(
        verdict(&FAILING.replace("ipv4", "ipv6")) == "\"fail\"",
        format!("{verdicts:?}"),
    )
}

//! One kernel under vmtest, with a limit: vmtest itself would wait for a command for ever.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{IsTerminal, stderr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use gauntlet_guest::{protocol, qemu::Accelerator};

use super::{folder::Folder, results, say, terminal::Terminal, verdict::Seen};
use crate::{child, paths, setup};

/// What boot and suite may take with KVM; in practice a tenth of it.
const LIMIT: Duration = Duration::from_secs(240);
/// How much longer everything may take under TCG.
const TCG_SCALE: u32 = 4;
/// How often a log that is no terminal hears that something still goes on.
const STILL_RUNNING: Duration = Duration::from_secs(30);

/// How long a guest may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// From vmtest's start to its end.
    pub(crate) whole: Duration,
    /// From when the suite began: how long a boot takes depends on who else is busy.
    pub(crate) suite: Duration,
}

impl From<Duration> for Limit {
    fn from(whole: Duration) -> Self {
        Self {
            whole,
            suite: whole,
        }
    }
}

/// The limit for a whole boot.
pub(crate) fn limit(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => LIMIT,
        Accelerator::Tcg => LIMIT * TCG_SCALE,
    }
}

/// Boots, and runs vmtest's command, to its end or the limit's.
///
/// # Errors
/// When vmtest cannot be started. Whatever happens after that is what was seen.
pub(crate) fn run(
    name: &str,
    folder: &Folder,
    configuration: &Path,
    limit: impl Into<Limit>,
    terminal: Option<&Terminal>,
) -> Result<Seen> {
    let vmtest = setup::CargoTool::VMTEST.program(&paths::cache_dir()?);
    let log = folder.vmtest();
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // However this process ends, vmtest ends, and QEMU with it.
    let mut command = child::command("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(vmtest)
        .arg("--config")
        .arg(configuration)
        .args(["--filter", &format!("^{}$", name.replace('.', "\\."))])
        // vmtest.toml names its files from here.
        .current_dir(paths::repo_root())
        .env("VMTEST_NO_UI", "1")
        .env("PATH", of_ordinary_users())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    if terminal.is_some() {
        // Ctrl-C is a key of the guest's then; vmtest ends when the guest does.
        command.process_group(0);
    }
    let running = command
        .spawn()
        .context("cannot start vmtest by setpriv, of util-linux")?;
    let timed_out = wait(running, name, folder, limit.into(), terminal)?;
    let text =
        |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    Ok(Seen {
        timed_out,
        begun: results::begun(&folder.results()),
        console: text(folder.console()),
        results: results::read(&folder.results()),
        vmtest: text(log),
        suite: text(folder.results().join(protocol::LOG)),
    })
}

/// The `PATH` without the folders of what only root runs: so every run shows that plain `vmtest` works as an
/// ordinary user, whose `PATH` the guest is given.
fn of_ordinary_users() -> OsString {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let ordinary = env::split_paths(&path).filter(|folder| !folder.ends_with("sbin"));
    env::join_paths(ordinary).unwrap_or_else(|_| "/usr/bin:/bin".into())
}

/// Waits, and says how far it is; or hands the terminal over, as soon as there is one to hand it to.
/// Returns the limit that was reached, if one was; then vmtest was killed, and QEMU dies with it.
fn wait(
    mut running: Child,
    name: &str,
    folder: &Folder,
    limit: Limit,
    mut terminal: Option<&Terminal>,
) -> Result<Option<Duration>> {
    let start = Instant::now();
    let mut live = stderr().is_terminal();
    let mut told = start;
    let mut begun: Option<Instant> = None;
    let reached = loop {
        if running.try_wait()?.is_some() {
            break None;
        }
        if begun.is_none() && results::begun(&folder.results()) {
            begun = Some(Instant::now());
        }
        let of_suite = begun.is_some_and(|begun| begun.elapsed() >= limit.suite);
        if of_suite || start.elapsed() >= limit.whole {
            running.kill().context("cannot kill vmtest")?;
            running.wait()?;
            break Some(if of_suite { limit.suite } else { limit.whole });
        }
        if let Some(guest) = terminal.and_then(Terminal::connect) {
            terminal
                .take()
                .map_or(Ok(()), |terminal| terminal.hand_over(guest))?;
            // Nobody waits for anything any more.
            live = false;
            told = Instant::now();
        }
        if live || told.elapsed() >= STILL_RUNNING {
            told = Instant::now();
            let line = format!(
                "{name}: {}, {} s",
                progress(folder),
                start.elapsed().as_secs()
            );
            if live {
                eprint!("\r\x1b[K{line}");
            } else {
                say(line);
            }
        }
        thread::sleep(Duration::from_millis(200));
    };
    if live {
        eprint!("\r\x1b[K");
    }
    Ok(reached)
}

fn progress(folder: &Folder) -> String {
    let results = folder.results();
    if !results::begun(&results) {
        return "booting".into();
    }
    let cases = fs::read_to_string(results.join(protocol::CASES)).unwrap_or_default();
    match cases
        .lines()
        .filter(|line| line.starts_with(r#"{"type":"case""#))
        .count()
    {
        0 => "loading the programs".into(),
        done => format!("{done} cases done"),
    }
}

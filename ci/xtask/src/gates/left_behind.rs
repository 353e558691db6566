//! Nothing of a test run may outlive it. This compares the machine before and
//! after, and lists every new thing of the kinds that the harness and the probe
//! make. It cleans nothing up: a leak that is hidden is a leak that stays.

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Verdict, bpf_objects};
use crate::child;

/// Names of processes that must not survive; `openssl` is a peer of the suite.
const PROCESSES: [&str; 3] = ["gauntlet", "mtls-probe", "openssl"];

/// How long the kernel may take to free what was given up: namespaces, and the
/// links and programs in them, go after their last user, not with it.
const GRACE: Duration = Duration::from_secs(5);

/// What there is, each thing as the line that a person will read.
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub(super) fn take() -> Result<Self> {
        let mut things = BTreeSet::new();
        let mut add = |kind: &str, names: Vec<String>| {
            things.extend(names.into_iter().map(|name| format!("{kind}: {name}")));
        };
        add("network namespace", names_in("/run/netns"));
        add("network link", names_in("/sys/class/net"));
        add("qdisc", without_counters(&tc(&["qdisc", "show"])?));
        for link in names_in("/sys/class/net") {
            // The parents that an ingress or clsact qdisc offers, and the root.
            for parent in ["root", "ingress", "egress"] {
                // A link may vanish meanwhile, or have no such parent.
                let filters = tc(&["filter", "show", "dev", &link, parent]).unwrap_or_default();
                let filters = without_counters(&filters);
                add(&format!("tc filter on {link} {parent}"), filters);
            }
        }
        for mount in mounts_of("bpf") {
            add("bpf pin", below(Path::new(&mount), 8, |_| true));
        }
        for mount in mounts_of("cgroup").into_iter().chain(mounts_of("cgroup2")) {
            add(
                "cgroup",
                below(Path::new(&mount), 4, |name| name.starts_with("gauntlet")),
            );
        }
        add("process", processes());
        add("bpf object", bpf_objects::list());
        let temporary = env::temp_dir();
        let of_ours = names_in(&temporary)
            .into_iter()
            .filter(|name| name.starts_with("gauntlet-"));
        add(
            "temporary folder",
            of_ours
                .map(|name| temporary.join(name).display().to_string())
                .collect(),
        );
        Ok(Self(things))
    }

    /// What is here and was not in `before`.
    fn new_since<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        self.0.difference(&before.0).map(String::as_str).collect()
    }
}

/// Takes a second snapshot and judges.
pub(super) fn compare(before: Result<&Snapshot, &anyhow::Error>) -> Verdict {
    let deadline = Instant::now() + GRACE;
    loop {
        let after = Snapshot::take();
        let (before, after) = match (before, &after) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(error), _) => return Verdict::NotRun(format!("{error:#}")),
            (_, Err(error)) => return Verdict::NotRun(format!("{error:#}")),
        };
        let new = after.new_since(before);
        if new.is_empty() {
            return Verdict::Passed;
        }
        if Instant::now() >= deadline {
            new.iter().for_each(|line| println!("left behind: {line}"));
            return Verdict::Failed(format!("{} things were left behind", new.len()));
        }
        thread::sleep(Duration::from_millis(250));
    }
}

fn tc(args: &[&str]) -> Result<String> {
    child::quiet(child::command("tc").args(args))
}

/// `tc` shows reference counts, which change while the thing stays.
fn without_counters(shown: &str) -> Vec<String> {
    let lines = shown.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let mut words = Vec::new();
            let mut rest = line.split_whitespace();
            while let Some(word) = rest.next() {
                if word == "refcnt" {
                    rest.next();
                } else {
                    words.push(word);
                }
            }
            words.join(" ")
        })
        .collect()
}

/// Empty when there is no such folder: then there is nothing in it.
fn names_in(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Paths below `dir` whose name is wanted, `depth` folders deep at most.
fn below(dir: &Path, depth: u32, wanted: fn(&str) -> bool) -> Vec<String> {
    let mut paths = Vec::new();
    for name in names_in(dir) {
        let path = dir.join(&name);
        if wanted(&name) {
            paths.push(path.display().to_string());
        }
        // A link could lead back up.
        if depth > 0 && fs::symlink_metadata(&path).is_ok_and(|entry| entry.is_dir()) {
            paths.extend(below(&path, depth - 1, wanted));
        }
    }
    paths
}

/// Where file systems of this type are mounted.
fn mounts_of(file_system: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_type = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (target, kind) = (words.next()?, words.next()?);
        (kind == file_system).then(|| target.to_owned())
    });
    of_type.collect()
}

fn processes() -> Vec<String> {
    let ids = names_in("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let named = ids.filter_map(|id| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        let name = name.trim_end();
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        PROCESSES
            .contains(&name)
            .then(|| format!("{id} {name}: {}", command.trim_end()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(lines: &[&str]) -> Snapshot {
        Snapshot(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn only_what_is_new_was_left_behind() {
        let before = snapshot(&["network link: lo", "process: 7 gauntlet: old"]);
        let after = snapshot(&[
            "network link: lo",
            "network link: gt0",
            "network namespace: gt",
        ]);
        assert_eq!(
            after.new_since(&before),
            ["network link: gt0", "network namespace: gt"]
        );
        assert!(before.new_since(&before).is_empty());
    }

    #[test]
    fn qdisc_keeps_its_identity_when_its_references_change() {
        let shown = "qdisc noqueue 0: dev lo root refcnt 2 \nqdisc clsact ffff: dev eth0 parent ffff:fff1 \n\n";
        assert_eq!(
            without_counters(shown),
            [
                "qdisc noqueue 0: dev lo root",
                "qdisc clsact ffff: dev eth0 parent ffff:fff1"
            ]
        );
    }

    #[test]
    fn temporary_folder_of_ours_is_found() {
        let dir = env::temp_dir().join(format!("gauntlet-xtask-test-{}", std::process::id()));
        let before = names_in(env::temp_dir());
        fs::create_dir(&dir).unwrap();
        let after = names_in(env::temp_dir());
        fs::remove_dir(&dir).unwrap();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!before.contains(&name) && after.contains(&name));
    }
}

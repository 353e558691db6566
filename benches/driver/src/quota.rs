//! A processor quota for single threads: a cgroup of this process's own, gone when it is dropped.
//!
//! By whichever hierarchy has the cpu controller: cgroup v2 (`cpu.max`; a threaded cgroup below the process's own),
//! or v1 (`cpu.cfs_quota_us`). Refuses real-time threads: no quota counts for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::gettid;

/// Of each of these, a thread gets its share.
pub const PERIOD: Duration = Duration::from_millis(100);

/// The cgroup.
#[derive(Debug)]
pub struct Quota {
    group: PathBuf,
    /// The file that threads enter by.
    door: &'static str,
    /// v2: a cgroup that lent the cpu controller to its children only for this.
    lent: Option<PathBuf>,
}

/// Where the cpu controller is.
#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

impl Quota {
    /// So much of each [`PERIOD`].
    ///
    /// # Errors
    /// Where no hierarchy has a cpu controller, or this process may not use it.
    pub fn new(share: Duration) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
        let found = hierarchy(&read("/proc/self/mounts")?, &read("/proc/self/cgroup")?);
        let name = format!("gauntlet-bench-{}", process::id());
        let (share, period) = (share.as_micros(), PERIOD.as_micros());
        match found {
            Some(Hierarchy::V1(own)) => {
                let quota = Self::make(own.join(name), "tasks")?;
                put(&quota.group, "cpu.cfs_period_us", &period.to_string())?;
                put(&quota.group, "cpu.cfs_quota_us", &share.to_string())?;
                Ok(quota)
            }
            Some(Hierarchy::V2(own)) => {
                let words = |file: &str| fs::read_to_string(own.join(file)).unwrap_or_default();
                let has = |file: &str| words(file).split_whitespace().any(|word| word == "cpu");
                if !has("cgroup.controllers") {
                    bail!("{} has no cpu controller", own.display());
                }
                let mut quota = Self::make(own.join(name), "cgroup.threads")?;
                put(&quota.group, "cgroup.type", "threaded")?;
                if !has("cgroup.subtree_control") {
                    put(&own, "cgroup.subtree_control", "+cpu")?;
                    quota.lent = Some(own);
                }
                put(&quota.group, "cpu.max", &format!("{share} {period}"))?;
                Ok(quota)
            }
            None => bail!("no cgroup hierarchy is mounted that could have a cpu controller"),
        }
    }

    fn make(group: PathBuf, door: &'static str) -> Result<Self> {
        fs::create_dir(&group).with_context(|| group.display().to_string())?;
        Ok(Self {
            group,
            door,
            lent: None,
        })
    }

    /// The calling thread has no more than that from now on.
    ///
    /// # Errors
    /// When it may not enter.
    pub fn enter(&self) -> Result<()> {
        put(&self.group, self.door, &gettid().to_string())
    }

    /// Where it is.
    #[must_use]
    pub fn group(&self) -> &Path {
        &self.group
    }

    /// In how many periods a thread had to wait for the next.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn throttled(&self) -> Result<u64> {
        let path = self.group.join("cpu.stat");
        let said = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        line.context("cpu.stat has no nr_throttled")?
            .parse()
            .context("nr_throttled")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // A thread that was joined may not be gone yet.
        for _ in 0..200 {
            if fs::remove_dir(&self.group).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        if let Some(own) = &self.lent {
            let _as_it_was = put(own, "cgroup.subtree_control", "-cpu");
        }
    }
}

fn put(group: &Path, file: &str, text: &str) -> Result<()> {
    let path = group.join(file);
    fs::write(&path, text).with_context(|| format!("{}: {text}", path.display()))
}

/// Of `/proc/self/mounts` and `/proc/self/cgroup`: this process's own cgroup where the cpu controller is, or might
/// be. v1's goes first: a controller that is there is nowhere else.
fn hierarchy(mounts: &str, own: &str) -> Option<Hierarchy> {
    let mounts = || {
        mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
    };
    let cpu = |list: &str| list.split(',').any(|one| one == "cpu");
    let own = |which: fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let found = which(fields.next()?);
            fields.next().filter(|_| found)
        })
    };
    let below = |mount: &str, path: &str| Path::new(mount).join(path.trim_start_matches('/'));
    let v1 = mounts().find(|(_, kind, options)| *kind == "cgroup" && cpu(options));
    if let Some((mount, ..)) = v1 {
        let path = own(|controllers| controllers.split(',').any(|one| one == "cpu"))?;
        return Some(Hierarchy::V1(below(mount, path)));
    }
    let (mount, ..) = mounts().find(|(_, kind, _)| *kind == "cgroup2")?;
    Some(Hierarchy::V2(below(mount, own(str::is_empty)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_that_has_the_controller_is_found() {
        let v1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                  cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                  cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = "3:cpuset:/other\n1:cpu,cpuacct:/a/b\n0::/c\n";
        let is = |found: &str| Path::new(found).to_path_buf();
        assert_eq!(
            hierarchy(v1, own),
            Some(Hierarchy::V1(is("/sys/fs/cgroup/cpu/a/b")))
        );
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(
            hierarchy(v2, "0::/user.slice/x\n"),
            Some(Hierarchy::V2(is("/sys/fs/cgroup/user.slice/x")))
        );
        assert_eq!(hierarchy("proc /proc proc rw 0 0\n", "0::/\n"), None);
        // cpuset and cpuacct are not cpu.
        let others = "cgroup /x cgroup rw,cpuset 0 0\ncgroup /y cgroup rw,cpuacct 0 0\n";
        assert_eq!(hierarchy(others, own), None);
    }
}

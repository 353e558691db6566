//! Whose the ends of a connection are: the cgroup v2 of either end's socket, and the pod that a kubelet made
//! that cgroup for.
//!
//! All of it is what this machine has on disk: a cgroup's number is the inode number of its folder, the pod's
//! UID is in the folder's name, and the pod's name is in that of the folder where the kubelet keeps its logs.
//! Refuses to ask an API server, and to guess: what is not found is not said.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where cgroup v2 is mounted, as systemd does it: alone, or beside v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where a kubelet keeps logs, in folders called NAMESPACE_NAME_UID.
const POD_LOGS: &str = "/var/log/pods";
/// Cgroups that were looked for and are gone, of which as many are remembered.
const GONE: usize = 4_096;

/// What is known of one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The cgroup v2 of its socket: the path below the mount, as in `/proc/PID/cgroup`.
    pub cgroup: String,
    /// The pod of that cgroup.
    pub pod: Option<Pod>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// What Kubernetes numbers it by.
    pub uid: String,
    /// Its namespace and name.
    pub name: Option<[String; 2]>,
}

/// Finds them, and remembers what was found.
#[derive(Debug)]
pub struct Workloads {
    mount: Option<PathBuf>,
    logs: PathBuf,
    /// By the kernel's number of the cgroup; none: it is gone. Numbers are not used again.
    known: HashMap<u64, Option<Workload>>,
}

impl Default for Workloads {
    /// Of this machine.
    fn default() -> Self {
        let is_mount = |path: &PathBuf| {
            statfs(path).is_ok_and(|kind| kind.filesystem_type() == CGROUP2_SUPER_MAGIC)
        };
        Self {
            mount: MOUNTS.into_iter().map(PathBuf::from).find(is_mount),
            logs: POD_LOGS.into(),
            known: HashMap::new(),
        }
    }
}

impl Workloads {
    /// Of a cgroup by the kernel's number of it; 0: of none.
    pub fn of(&mut self, cgroup: u64) -> Option<Workload> {
        let mount = self.mount.clone().filter(|_| cgroup != 0)?;
        if let Some(known) = self.known.get(&cgroup) {
            return known.clone();
        }
        let mut there = Vec::new();
        let root = fs::metadata(&mount).ok()?;
        there.push((std::os::unix::fs::MetadataExt::ino(&root), "/".to_owned()));
        folders(&mount, "", &mut there);
        // Those that are gone since are forgotten as well.
        let gone = self
            .known
            .drain()
            .filter(|(_, workload)| workload.is_none());
        self.known = gone.take(GONE).collect();
        for (number, path) in there {
            let workload = Workload {
                pod: pod_of(&path).map(|uid| Pod {
                    name: name_of(&self.logs, &uid),
                    uid,
                }),
                cgroup: path,
            };
            self.known.insert(number, Some(workload));
        }
        self.known.entry(cgroup).or_default().clone()
    }
}

/// Every cgroup below one, with its number. What vanishes meanwhile is left out.
fn folders(folder: &Path, path: &str, into: &mut Vec<(u64, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = format!("{path}/{}", entry.file_name().display());
            into.push((entry.ino(), path.clone()));
            folders(&entry.path(), &path, into);
        }
    }
}

/// The UID in a cgroup's path: `.../kubepods-burstable-pod01234567_89ab_...slice/...` where systemd makes
/// cgroups, `.../kubepods/burstable/pod01234567-89ab-.../...` where the kubelet does.
fn pod_of(path: &str) -> Option<String> {
    let mut folders = path
        .split('/')
        .skip_while(|name| !name.starts_with("kubepods"));
    folders.find_map(|name| {
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let uid = name
            .strip_prefix("pod")
            .or_else(|| Some(name.rsplit_once("-pod")?.1))?;
        let uid = uid.replace('_', "-");
        let bare: String = uid.split('-').collect();
        // A UUID; of a pod that stands in a file of the kubelet's, a digest as long.
        let whole = bare.len() == 32 && bare.chars().all(|digit| digit.is_ascii_hexdigit());
        whole.then_some(uid)
    })
}

/// Namespace and name of the pod with this UID.
fn name_of(logs: &Path, uid: &str) -> Option<[String; 2]> {
    fs::read_dir(logs).ok()?.flatten().find_map(|entry| {
        let folder = entry.file_name().into_string().ok()?;
        let (namespace, name) = folder
            .strip_suffix(uid)?
            .strip_suffix('_')?
            .split_once('_')?;
        Some([namespace.to_owned(), name.to_owned()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn a_pod_is_found_in_the_names_that_kubelets_give() {
        let systemd = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-containerd-5f.scope";
        assert_eq!(pod_of(systemd).as_deref(), Some(UID));
        let guaranteed = "/kubepods.slice/kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice";
        assert_eq!(pod_of(guaranteed).as_deref(), Some(UID));
        let own = format!("/kubepods/besteffort/pod{UID}/5f");
        assert_eq!(pod_of(&own).as_deref(), Some(UID));
        let inside = format!("/kubelet.slice/kubepods/pod{UID}/5f");
        assert_eq!(pod_of(&inside).as_deref(), Some(UID));
        let from_file = "/kubepods/burstable/pod0123456789abcdef0123456789abcdef/5f";
        assert_eq!(
            pod_of(from_file).as_deref(),
            Some("0123456789abcdef0123456789abcdef")
        );
    }

    #[test]
    fn what_is_no_pod_is_none() {
        for path in [
            "/",
            "/system.slice/sshd.service",
            "/machine.slice/libpod-0123456789abcdef.scope",
            &format!("/user.slice/pod{UID}"),
            "/kubepods.slice/kubepods-burstable.slice",
            "/kubepods/podman/5f",
        ] {
            assert_eq!(pod_of(path), None, "{path}");
        }
    }

    #[test]
    fn cgroups_are_found_by_number_also_later_and_pods_by_the_kubelets_logs() {
        let [mount, logs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let number =
            |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let mut workloads = Workloads {
            mount: Some(mount.path().into()),
            logs: logs.path().into(),
            known: HashMap::new(),
        };
        let root = workloads.of(number(mount.path())).unwrap();
        assert_eq!((root.cgroup.as_str(), root.pod), ("/", None));
        let pod = mount.path().join(format!("kubepods/pod{UID}"));
        fs::create_dir_all(&pod).unwrap();
        fs::create_dir(logs.path().join(format!("shop_web-0_{UID}"))).unwrap();
        let found = workloads.of(number(&pod)).unwrap();
        assert_eq!(found.cgroup, format!("/kubepods/pod{UID}"));
        let name = ["shop", "web-0"].map(str::to_owned);
        assert_eq!(
            found.pod,
            Some(Pod {
                uid: UID.into(),
                name: Some(name)
            })
        );
        // It stays known when it is gone; another that was never seen is not found, twice.
        fs::remove_dir(&pod).unwrap();
        assert_eq!(workloads.of(number(mount.path())).unwrap().cgroup, "/");
        assert_eq!(
            [workloads.of(u64::MAX), workloads.of(u64::MAX)],
            [None, None]
        );
        assert_eq!(workloads.of(0), None);
    }
}

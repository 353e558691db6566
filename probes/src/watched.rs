//! What is watched, a probe each: one cgroup; or network namespaces, those that were named and those that a
//! pattern finds, now and while watching. A namespace that has a name is a mount, so the kernel says when some
//! may have come or gone.
//!
//! Events leave with what else is known of them here, since namespaces, interfaces and cgroups may be gone by
//! the time that they are told.
//!
//! Refuses to judge and to print events.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use gauntlet_probes::clock;
use gauntlet_probes::delivery::Found;
use gauntlet_probes::interfaces::{Interface, Selection};
use gauntlet_probes::load::Settings;
use gauntlet_probes::netns::NetNs;
use gauntlet_probes::probe::{Counts, Probe, ProbeError};
use gauntlet_probes::workload::{Workload, Workloads};
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::Event;
use nix::sys::statfs::{NSFS_MAGIC, statfs};

/// Tells of every mount that comes or goes (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Whether the name of a namespace is a pattern of names.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Where an event was seen, and whose its ends are.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The interface whose packet decided.
    pub(crate) interface: Option<Interface>,
    /// Its network namespace, by inode number; 0: it is not one, as where a cgroup is watched.
    pub(crate) netns: u32,
    /// The client's, and the server's.
    pub(crate) workloads: [Option<Workload>; 2],
}

/// What tells two namespaces apart ([`NetNs::identity`]).
type Identity = (u64, u64);

/// Everything that is watched. Dropping it detaches it all.
pub(crate) struct Watched {
    probes: Vec<Probe>,
    /// The namespaces of those, which a pattern may find as well.
    named: BTreeSet<Identity>,
    found: BTreeMap<Identity, Probe>,
    /// A probe for the next namespace that comes: verifying its programs takes longer than a pod needs for its
    /// first handshake.
    spare: Option<JoinHandle<Result<Probe, ProbeError>>>,
    /// Namespaces that a pattern found and that could not be watched.
    refused: BTreeSet<Identity>,
    patterns: Patterns,
    workloads: Workloads,
    selection: Selection,
    settings: Settings,
    /// What is left of namespaces that were let go.
    left: Vec<(Origin, Event)>,
    counts: Counts,
    changes: Changes,
}

/// Patterns of namespaces' names, and what says when to look again.
struct Patterns {
    patterns: Vec<String>,
    mounts: Option<File>,
}

/// What was done to namespaces that a pattern finds.
#[derive(Default)]
struct Changes {
    attached: u64,
    detached: u64,
    failed: u64,
}

impl Watched {
    /// The sockets of a cgroup.
    pub(crate) fn cgroup(path: &Path, settings: Settings) -> anyhow::Result<Self> {
        let probe = Probe::start_cgroup(path, &settings)?;
        Ok(Self::of(
            vec![probe],
            Patterns::none(),
            Selection::default(),
            settings,
        ))
    }

    /// Interfaces of namespaces, by name, path or pattern; none: of the one of this process. Of a pattern
    /// nothing needs to be there yet.
    pub(crate) fn namespaces(
        names: &[String],
        selection: Selection,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let (patterns, names): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| is_pattern(name));
        let patterns = Patterns::new(patterns)?;
        let namespaces = if names.is_empty() && patterns.mounts.is_none() {
            vec![NetNs::current()?]
        } else {
            names
                .iter()
                .map(|name| NetNs::open(name))
                .collect::<Result<_, _>>()?
        };
        let probes = namespaces
            .iter()
            .map(|namespace| Probe::start(namespace, &selection, &settings))
            .collect::<Result<Vec<_>, _>>()?;
        let selection = Selection {
            later: true,
            ..selection
        };
        let mut watched = Self::of(probes, patterns, selection, settings);
        watched.named = namespaces
            .iter()
            .map(NetNs::identity)
            .collect::<Result<_, _>>()
            .context("--netns")?;
        for error in watched.probes.iter().flat_map(Probe::skipped) {
            eprintln!("mtls-probe: not watched: {error}");
        }
        watched.look();
        if watched.patterns.mounts.is_some() && watched.spare.is_none() {
            watched.prepare();
        }
        Ok(watched)
    }

    fn of(
        probes: Vec<Probe>,
        patterns: Patterns,
        selection: Selection,
        settings: Settings,
    ) -> Self {
        Self {
            probes,
            named: BTreeSet::new(),
            found: BTreeMap::new(),
            spare: None,
            refused: BTreeSet::new(),
            patterns,
            workloads: Workloads::default(),
            selection,
            settings,
            left: Vec::new(),
            counts: Counts::default(),
            changes: Changes::default(),
        }
    }

    /// How many interfaces.
    pub(crate) fn interfaces(&self) -> usize {
        self.all().map(Probe::watched).sum()
    }

    /// Of how many namespaces that a pattern found; none: there is no pattern.
    pub(crate) fn found(&self) -> Option<usize> {
        self.patterns.mounts.is_some().then_some(self.found.len())
    }

    /// Every probe.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().chain(self.found.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Probe> {
        self.probes.iter_mut().chain(self.found.values_mut())
    }

    /// What has something urgent (POLLPRI) when namespaces may have come or gone.
    pub(crate) fn mounts(&self) -> Option<BorrowedFd<'_>> {
        self.patterns.mounts.as_ref().map(|mounts| mounts.as_fd())
    }

    /// Attaches to what has come, and lets go of what is gone. `mounts`: namespaces may have changed.
    pub(crate) fn follow(&mut self, mounts: bool) -> anyhow::Result<()> {
        if mounts {
            self.look();
        }
        for probe in self.all_mut() {
            for error in probe.follow()? {
                eprintln!("mtls-probe: not watched: {error}");
            }
        }
        Ok(())
    }

    /// Stops watching: no packet after this is seen.
    pub(crate) fn detach(&mut self) {
        self.all_mut().for_each(Probe::detach);
    }

    /// Gives each event to `each`. `sweep`: look for handshakes that have said nothing for so long as well.
    /// `true`: of some probe there may be more.
    pub(crate) fn events(
        &mut self,
        sweep: Option<Duration>,
        mut each: impl FnMut(Origin, Event),
    ) -> anyhow::Result<bool> {
        for (origin, event) in self.left.drain(..) {
            each(origin, event);
        }
        let mut more = false;
        for probe in self.probes.iter_mut().chain(self.found.values_mut()) {
            let mut events = Vec::new();
            more |= probe.drain(|event| events.push(*event)) == Found::Part;
            if let Some(threshold) = sweep {
                events.extend(probe.sweep(clock::monotonic(), threshold)?);
            }
            for event in events {
                each(origin(probe, &mut self.workloads, &event), event);
            }
        }
        Ok(more)
    }

    /// What was counted so far, also of what was let go.
    pub(crate) fn counts(&self) -> anyhow::Result<Counts> {
        let mut counts = self.counts.clone();
        // Also where there is no probe: what is not there yet has not been seen failing.
        for counter in Counter::ALL {
            counts.counters.entry(counter).or_default();
        }
        for probe in self.all() {
            counts.merge(&probe.counts()?);
        }
        if self.patterns.mounts.is_some() {
            let Changes {
                attached,
                detached,
                failed,
            } = self.changes;
            counts.add("namespace_attached", attached, false);
            counts.add("namespace_detached", detached, false);
            counts.add("namespace_attach_failed", failed, true);
        }
        Ok(counts)
    }

    /// Compares what the patterns find with what is watched.
    fn look(&mut self) {
        let there = self.patterns.namespaces();
        self.refused.retain(|identity| there.contains_key(identity));
        let gone: Vec<_> = self
            .found
            .keys()
            .filter(|identity| !there.contains_key(identity))
            .copied()
            .collect();
        for identity in gone {
            if let Some(probe) = self.found.remove(&identity) {
                self.let_go(probe);
            }
        }
        for (identity, path) in there {
            let known = self.named.contains(&identity)
                || self.found.contains_key(&identity)
                || self.refused.contains(&identity);
            if known {
                continue;
            }
            match self.start(&path) {
                Ok(probe) => {
                    self.changes.attached += 1;
                    self.found.insert(identity, probe);
                }
                Err(error) => {
                    eprintln!("mtls-probe: not watched: {error:#}");
                    self.changes.failed += 1;
                    self.refused.insert(identity);
                }
            }
        }
    }

    fn start(&mut self, path: &str) -> anyhow::Result<Probe> {
        let namespace = NetNs::open(path)?;
        let loaded = match self.spare.take().map(JoinHandle::join) {
            Some(Ok(loaded)) => loaded?,
            // None was begun; or it panicked, which is told already.
            Some(Err(_)) | None => Probe::unattached(&self.settings)?,
        };
        let probe = loaded.attach(&namespace, &self.selection)?;
        self.prepare();
        Ok(probe)
    }

    /// Begins to load a probe for the next namespace.
    fn prepare(&mut self) {
        let settings = self.settings.clone();
        self.spare = Some(thread::spawn(move || Probe::unattached(&settings)));
    }

    fn let_go(&mut self, mut probe: Probe) {
        self.changes.detached += 1;
        probe.detach();
        let mut events = Vec::new();
        // It is attached to nothing, so the buffers hold all there is.
        let _all = probe.drain(|event| events.push(*event));
        for event in events {
            self.left
                .push((origin(&probe, &mut self.workloads, &event), event));
        }
        if let Err(error) = self.add_up(&mut probe) {
            eprintln!("mtls-probe: not counted: {error}");
        }
    }
}

impl Watched {
    /// Counts what a probe has seen that sees no more. Handshakes under way, which far later would have stalled,
    /// are counted as that: nobody knows how they ended.
    fn add_up(&mut self, probe: &mut Probe) -> Result<(), ProbeError> {
        let under_way = probe.sweep(u64::MAX, Duration::ZERO)?;
        let mut counts = probe.counts()?;
        let unfinished = counts.take_back(&under_way);
        counts.add("handshake_unfinished", unfinished, true);
        self.counts.merge(&counts);
        Ok(())
    }
}

impl Patterns {
    const fn none() -> Self {
        Self {
            patterns: Vec::new(),
            mounts: None,
        }
    }

    fn new(patterns: Vec<String>) -> anyhow::Result<Self> {
        if patterns.is_empty() {
            return Ok(Self::none());
        }
        Ok(Self {
            patterns: patterns
                .iter()
                .map(|pattern| NetNs::path_of(pattern))
                .collect(),
            mounts: Some(File::open(MOUNTS).context(MOUNTS)?),
        })
    }

    /// What there is, with a path to each. What vanishes meanwhile, or is not a namespace yet, is left out.
    fn namespaces(&self) -> BTreeMap<Identity, String> {
        let paths = self
            .patterns
            .iter()
            .filter_map(|pattern| glob::glob(pattern).ok());
        paths
            .flatten()
            .filter_map(Result::ok)
            .filter(|path| statfs(path).is_ok_and(|kind| kind.filesystem_type() == NSFS_MAGIC))
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                Some(((metadata.dev(), metadata.ino()), path.to_str()?.to_owned()))
            })
            .collect()
    }
}

fn origin(probe: &Probe, workloads: &mut Workloads, event: &Event) -> Origin {
    Origin {
        interface: probe.interface(event.ifindex).cloned(),
        netns: probe.netns(),
        workloads: event.flow.cgroups.map(|cgroup| workloads.of(cgroup)),
    }
}

//! Namespaces that a pattern finds: watched when they get such a name, let go of when they lose it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::{Failed, Trial};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::clsact::same;
use crate::interfaces::{attached, until};
use crate::raw::{Connection, UNKNOWN_CA, client_hello, fail};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::{Ended, Watch, refused};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "namespaces::one_that_comes_is_watched_until_it_goes",
            comes_and_goes,
        ),
        Trial::test("namespaces::one_with_two_names_is_watched_once", two_names),
        Trial::test(
            "namespaces::one_that_is_named_and_found_is_watched_once",
            named_and_found,
        ),
        Trial::test(
            "namespaces::a_handshake_under_way_where_one_goes_is_counted",
            goes_meanwhile,
        ),
        Trial::test("namespaces::what_is_none_is_left_alone", no_namespace),
        Trial::test("namespaces::a_bad_pattern_is_one_clear_line", bad_pattern),
    ]
}

fn comes_and_goes() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let elsewhere = NetNs::anonymous("of the probe")?;
    let pattern = folder.path().join("pod-*").display().to_string();
    let mut watch = Watch::start(
        &elsewhere,
        &["--netns", &pattern, "-i", SERVER, "--hook", "tcx"],
    )?;
    for name in ["pod-1", "pod-2"] {
        let stand = Stand::new()?;
        let other = Name::new(folder.path(), "vm-1", &stand.client)?;
        let named = Name::new(folder.path(), name, &stand.server)?;
        until(|| attached(&stand.server, "tcx", SERVER))?;
        fail(&stand, server_addresses()[0], name, UNKNOWN_CA)?;
        let event = watch.event_of(name)?;
        same(event["network.interface.name"].as_str(), Some(SERVER))?;
        drop((named, other));
        until(|| Ok(!attached(&stand.server, "tcx", SERVER)?))?;
    }
    let ended = watch.finish()?;
    same(
        (ended.events.len(), ended.lost(), changes(&ended)),
        (2, 0, [2, 2, 0]),
    )
}

fn two_names() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let stand = Stand::new()?;
    let first = Name::new(folder.path(), "pod-1", &stand.server)?;
    let pattern = folder.path().join("*").display().to_string();
    let elsewhere = NetNs::anonymous("of the probe")?;
    let mut watch = Watch::start(&elsewhere, &["--netns", &pattern])?;
    let _second = Name::new(folder.path(), "pod-2", &stand.server)?;
    drop(first);
    fail(&stand, server_addresses()[0], "two.test", UNKNOWN_CA)?;
    watch.event_of("two.test")?;
    let ended = watch.finish()?;
    same(
        (ended.events.len(), ended.lost(), changes(&ended)),
        (1, 0, [1, 0, 0]),
    )
}

fn named_and_found() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let stand = Stand::new()?;
    let named = Name::new(folder.path(), "pod-1", &stand.server)?;
    let name = named.0.display().to_string();
    let pattern = folder.path().join("*").display().to_string();
    let elsewhere = NetNs::anonymous("of the probe")?;
    let mut watch = Watch::start(&elsewhere, &["--netns", &name, "--netns", &pattern])?;
    fail(&stand, server_addresses()[0], "once.test", UNKNOWN_CA)?;
    watch.event_of("once.test")?;
    let ended = watch.finish()?;
    same(
        (ended.events.len(), ended.lost(), changes(&ended)),
        (1, 0, [0, 0, 0]),
    )
}

/// Nobody knows how it ended.
fn goes_meanwhile() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let stand = Stand::new()?;
    let named = Name::new(folder.path(), "pod-1", &stand.server)?;
    let pattern = folder.path().join("*").display().to_string();
    let elsewhere = NetNs::anonymous("of the probe")?;
    let watch = Watch::start(&elsewhere, &["--netns", &pattern])?;
    let mut connection = Connection::open(&stand, (server_addresses()[0], 0).into())?;
    connection.say(&client_hello("under-way.test"))?;
    drop(named);
    let ended = watch.finish()?;
    same(ended.count("handshake_unfinished"), 1)?;
    same(
        (ended.events.len(), ended.lost(), changes(&ended)),
        (0, 1, [1, 1, 0]),
    )
}

fn no_namespace() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("file"), "")?;
    fs::create_dir(folder.path().join("folder"))?;
    let pattern = folder.path().join("*").display().to_string();
    let elsewhere = NetNs::anonymous("of the probe")?;
    let watch = Watch::start(&elsewhere, &["--netns", &pattern])?;
    same(changes(&watch.finish()?), [0, 0, 0])
}

fn bad_pattern() -> Result<(), Failed> {
    let elsewhere = NetNs::anonymous("of the probe")?;
    let mut command = Command::new(crate::watch::PROBE);
    let found = refused(&elsewhere, command.args(["watch", "--netns", "pod-[1"]))?;
    let line = "mtls-probe: invalid value 'pod-[1' for '--netns <NAME|PATH|PATTERN>': Pattern syntax error near position 4: invalid range pattern; see `mtls-probe --help`\n";
    same(found, (Some(64), String::new(), line.into()))
}

/// A file that is a namespace, as `ip netns add` makes them, as long as this lives.
struct Name(PathBuf);

impl Name {
    fn new(folder: &Path, name: &str, namespace: &NetNs) -> Result<Self, Failed> {
        let file = folder.join(name);
        File::create(&file)?;
        let named = Self(file);
        mount(
            Some(&namespace.path()),
            &named.0,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        Ok(named)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _none = umount2(&self.0, MntFlags::MNT_DETACH);
        let _none = fs::remove_file(&self.0);
    }
}

/// Attached, detached while watching, failed.
fn changes(ended: &Ended) -> [u64; 3] {
    ["attached", "detached", "attach_failed"].map(|what| ended.count(&format!("namespace_{what}")))
}

//! A kernel ready to boot: its image, and the few modules that the guest needs, dependencies first.
//!
//! Of a package of 55 to 170 MB this keeps some 20. Knows nothing of where packages come from.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::child;

/// Modules that a guest needs, and what for. What is built in is no module, and not missed.
const WANTED: [(&str, Need); 11] = [
    ("virtio_pci", Need::Boot),
    ("virtio_console", Need::Boot), // vmtest's agent and its command's output
    ("virtio_rng", Need::Boot),
    ("9pnet_virtio", Need::Boot),
    ("9p", Need::Boot),
    ("overlay", Need::Boot),
    ("veth", Need::Suite),
    ("sch_ingress", Need::Suite), // clsact
    ("cls_bpf", Need::Suite),
    ("sch_netem", Need::Suite),
    ("act_bpf", Need::Suite),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Boot,
    Suite,
}

/// The image and the modules, as files.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// In the order in which they have to be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// What the folder of an unpacked kernel is called when it is whole.
const IMAGE: &str = "vmlinuz";

impl Kernel {
    /// A kernel that was kept before, if it is there and whole.
    pub(crate) fn kept(folder: &Path) -> Option<Self> {
        let image = folder.join(IMAGE);
        let entries = fs::read_dir(folder.join("modules")).ok()?.flatten();
        let mut modules: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        // Their names begin with their place in the order.
        modules.sort();
        image.is_file().then_some(Self { image, modules })
    }

    /// Keeps what is needed of a tree with an image and modules in it. All or nothing: the folder
    /// appears when it is whole.
    ///
    /// # Errors
    /// When the tree holds no image, or not what it takes to boot.
    pub(crate) fn keep(tree: &Path, image: &Path, folder: &Path) -> Result<Self> {
        let found = find_modules(tree)?;
        let draft = folder.with_extension("draft");
        remove(&draft)?;
        let modules = draft.join("modules");
        fs::create_dir_all(&modules).with_context(|| modules.display().to_string())?;
        let ordered = in_load_order(&found, module_bytes)?;
        for (place, (name, bytes)) in ordered.iter().enumerate() {
            fs::write(modules.join(format!("{place:02}-{name}.ko")), bytes)?;
        }
        fs::copy(image, draft.join(IMAGE)).with_context(|| image.display().to_string())?;
        remove(folder)?;
        fs::rename(&draft, folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Self::kept(folder).context("a kernel that was just kept is not there")
    }
}

/// The one kernel image below an unpacked package.
///
/// # Errors
/// When there is none.
pub(crate) fn find_image(tree: &Path) -> Result<PathBuf> {
    let image = files(tree)?.into_iter().find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    });
    image.with_context(|| format!("{} holds no vmlinuz", tree.display()))
}

/// Unpacks packages over one another.
///
/// # Errors
/// When dpkg-deb cannot.
pub(crate) fn unpack(packages: &[PathBuf], tree: &Path) -> Result<()> {
    remove(tree)?;
    for package in packages {
        child::quiet(child::command("dpkg-deb").arg("-x").arg(package).arg(tree))?;
    }
    Ok(())
}

pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Every file below a folder; links are not followed.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Modules by name, as the kernel writes names.
fn find_modules(tree: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let named = files(tree)?.into_iter().filter_map(|path| {
        let file = path.file_name()?.to_string_lossy().into_owned();
        let name = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
            .iter()
            .find_map(|end| file.strip_suffix(end))?;
        Some((name.replace('-', "_"), path))
    });
    Ok(named.collect())
}

fn module_bytes(path: &Path) -> Result<Vec<u8>> {
    let unpacker = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| path.display().to_string()),
    };
    let mut unpack = child::command(unpacker);
    let output = child::output(unpack.arg("-dc").arg(path))?;
    if !output.status.success() {
        bail!("{unpacker} cannot unpack {}", path.display());
    }
    Ok(output.stdout)
}

/// The wanted modules and all they depend on, each after its own dependencies.
///
/// Read from the modules themselves: `modules.dep` is made when a package is installed, and these
/// never are.
fn in_load_order(
    found: &BTreeMap<String, PathBuf>,
    read: impl Fn(&Path) -> Result<Vec<u8>>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut ordered: Vec<(String, Vec<u8>)> = Vec::new();
    // Depth first; a module is put down once everything it needs is.
    let mut todo: Vec<(String, Option<Vec<u8>>)> = WANTED
        .iter()
        .rev()
        .map(|(name, _)| ((*name).to_owned(), None))
        .collect();
    while let Some((name, bytes)) = todo.pop() {
        if ordered.iter().any(|(done, _)| *done == name) {
            continue;
        }
        if let Some(bytes) = bytes {
            ordered.push((name, bytes));
            continue;
        }
        let Some(path) = found.get(&name) else {
            continue;
        };
        let bytes = read(path)?;
        let depends = depends(&bytes);
        todo.push((name, Some(bytes)));
        todo.extend(depends.into_iter().map(|name| (name, None)));
    }
    if found.is_empty()
        || !WANTED
            .iter()
            .any(|(name, need)| *need == Need::Boot && found.contains_key(*name))
    {
        bail!("none of the modules that a guest boots with are there");
    }
    Ok(ordered)
}

/// The `depends=` of a module's information section.
fn depends(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|byte| *byte == 0);
    let list = strings.find_map(|string| string.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(modules: &[(&str, &str)]) -> Vec<String> {
        let found = modules
            .iter()
            .map(|(name, _)| ((*name).to_owned(), PathBuf::from(name)));
        let read = |path: &Path| {
            let (_, depends) = modules
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .unwrap();
            Ok(format!("ELF\0license=GPL\0depends={depends}\0").into_bytes())
        };
        let ordered = in_load_order(&found.collect(), read).unwrap();
        ordered.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let ordered = order(&[
            ("9p", "9pnet,netfs"),
            ("9pnet", ""),
            ("9pnet_virtio", "virtio-ring,9pnet"),
            ("netfs", ""),
            ("virtio_ring", ""),
            ("unwanted", ""),
        ]);
        assert_eq!(ordered.len(), 5, "{ordered:?}");
        let place = |name: &str| ordered.iter().position(|one| one == name).unwrap();
        assert!(place("9pnet") < place("9p") && place("netfs") < place("9p"));
        assert!(place("virtio_ring") < place("9pnet_virtio"));
    }

    #[test]
    fn a_tree_without_bootable_modules_is_refused() {
        assert!(in_load_order(&BTreeMap::new(), |_| Ok(Vec::new())).is_err());
    }

    #[test]
    fn a_module_without_dependencies_has_none() {
        assert!(depends(b"x\0depends=\0y").is_empty());
        assert!(depends(b"").is_empty());
    }
}

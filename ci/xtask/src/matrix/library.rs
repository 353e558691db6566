//! The kernels kept in the cache, and how new ones get there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{
    kernel::{self, Kernel},
    mirror::Mirror,
    package, say,
    series::{self, Series},
};

/// The folder of kept kernels, and the mirror they come from.
pub(crate) struct Library {
    shelf: PathBuf,
    mirror: Result<Mirror>,
    index: Vec<package::Package>,
}

impl Library {
    /// Opens the library. Without a mirror, what was kept before can still be had.
    pub(crate) fn open(cache: &Path, refresh: bool) -> Self {
        let shelf = cache.join("kernels");
        let mut suites: Vec<&str> = series::ALL
            .iter()
            .flat_map(|series| series.suites)
            .copied()
            .collect();
        suites.sort_unstable();
        suites.dedup();
        let mirror = Mirror::open(&shelf.join("apt"), &suites, refresh);
        let (mirror, index) = match mirror.and_then(|mirror| Ok((mirror.kernels()?, mirror))) {
            Ok((index, mirror)) => (Ok(mirror), index),
            Err(error) => (Err(error), Vec::new()),
        };
        Self {
            shelf,
            mirror,
            index,
        }
    }

    /// The newest complete kernel of a series, fetched if it is not there.
    ///
    /// # Errors
    /// When it is neither on the mirror nor kept.
    pub(crate) fn kernel(&self, series: &Series) -> Result<Kernel> {
        let folder = self.shelf.join(series.name);
        let mirror = match &self.mirror {
            Ok(mirror) => mirror,
            Err(error) => return kept_or(&folder, &format!("{error:#}")),
        };
        let Some(newest) = package::newest(&self.index, series.name) else {
            return kept_or(&folder, "the mirror has no complete package of it");
        };
        let place = folder.join(&newest.release);
        if let Some(kernel) = Kernel::kept(&place) {
            return Ok(kernel);
        }
        let work = folder.join("download");
        std::fs::create_dir_all(&work)
            .with_context(|| format!("cannot create {}", work.display()))?;
        let packages = newest
            .packages
            .iter()
            .map(|package| mirror.download(package, &work));
        let packages = packages.collect::<Result<Vec<_>>>()?;
        say(format!("{}: unpacking {}", series.name, newest.release));
        let tree = folder.join("unpacked");
        kernel::unpack(&packages, &tree)?;
        let kernel = Kernel::keep(&tree, &kernel::find_image(&tree)?, &place)?;
        // Only what is booted stays: neither packages nor older kernels of the series.
        kernel::remove(&tree)?;
        kernel::remove(&work)?;
        for old in others(&folder, &place) {
            kernel::remove(&old)?;
        }
        Ok(kernel)
    }
}

fn others(folder: &Path, place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path != place && path.is_dir())
        .collect()
}

/// The kernel that was kept, with a line that says why it may not be the newest.
fn kept_or(folder: &Path, why: &str) -> Result<Kernel> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let kept = others(folder, Path::new("")).into_iter().find_map(|place| {
        let release = place.file_name()?.to_string_lossy().into_owned();
        Some((release, Kernel::kept(&place)?))
    });
    let Some((release, kernel)) = kept else {
        bail!("no kernel of {name} can be had: {why}");
    };
    say(format!(
        "{name}: taking {release}, which was kept, because {why}"
    ));
    Ok(kernel)
}

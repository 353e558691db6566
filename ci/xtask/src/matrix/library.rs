//! The kernels kept in the cache, and how new ones get there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{
    kernel::{self, Kernel},
    mirror::{Mirror, sources},
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
        let mirror = sources(&suites)
            .and_then(|sources| Mirror::open(&shelf.join("apt"), &sources, refresh));
        Self::of(shelf, mirror)
    }

    fn of(shelf: PathBuf, mirror: Result<Mirror>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::doctored::Repository;

    const SERIES: &Series = &series::ALL[0];

    fn library(repository: &Repository, sources: &[String]) -> Library {
        let shelf = repository.shelf();
        let mirror = Mirror::open(&shelf.join("apt"), sources, true);
        Library::of(shelf, mirror)
    }

    fn refused(library: &Library) -> String {
        match library.kernel(SERIES) {
            Ok(kernel) => panic!("{} was taken", kernel.image.display()),
            Err(error) => format!("{error:#}")
                .lines()
                .next()
                .unwrap_or_default()
                .into(),
        }
    }

    /// apt, its index and its downloads are the real ones; only the repository is ours.
    #[test]
    fn a_package_is_kept_when_it_is_that_of_the_index_and_refused_when_not() {
        let repository = Repository::make("package").unwrap();
        let kernel = library(&repository, &repository.trusted())
            .kernel(SERIES)
            .unwrap();
        assert!(kernel.image.is_file());
        assert!(kernel.modules[0].ends_with("00-virtio_pci.ko"));

        let repository = Repository::make("corrupted").unwrap();
        repository.corrupt().unwrap();
        let library = library(&repository, &repository.trusted());
        let said = refused(&library);
        assert!(
            said.starts_with("linux-image-5.10.0-99-amd64 5.10.1-1 cannot be had: ")
                && said.contains("Hash Sum mismatch"),
            "{said}"
        );
        // Nothing of it is there to be taken by the next run.
        let place = repository.shelf().join("5.10");
        assert!(Kernel::kept(&place.join("5.10.0-99-amd64")).is_none());
        let left = std::fs::read_dir(place.join("download")).unwrap().count();
        assert_eq!(left, 0);
    }

    #[test]
    fn an_index_that_nobody_signed_is_refused() {
        let repository = Repository::make("unsigned").unwrap();
        let said = refused(&library(&repository, &repository.untrusted()));
        assert!(
            said.starts_with("no kernel of 5.10 can be had: the mirror's index cannot be had"),
            "{said}"
        );
    }
}

//! What is kept of a case that failed: a folder from which somebody can find out why without running
//! it again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the folders go. Nothing is made before a case fails.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

/// Why artifacts were not kept.
#[derive(Debug, thiserror::Error)]
#[error("artifacts cannot be kept in {path}: {source}", path = path.display())]
pub struct ArtifactError {
    path: PathBuf,
    source: io::Error,
}

impl Shelf {
    /// A shelf at `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Makes the folder now, so that a path that cannot be written is known before anything runs.
    ///
    /// # Errors
    /// When it cannot be made, or holds no file.
    pub fn prepare(&self) -> Result<(), ArtifactError> {
        let mark = self.0.join(".gauntlet");
        let write = || {
            fs::create_dir_all(&self.0)?;
            fs::write(
                &mark,
                b"made by gauntlet: one folder for each failed case\n",
            )
        };
        write().map_err(|source| ArtifactError {
            path: self.0.clone(),
            source,
        })
    }

    /// An empty folder for a case, in one of this process's own. What other processes left stays beside
    /// it, for whoever wants it or takes it away; a case that this process runs again takes its place.
    pub(super) fn folder(&self, id: &str) -> Result<PathBuf, ArtifactError> {
        // So that runs at the same time keep apart.
        let run = format!("run-{}", std::process::id());
        let path = self.0.join(run).join(id.replace("::", "."));
        let make = || {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(&path)
        };
        match make() {
            Ok(()) => Ok(path),
            Err(source) => Err(ArtifactError { path, source }),
        }
    }
}

/// Writes one file of a folder.
pub(super) fn put(folder: &Path, name: &str, text: &str) -> Result<(), ArtifactError> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|source| ArtifactError { path, source })
}

/// As [`ArtifactError`], for files that others write.
pub(super) fn failed(path: PathBuf, source: io::Error) -> ArtifactError {
    ArtifactError { path, source }
}

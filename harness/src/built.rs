//! Where programs are that were built with this one.

use std::path::{Path, PathBuf};

/// Beside this program, or one folder up, where cargo puts programs when it runs tests.
pub(crate) fn folders() -> Vec<PathBuf> {
    let here = std::env::current_exe().unwrap_or_default();
    let folders = here.ancestors().skip(1).take(2);
    folders.map(Path::to_path_buf).collect()
}

//! A copy of the tree below `target/`, in which one thing at a time is changed and changed back.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::Fault;
use crate::{child, run::target_dir};

/// The tree, its copy, and where the copy is built.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) path: PathBuf,
    pub(super) built: PathBuf,
}

impl Tree {
    pub(super) fn copy(root: &Path) -> Result<Self> {
        let target = target_dir()?;
        let tree = Self {
            root: root.into(),
            path: target.join("faults/tree"),
            built: target.join("faults/build"),
        };
        // Not committed, too: what is being worked on is what should be tried.
        let mut files = child::command("git");
        files
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root);
        let files = child::quiet(&mut files)?;
        let there = |file: &&str| !file.is_empty() && root.join(file).is_file();
        let files: BTreeSet<&Path> = files.split('\0').filter(there).map(Path::new).collect();
        for file in &files {
            tree.copy_file(file)?;
        }
        tree.remove_but(&tree.path, &files)?;
        Ok(tree)
    }

    /// Removes what an earlier copy had and the tree no longer has.
    fn remove_but(&self, folder: &Path, files: &BTreeSet<&Path>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let (kind, path) = entry.and_then(|entry| Ok((entry.file_type()?, entry.path())))?;
            let file = path.strip_prefix(&self.path)?;
            if kind.is_dir() {
                self.remove_but(&path, files)?;
            } else if !files.contains(file) {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Copies a file where it differs: what did not change is not built again.
    fn copy_file(&self, file: &Path) -> Result<()> {
        let (from, to) = (self.root.join(file), self.path.join(file));
        let text = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if fs::read(&to).is_ok_and(|there| there == text) {
            return Ok(());
        }
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Does something while the fault is in the copy; or why it no longer applies.
    pub(super) fn with<T>(
        &self,
        fault: &Fault,
        act: impl FnOnce() -> T,
    ) -> Result<Result<T, String>> {
        let path = self.path.join(&fault.file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let faulty = match fault.apply(&text) {
            Ok(faulty) => faulty,
            Err(why) => return Ok(Err(why)),
        };
        let write = |text: &str| {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write(&faulty)?;
        let done = act();
        write(&text)?;
        Ok(Ok(done))
    }
}

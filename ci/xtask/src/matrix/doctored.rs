//! A Debian repository of one kernel package, made for tests: as it should be, or with a package that
//! is not the one of its index. What reads it is apt itself, and everything after it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::child;

const CONTROL: &str = "Package: linux-image-5.10.0-99-amd64\nVersion: 5.10.1-1\n\
    Architecture: amd64\nMaintainer: nobody <nobody@example.org>\nDescription: no kernel\n";
const FILE: &str = "linux-image-5.10.0-99-amd64_5.10.1-1_amd64.deb";

/// The repository and a shelf for what is taken from it; both go when this is dropped.
pub(crate) struct Repository {
    root: PathBuf,
}

impl Repository {
    pub(crate) fn make(name: &str) -> Result<Self> {
        let root = env::temp_dir().join(format!("gauntlet-doctored-{name}-{}", std::process::id()));
        let made = Self { root };
        let tree = made.root.join("tree");
        let write = |file: &str, text: &str| -> Result<()> {
            let path = made.root.join(file);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("tree/DEBIAN/control", CONTROL)?;
        write("tree/boot/vmlinuz-5.10.0-99-amd64", "no kernel")?;
        write(
            "tree/lib/modules/5.10.0-99-amd64/virtio_pci.ko",
            "ELF\0license=GPL\0depends=\0",
        )?;
        fs::create_dir_all(made.shelf())?;
        let package = made.package();
        fs::create_dir_all(package.parent().context("no folder")?)?;
        child::quiet(
            child::command("dpkg-deb")
                .args(["--root-owner-group", "-b"])
                .arg(&tree)
                .arg(&package),
        )?;
        let (size, sum) = facts(&package)?;
        let index = format!("{CONTROL}Filename: ./{FILE}\nSize: {size}\nSHA256: {sum}\n\n");
        write("repository/Packages", &index)?;
        let (size, sum) = facts(&made.root.join("repository/Packages"))?;
        let release = format!(
            "Origin: nobody\nDate: Sun, 22 Nov 2026 10:00:00 UTC\nSHA256:\n {sum} {size} Packages\n"
        );
        write("repository/Release", &release)?;
        Ok(made)
    }

    /// Where kernels may be kept.
    pub(crate) fn shelf(&self) -> PathBuf {
        self.root.join("shelf")
    }

    /// A sources.list that takes its index unsigned: who signs is apt's business, what is checked by
    /// the index is ours.
    pub(crate) fn trusted(&self) -> Vec<String> {
        vec![format!(
            "deb [arch=amd64 trusted=yes] file:{} ./",
            self.root.join("repository").display()
        )]
    }

    /// One that does not.
    pub(crate) fn untrusted(&self) -> Vec<String> {
        self.trusted()
            .iter()
            .map(|line| line.replace(" trusted=yes", ""))
            .collect()
    }

    /// Changes one byte of the package; its size stays.
    pub(crate) fn corrupt(&self) -> Result<()> {
        let mut bytes = fs::read(self.package())?;
        *bytes.last_mut().context("an empty package")? ^= 1;
        Ok(fs::write(self.package(), bytes)?)
    }

    fn package(&self) -> PathBuf {
        self.root.join("repository").join(FILE)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // A test that failed has told already.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Size and SHA256.
fn facts(file: &Path) -> Result<(u64, String)> {
    let sum = child::quiet(child::command("sha256sum").arg("-b").arg(file))?;
    let sum = sum.split_whitespace().next().context("no sum")?.to_owned();
    Ok((fs::metadata(file)?.len(), sum))
}

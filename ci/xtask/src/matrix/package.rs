//! Which packages are the newest complete kernel of a series, by what a package index says.
//! Downloads nothing.

/// One package as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// A kernel and the packages that hold its image and its modules.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `uname -r` of it: `6.1.0-50-amd64`.
    pub(crate) release: String,
    pub(crate) packages: Vec<Package>,
}

/// Reads the paragraphs of an index, as `apt-cache dumpavail` prints them.
pub(crate) fn read_index(text: &str) -> Vec<Package> {
    let paragraphs = text
        .split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.filter_map(read_paragraph).collect()
}

fn read_paragraph(paragraph: &str) -> Option<Package> {
    let field = |name: &str| {
        let mut lines = paragraph.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::trim))
    };
    Some(Package {
        name: field("Package")?.to_owned(),
        version: field("Version")?.to_owned(),
        sha256: field("SHA256")?.to_owned(),
        size: field("Size")?.parse().ok()?,
    })
}

/// The newest kernel of `series` (`6.1`) of which both image and modules are there.
///
/// Up to 6.18, `linux-image-V` holds both. From 6.19 on it is empty, and `linux-binary-V` and
/// `linux-modules-V` hold them. Only the plain flavour is taken: the cloud flavour has no 9p.
pub(crate) fn newest(index: &[Package], series: &str) -> Option<Kernel> {
    let split = is_split(series)?;
    let first = if split {
        "linux-binary-"
    } else {
        "linux-image-"
    };
    let candidates = index.iter().filter_map(|package| {
        let release = package.name.strip_prefix(first)?;
        let packages = if split {
            let modules = format!("linux-modules-{release}");
            let modules = index.iter().find(|package| package.name == modules)?;
            vec![package.clone(), modules.clone()]
        } else {
            vec![package.clone()]
        };
        is_plain(release, series).then(|| Kernel {
            release: release.to_owned(),
            packages,
        })
    });
    candidates.max_by(|one, other| numbers(&one.release).cmp(&numbers(&other.release)))
}

fn is_split(series: &str) -> Option<bool> {
    let (major, minor) = series.split_once('.')?;
    Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?) >= (6, 19))
}

/// `6.1.0-50-amd64` and `6.12.107+deb13-amd64`, but no cloud, rt or unsigned flavour.
fn is_plain(release: &str, series: &str) -> bool {
    let Some(rest) = release
        .strip_prefix(series)
        .and_then(|rest| rest.strip_prefix('.'))
    else {
        return false;
    };
    rest.strip_suffix("-amd64").is_some_and(|version| {
        version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".-+deb".contains(&byte))
    })
}

/// Versions compare as the numbers in them: 6.12.94 comes before 6.12.107.
fn numbers(release: &str) -> Vec<u64> {
    let digits = release.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1".into(),
            sha256: "00".into(),
            size: 1,
        }
    }

    fn newest_of(names: &[&str], series: &str) -> Option<String> {
        let index: Vec<Package> = names.iter().map(|name| package(name)).collect();
        newest(&index, series).map(|kernel| kernel.release)
    }

    #[test]
    fn newest_is_by_number_and_plain() {
        let names = [
            "linux-image-6.12.94+deb13-amd64",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-6.12.108+deb13-cloud-amd64",
            "linux-image-6.12.108+deb13-rt-amd64",
            "linux-image-6.12.108+deb13-amd64-unsigned",
            "linux-image-6.12.108+deb13-amd64-dbg",
            "linux-image-6.18.1+deb13-amd64",
        ];
        assert_eq!(newest_of(&names, "6.12").unwrap(), "6.12.107+deb13-amd64");
        assert_eq!(newest_of(&names, "6.1"), None, "6.12 is no 6.1");
        let names = ["linux-image-5.10.0-9-amd64", "linux-image-5.10.0-32-amd64"];
        assert_eq!(newest_of(&names, "5.10").unwrap(), "5.10.0-32-amd64");
    }

    #[test]
    fn a_kernel_without_modules_is_passed_over() {
        let names = [
            "linux-image-7.2.13+deb13-amd64",
            "linux-binary-7.2.13+deb13-amd64",
            "linux-binary-7.2.12+deb13-amd64",
            "linux-modules-7.2.12+deb13-amd64",
        ];
        assert_eq!(newest_of(&names, "7.2").unwrap(), "7.2.12+deb13-amd64");
        assert_eq!(newest_of(&names[..3], "7.2"), None);
    }

    #[test]
    fn an_index_is_read_paragraph_by_paragraph() {
        let text = "Package: a\nVersion: 1.0-1\nDescription: x\n SHA256: no\nSize: 12\nSHA256: ab\n\nPackage: b\n\n";
        let read = read_index(text);
        assert_eq!(read.len(), 1, "b is incomplete");
        assert_eq!((read[0].sha256.as_str(), read[0].size), ("ab", 12));
    }
}

//! What becomes of the arguments that vmtest gives to QEMU.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::protocol::{RESULTS_TAG, TERMINAL, Terminal};

/// The emulator proper.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Beside the kernel's folder: which accelerator `cargo xtask matrix` found to work.
pub const ACCELERATOR: &str = "../accelerator";

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: works everywhere, some ten times slower.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// QEMU's arguments for it.
    #[must_use]
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Newer models have more instructions, all of which would be emulated.
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "qemu64"],
        }
    }

    /// What the file [`ACCELERATOR`] says. TCG without it, since `/dev/kvm` may exist and not work.
    #[must_use]
    pub fn read(kernel_folder: &Path) -> Self {
        match std::fs::read_to_string(kernel_folder.join(ACCELERATOR)) {
            Ok(name) if name.trim() == Self::Kvm.name() => Self::Kvm,
            _ => Self::Tcg,
        }
    }
}

/// The folder of the kernel that is to be booted: everything of a target is in it. `None` for
/// anything but a boot, such as `--help`.
#[must_use]
pub fn kernel_folder(arguments: &[OsString]) -> Option<PathBuf> {
    let at = arguments
        .iter()
        .position(|argument| argument == "-kernel")?;
    Some(Path::new(arguments.get(at + 1)?).parent()?.to_path_buf())
}

/// The arguments that QEMU really gets.
#[must_use]
pub fn rewrite(
    arguments: &[OsString],
    folder: &Path,
    accelerator: Accelerator,
    terminal: Option<&Terminal>,
) -> Vec<OsString> {
    let mut rewritten: Vec<OsString> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().map(OsString::as_os_str).unwrap_or_default();
        match argument.to_str() {
            // vmtest takes KVM whenever /dev/kvm exists.
            Some("-enable-kvm") => {}
            Some("-cpu") => drop(value()),
            Some("-virtfs") => rewritten.extend(["-virtfs".into(), read_only(value())]),
            Some("-serial") if value() == "mon:stdio" => {
                let mut console = OsString::from("stdio,id=console,mux=on,signal=off,logfile=");
                console.push(folder.join("console.log"));
                rewritten.extend(["-chardev".into(), console]);
                rewritten.extend(["-serial", "chardev:console"].map(OsString::from));
                rewritten.extend(["-mon", "chardev=console,mode=readline"].map(OsString::from));
            }
            _ => rewritten.push(argument.clone()),
        }
    }
    rewritten.extend(accelerator.arguments().map(OsString::from));
    // Without it, 5.10 waits minutes for its first random number.
    rewritten.extend(["-device", "virtio-rng-pci"].map(OsString::from));
    let mut results = OsString::from("local,id=results,path=");
    results.push(folder.join("results"));
    results.push(format!(
        ",mount_tag={RESULTS_TAG},security_model=none,multidevs=remap"
    ));
    rewritten.extend(["-virtfs".into(), results]);
    if let Some(terminal) = terminal {
        // A comma in a value is written twice.
        let socket = terminal.socket.replace(',', ",,");
        rewritten.extend([
            "-chardev".into(),
            format!("socket,id=terminal,path={socket},server=on,wait=off").into(),
            "-serial".into(),
            "chardev:terminal".into(),
        ]);
    }
    rewritten
}

/// The terminal that somebody sits at, where one was left for this boot.
#[must_use]
pub fn terminal(kernel_folder: &Path) -> Option<Terminal> {
    let text = std::fs::read_to_string(kernel_folder.join("results").join(TERMINAL)).ok()?;
    Terminal::from_text(&text)
}

/// vmtest exports the host's root writable, and leaves it to the guest not to write.
fn read_only(share: &OsStr) -> OsString {
    let mut share = share.to_owned();
    if !share.to_string_lossy().contains("readonly=on") {
        share.push(",readonly=on");
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    const VMTEST: [&str; 15] = [
        "-nodefaults",
        "-serial",
        "mon:stdio",
        "-enable-kvm",
        "-cpu",
        "host",
        "-virtfs",
        "local,id=root,path=/,mount_tag=/dev/root,security_model=none",
        "-kernel",
        "m/5.10/vmlinuz",
        "-no-reboot",
        "-virtfs",
        "local,id=shared,path=.,mount_tag=vmtest-shared,readonly=on",
        "-m",
        "2G",
    ];

    #[test]
    fn every_share_but_the_results_is_read_only() {
        let arguments = strings(&VMTEST);
        let folder = kernel_folder(&arguments).unwrap();
        assert_eq!(folder, Path::new("m/5.10"));
        let rewritten = rewrite(&arguments, &folder, Accelerator::Tcg, None);
        let shares: Vec<_> = rewritten
            .windows(2)
            .filter(|pair| pair[0] == "-virtfs")
            .map(|pair| pair[1].to_string_lossy().into_owned())
            .collect();
        assert_eq!(shares.len(), 3);
        assert!(
            shares[..2]
                .iter()
                .all(|share| share.matches("readonly=on").count() == 1)
        );
        assert!(shares[2].starts_with("local,id=results,path=m/5.10/results,"));
    }

    #[test]
    fn the_accelerator_is_ours_to_choose() {
        let rewritten = rewrite(
            &strings(&VMTEST),
            Path::new("m/5.10"),
            Accelerator::Tcg,
            None,
        );
        assert!(
            !rewritten
                .iter()
                .any(|argument| argument == "-enable-kvm" || argument == "host")
        );
        assert!(
            rewritten
                .iter()
                .any(|argument| argument == "tcg,thread=multi")
        );
        assert!(
            rewritten.iter().any(|argument| argument == "2G"),
            "the rest is kept"
        );
    }

    #[test]
    fn the_console_is_kept_in_a_file_and_still_shown() {
        let terminal = Terminal {
            socket: "/a,b".into(),
            size: (24, 80),
            kind: "xterm".into(),
        };
        let kvm = |terminal| {
            rewrite(
                &strings(&VMTEST),
                Path::new("m/5.10"),
                Accelerator::Kvm,
                terminal,
            )
        };
        let serial = |rewritten: &[OsString]| {
            let lines = rewritten.iter().filter(|argument| *argument == "-serial");
            lines.count()
        };
        let rewritten = kvm(Some(&terminal));
        assert_eq!(serial(&rewritten), 2, "the console is the first");
        assert!(
            rewritten
                .iter()
                .any(|argument| argument == "socket,id=terminal,path=/a,,b,server=on,wait=off")
        );
        let rewritten = kvm(None);
        assert_eq!(serial(&rewritten), 1);
        assert!(rewritten.iter().any(|argument| {
            argument == "stdio,id=console,mux=on,signal=off,logfile=m/5.10/console.log"
        }));
        assert!(!rewritten.iter().any(|argument| argument == "mon:stdio"));
    }

    #[test]
    fn without_a_kernel_there_is_nothing_to_rewrite() {
        assert_eq!(kernel_folder(&strings(&["--help"])), None);
        assert_eq!(kernel_folder(&strings(&["-kernel"])), None);
    }
}

//! What runs BPF programs in this kernel: its compiler or its interpreter, which are two implementations of the same
//! instructions. Refuses to guess: a kernel without an interpreter says so (CONFIG_BPF_JIT_ALWAYS_ON,
//! `Documentation/admin-guide/sysctl/net.rst`).

use std::{fs, io};

/// 0: interpreted; 1 and 2: compiled. Read whenever a program is loaded, for the whole kernel.
const ENABLED: &str = "/proc/sys/net/core/bpf_jit_enable";

/// What runs programs that are loaded now, in a word.
#[must_use]
pub fn now() -> &'static str {
    match fs::read_to_string(ENABLED).as_deref().map(str::trim) {
        Ok("0") => "interpreter",
        Ok(_) => "JIT",
        Err(_) => "JIT not known",
    }
}

/// As long as it lives, programs are loaded for the interpreter. Needs root.
#[derive(Debug)]
pub struct Interpreted {
    before: String,
}

impl Interpreted {
    /// Switches the JIT off.
    ///
    /// # Errors
    /// Why there is no interpreter: the kernel was built without, or the setting may not be changed.
    pub fn begin() -> Result<Self, String> {
        let said = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidInput => {
                "this kernel has none (CONFIG_BPF_JIT_ALWAYS_ON)".to_owned()
            }
            _ => format!("{ENABLED}: {error}"),
        };
        let before = fs::read_to_string(ENABLED).map_err(said)?;
        fs::write(ENABLED, "0").map_err(said)?;
        Ok(Self { before })
    }
}

impl Drop for Interpreted {
    fn drop(&mut self) {
        if let Err(error) = fs::write(ENABLED, &self.before) {
            eprintln!("{ENABLED} stays 0: {error}");
        }
    }
}

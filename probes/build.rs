//! Compiles the BPF programs and hands their objects to the crate (`GAUNTLET_OBJECT`,
//! `GAUNTLET_LIBRARY_OBJECT`, `GAUNTLET_BENCH_OBJECT`).
//!
//! Wants the `rust-src` component and bpf-linker, which `cargo xtask setup` installs; the linker is
//! looked for where setup puts it, then on PATH. `GAUNTLET_BPF_LINKER=FILE` names another.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const LINKER_VERSION: &str = "0.13.0";
const SETUP: &str = "run `cargo xtask setup`, which installs what is missing";

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let ebpf = manifest
        .parent()
        .map(|top| top.join("ebpf"))
        .expect("probes/ is inside the repository");
    for path in [
        "wire/src",
        "wire/Cargo.toml",
        "programs/src",
        "programs/Cargo.toml",
        "programs/Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", ebpf.join(path).display());
    }
    for name in ["GAUNTLET_BPF_LINKER", "XDG_CACHE_HOME", "HOME"] {
        println!("cargo:rerun-if-env-changed={name}");
    }

    let rustc = variable("RUSTC");
    let linker = linker(&rustc);
    if !Path::new(&sysroot(&rustc))
        .join("lib/rustlib/src/rust/library/core")
        .is_dir()
    {
        fail("the rust-src component is missing");
    }
    let target = PathBuf::from(variable("OUT_DIR")).join("bpf");
    let objects = target.join("bpfel-unknown-none/release");
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".into(), // line info: a verifier's refusal names our source
        "-Cdebuginfo=2".into(),
        "-Cpanic=abort".into(),
    ];
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(ebpf.join("programs"))
        .args(["build", "--quiet", "--release", "--locked"])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Zbuild-std=core",
            "--target-dir",
        ])
        .arg(&target);
    if env::var_os("CARGO_FEATURE_PLANTED_REFUSAL").is_some() {
        cargo.args(["--features", "planted-refusal"]);
    }
    // This build script's own environment speaks of the host crate: flags, wrappers, profile.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_")
            && name != "CARGO_HOME"
            && !name.starts_with("CARGO_NET_")
            && !name.starts_with("CARGO_HTTP_")
            && !name.starts_with("CARGO_REGISTR")
            && !name.starts_with("CARGO_SOURCE_")
            || name.starts_with("RUSTC")
            || name == "RUSTFLAGS"
            || name == "RUSTDOCFLAGS"
        {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .env("RUSTC", &rustc)
        .env("RUSTC_BOOTSTRAP", "1") // -Zbuild-std and asm! for BPF on a stable compiler
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(_) => fail("the BPF programs do not build (see above)"),
        Err(error) => fail(&format!(
            "cargo cannot be started for the BPF programs: {error}"
        )),
    }
    for (variable, object) in [
        ("GAUNTLET_OBJECT", "gauntlet"),
        ("GAUNTLET_LIBRARY_OBJECT", "library"),
        ("GAUNTLET_BENCH_OBJECT", "bench"),
    ] {
        println!(
            "cargo:rustc-env={variable}={}",
            objects.join(object).display()
        );
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn output(program: &str, argument: &[&str]) -> String {
    match Command::new(program).args(argument).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => fail(&format!("{program} {} failed", argument.join(" "))),
    }
}

fn sysroot(rustc: &str) -> String {
    output(rustc, &["--print", "sysroot"])
}

/// The linker must have been built for this very compiler's LLVM, so its version is in the path.
fn linker(rustc: &str) -> PathBuf {
    if let Some(named) = env::var_os("GAUNTLET_BPF_LINKER") {
        return named.into();
    }
    let banner = output(rustc, &["--version"]);
    let version = banner
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| fail("rustc does not tell its version"));
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let ours = cache.map(|cache| {
        cache.join(format!(
            "gauntlet/bpf-linker-{LINKER_VERSION}-rustc-{version}/bin/bpf-linker"
        ))
    });
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| {
        env::split_paths(&path)
            .map(|folder| folder.join("bpf-linker"))
            .collect::<Vec<_>>()
    });
    ours.into_iter()
        .chain(on_path)
        .find(|file| file.is_file())
        .unwrap_or_else(|| fail("bpf-linker is missing"))
}

fn fail(what: &str) -> ! {
    println!("cargo:warning={what}: {SETUP}");
    eprintln!("{what}: {SETUP}");
    exit(1)
}

//! `cargo xtask matrix`: the suite on real kernels. Not built yet: this says so,
//! and runs nothing that could be taken for a result.

use crate::exit;

pub(crate) fn run(kernels: &[String], filters: &[String]) -> u8 {
    let kernels = if kernels.is_empty() {
        "real kernels".to_owned()
    } else {
        kernels.join(", ")
    };
    let instead = ["cargo xtask run"]
        .into_iter()
        .chain(filters.iter().map(String::as_str));
    let instead = instead.collect::<Vec<_>>().join(" ");
    eprintln!(
        "xtask: running on {kernels} in a VM is not built yet, nothing was run; on this machine's kernel: {instead}"
    );
    exit::NO_VERDICT
}

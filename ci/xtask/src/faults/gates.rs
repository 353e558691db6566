//! `cargo xtask faults --gates`: a gate that cannot go red is worth nothing. Each fault of `faults/gates/` is put into a
//! copy of the tree, whose own `cargo xtask test GATE` must then be red, for the reason that the fault's file gives.
//!
//! Not for `setup` and `bpf`, which tell of the machine and not of the tree.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};

use super::{Fault, tree::Tree};
use crate::{child, exit};

/// What became of one.
enum Fate {
    Red,
    /// The gate was green, or red for another reason; what it said last.
    Missed(String),
    /// It shows nothing, for this reason.
    Void(String),
}

pub(super) fn run(root: &Path, faults: &[(String, Fault)]) -> Result<u8> {
    let tree = Tree::copy(root)?;
    let (mut missed, mut void) = (0, 0);
    for (name, fault) in faults {
        let start = Instant::now();
        let fate = tree.with(fault, || fate(&tree, fault))?;
        let fate = fate.unwrap_or_else(|why| Ok(Fate::Void(why)))?;
        let took = start.elapsed().as_secs_f64();
        let gate = fault.gates.last().map_or("", String::as_str);
        match fate {
            Fate::Red => println!("{name}: {gate} is red ({}), {took:.0} s", fault.says),
            Fate::Missed(said) => {
                missed += 1;
                println!(
                    "{name}: NOT NOTICED by {gate}: {}; it said: {said}",
                    fault.what
                );
            }
            Fate::Void(why) => {
                void += 1;
                println!("{name}: shows nothing: {why}");
            }
        }
    }
    let total = faults.len();
    println!(
        "{total} faults for gates: {} noticed, {missed} not, {void} show nothing",
        total - missed - void
    );
    Ok(match (missed, void) {
        (0, 0) if total > 0 => exit::OK,
        _ => exit::UNEXPECTED,
    })
}

fn fate(tree: &Tree, fault: &Fault) -> Result<Fate> {
    // What a fault leaves behind on purpose goes with this.
    let temporary = tree.built.join("tmp");
    fs::create_dir_all(&temporary)
        .with_context(|| format!("cannot create {}", temporary.display()))?;
    let mut test = child::cargo();
    test.args(["xtask", "test"])
        .args(&fault.gates)
        .current_dir(&tree.path)
        .env("CARGO_TARGET_DIR", &tree.built)
        .env("TMPDIR", &temporary);
    let output = child::output(&mut test)?;
    fs::remove_dir_all(&temporary)
        .with_context(|| format!("cannot remove {}", temporary.display()))?;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Ok(judged(fault, output.status.code(), &said.concat()))
}

/// Red, by the gate that should be, for the reason that it should have.
fn judged(fault: &Fault, code: Option<i32>, said: &str) -> Fate {
    let gate = fault.gates.last().map_or("", String::as_str);
    let is_red = said.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(gate) && words.next() == Some("FAILED")
    });
    if code == Some(exit::UNEXPECTED.into()) && is_red && said.contains(&fault.says) {
        return Fate::Red;
    }
    let last = said.trim_end().lines().last().unwrap_or_default();
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(exit::OK | exit::UNEXPECTED) => Fate::Missed(last.to_owned()),
        // Nothing was judged, nothing is shown: xtask itself does not build, for one.
        _ => Fate::Void(last.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gates, paths};

    #[test]
    fn every_gate_has_a_fault_that_still_applies() {
        let root = paths::repo_root();
        let faults = super::super::read(&root.join("faults/gates")).unwrap();
        for (name, fault) in &faults {
            let text = fs::read_to_string(root.join(&fault.file)).unwrap();
            fault
                .apply(&text)
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(fault.cases.is_empty() && !fault.what.is_empty(), "{name}");
            assert!(!fault.gates.is_empty() && !fault.says.is_empty(), "{name}");
        }
        // These two are about the machine.
        for gate in gates::names().filter(|name| !["setup", "bpf"].contains(name)) {
            let has = |fault: &Fault| fault.gates.last().is_some_and(|last| last == gate);
            assert!(faults.iter().any(|(_, fault)| has(fault)), "{gate}");
        }
    }

    #[test]
    fn only_the_right_red_counts() {
        let fault = Fault {
            what: "x".into(),
            file: "x".into(),
            find: "a".into(),
            put: "b".into(),
            cases: vec![],
            gates: vec!["fmt".into(), "docs".into()],
            says: "unresolved link".into(),
        };
        let table = "error: unresolved link\ndocs         FAILED        1.0\n0 passed, 1 failed";
        let is_red = |code, said: &str| matches!(judged(&fault, Some(code), said), Fate::Red);
        assert!(is_red(1, table));
        assert!(!is_red(0, table) && !is_red(2, table));
        assert!(!is_red(1, &table.replace("unresolved", "another")));
        assert!(!is_red(1, &table.replace("docs  ", "fmt  ")));
    }
}

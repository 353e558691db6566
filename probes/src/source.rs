//! Where in the source a verifier stopped: from the number of the instruction in its log, by the lines
//! that the object carries. Kernels before 6.10 print a line's text at most, and not whose it is.

use std::collections::HashSet;

use aya_obj::Object;
use aya_obj::generated::bpf_line_info;

use crate::object::OBJECT;

/// `FILE:LINE` of the instruction of `program` that `log`, a verifier's whole log, looks at last. `None`
/// where the log numbers no instruction.
#[must_use]
pub fn of_refusal(program: &str, log: &str) -> Option<String> {
    let instruction = last_instruction(log)?;
    let mut object = Object::parse(OBJECT).ok()?;
    let sections = object.functions.keys().map(|(section, _)| *section);
    let texts: HashSet<usize> = sections.collect();
    // Functions that it calls are numbered after it, as the kernel got them.
    object.relocate_calls(&texts).ok()?;
    let key = object.programs.get(program)?.function_key();
    let lines = &object.functions.get(&key)?.line_info.line_info;
    let line = line_of(lines, instruction)?;
    let bytes = object.btf.as_ref()?.to_bytes();
    let file = string(&bytes, line.file_name_off)?;
    // Its upper bits are the line, the lower ten the column.
    Some(format!("{file}:{}", line.line_col >> 10))
}

/// The verifier numbers each instruction it looks at: `12: (85) call unknown#208`.
fn last_instruction(log: &str) -> Option<u32> {
    log.lines().rev().find_map(|line| {
        let (number, rest) = line.split_once(": (")?;
        rest.get(2..3).filter(|end| *end == ")")?;
        number.parse().ok()
    })
}

/// A line's entry is for its first instruction.
fn line_of(lines: &[bpf_line_info], instruction: u32) -> Option<&bpf_line_info> {
    let before = lines.iter().filter(|line| line.insn_off <= instruction);
    before.max_by_key(|line| line.insn_off)
}

/// A string of BTF, whose header says where strings begin (Documentation/bpf/btf.rst).
fn string(btf: &[u8], offset: u32) -> Option<&str> {
    const HEADER_LENGTH: usize = 4;
    const STRINGS_OFFSET: usize = 16;
    let number = |at: usize| {
        let bytes = btf.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(bytes)).ok()
    };
    let start = number(HEADER_LENGTH)? + number(STRINGS_OFFSET)? + usize::try_from(offset).ok()?;
    let rest = btf.get(start..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_instruction_is_the_last_the_verifier_numbered() {
        let log = "0: R1=ctx(id=0,off=0,imm=0) R10=fp0\n; fun()\n0: (bf) r6 = r1\n\
            117: (85) call unknown#208\ninvalid func unknown#208\nprocessed 2 insns (limit 1000000)\n";
        assert_eq!(last_instruction(log), Some(117));
        assert_eq!(last_instruction("Permission denied\n"), None);
    }

    #[test]
    fn an_instruction_belongs_to_the_line_that_began_before_it() {
        let line = |insn_off, line: u32| bpf_line_info {
            insn_off,
            file_name_off: 0,
            line_off: 0,
            line_col: line << 10 | 5,
        };
        let lines = [line(0, 10), line(4, 20), line(9, 30)];
        let found = |instruction| line_of(&lines, instruction).map(|line| line.line_col >> 10);
        assert_eq!(
            (found(0), found(8), found(100)),
            (Some(10), Some(20), Some(30))
        );
        assert!(line_of(&[], 0).is_none());
    }

    #[test]
    fn strings_are_found_behind_the_header() {
        let mut btf = vec![0; 24];
        btf[4..8].copy_from_slice(&24_u32.to_ne_bytes());
        btf[16..20].copy_from_slice(&2_u32.to_ne_bytes());
        btf.extend(b"ty\0flow.rs\0");
        assert_eq!(string(&btf, 1), Some("flow.rs"));
        assert_eq!(string(&btf, 100), None);
        assert_eq!(string(&[], 0), None);
    }

    /// The object that is shipped, whatever its lines are: its first instruction has one.
    #[test]
    fn the_shipped_programs_have_lines() {
        let families = [crate::object::INTERFACE, crate::object::CGROUP];
        for program in families.into_iter().flat_map(crate::object::Family::all) {
            let found = of_refusal(program, "0: (bf) r6 = r1\n").unwrap();
            let (file, line) = found.rsplit_once(':').unwrap();
            assert!(
                file.ends_with(".rs") && line.parse::<u32>().unwrap() > 0,
                "{found}"
            );
        }
        assert_eq!(of_refusal("nobody", "0: (bf) r6 = r1\n"), None);
    }
}

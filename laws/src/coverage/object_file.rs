//! The programs' ELF object with a mark in each block. What debuggers read is left out: it would tell of places
//! where nothing is any more. What the kernel's verifier and the loader read is moved along.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use object::build::elf::{
    Builder, Relocation, Section as ElfSection, SectionData, SectionId, SymbolId,
};
use object::elf;

use super::Unusable;
use super::blocks::{self, Block, instructions};
use super::instruction::{Instruction, SLOT};
use super::lines::{self, Kind, Line, Lines};
use super::rewrite::{self, Layout};

/// The section of marks, which the loader makes a map of.
pub(super) const MARKS: &str = ".bss.coverage";
/// How many there is room for: a map's value has a type of one size.
pub(super) const ROOM: usize = 1 << 14;

/// elf.h has no names for them.
const R_BPF_64_64: u32 = 1;
const SHF_INFO_LINK: u64 = 0x40;

/// A block, by whose number its mark is found.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The function that it is of.
    pub function: String,
    /// How many instructions of each line it has.
    pub lines: BTreeMap<Line, u32>,
    /// It has a mark.
    pub has_mark: bool,
}

impl Measured {
    /// How many instructions it has.
    #[must_use]
    pub fn instructions(&self) -> u32 {
        self.lines.values().sum()
    }
}

/// An object that marks where its programs were.
#[derive(Debug)]
pub struct Instrumented {
    /// The ELF file.
    pub object: Vec<u8>,
    /// Its blocks; each one's number is its byte in `MARKS`.
    pub blocks: Vec<Measured>,
}

/// A section of code.
struct Section {
    id: SectionId,
    name: String,
    code: Vec<Instruction>,
    functions: Vec<(String, Range<usize>)>,
    layout: Layout,
}

/// Puts a mark into each block of every function.
///
/// # Errors
/// [`Unusable`].
pub fn instrument(file: &[u8]) -> Result<Instrumented, Unusable> {
    let mut builder = Builder::read(file)?;
    let data = |name: &str| section_data(&builder, name);
    let (btf, ext) = (data(".BTF")?, data(".BTF.ext")?);
    let told = lines::lines(&btf, &ext)?;
    let mut measured = Vec::new();
    let mut sections = Vec::new();
    for (id, name, code) in code_sections(&builder)? {
        sections.push(section(&builder, id, name, code, &told, &mut measured)?);
    }
    if measured.len() > ROOM {
        let blocks = measured.len();
        return Err(Unusable(format!("{blocks} blocks, and room for {ROOM}")));
    }
    let moved = lines::moved(&btf, &ext, |name, offset, kind| {
        let section = sections.iter().find(|section| section.name == name);
        let section = section.ok_or_else(|| Unusable(format!("lines of no section, {name}")))?;
        section.layout.moved(
            offset,
            match kind {
                Kind::Beginning => Layout::entry,
                Kind::Instruction => Layout::instruction,
            },
        )
    })?;
    refuse_addresses(&builder, &sections)?;
    drop_debug(&mut builder);
    name_sections(&mut builder);
    let marks = add_marks(&mut builder);
    for section in &sections {
        relocate(&mut builder, section, marks)?;
        let relocated = relocated(&builder, section.id);
        let slot = |slot: usize| {
            section
                .layout
                .instruction(slot)
                .map(|at| (at * SLOT) as u64)
        };
        let is_relocated = |at| slot(at).is_some_and(|at| relocated.contains(&at));
        let code = rewrite::rewritten(&section.code, &section.layout, is_relocated)?;
        builder.sections.get_mut(section.id).data = SectionData::Data(code.into());
        move_symbols(&mut builder, section)?;
    }
    for section in &mut builder.sections {
        if &*section.name == b".BTF.ext" {
            section.data = SectionData::Data(moved.clone().into());
        }
    }
    let mut object = Vec::new();
    builder.write(&mut object)?;
    Ok(Instrumented {
        object,
        blocks: measured,
    })
}

fn section_data(builder: &Builder<'_>, name: &str) -> Result<Vec<u8>, Unusable> {
    let named = builder
        .sections
        .iter()
        .find(|section| &*section.name == name.as_bytes());
    match named.map(|section| &section.data) {
        Some(SectionData::Data(bytes)) => Ok(bytes.to_vec()),
        _ => Err(Unusable(format!("no section {name}"))),
    }
}

fn code_sections(
    builder: &Builder<'_>,
) -> Result<Vec<(SectionId, String, Vec<Instruction>)>, Unusable> {
    let mut sections = Vec::new();
    for section in &builder.sections {
        if section.sh_flags & u64::from(elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        if let SectionData::Data(bytes) = &section.data {
            let name = String::from_utf8_lossy(&section.name).into_owned();
            sections.push((section.id(), name, rewrite::read(bytes)?));
        }
    }
    Ok(sections)
}

/// Finds a section's functions and their blocks, which get the next numbers.
fn section(
    builder: &Builder<'_>,
    id: SectionId,
    name: String,
    code: Vec<Instruction>,
    told: &Lines,
    measured: &mut Vec<Measured>,
) -> Result<Section, Unusable> {
    let mut functions = Vec::new();
    for symbol in &builder.symbols {
        if symbol.section == Some(id) && symbol.st_type() == elf::STT_FUNC {
            let (start, size) = (symbol.st_value as usize, symbol.st_size as usize);
            let name = String::from_utf8_lossy(&symbol.name).into_owned();
            functions.push((name, start / SLOT..(start + size) / SLOT));
        }
    }
    functions.sort_by_key(|(_, slots)| slots.start);
    let mut expected = 0;
    let mut numbered: Vec<(i32, Block)> = Vec::new();
    for (function, slots) in &functions {
        if slots.start != expected || slots.end > code.len() {
            return Err(Unusable(format!(
                "{function} is not where the one before ends"
            )));
        }
        expected = slots.end;
        let blocks = blocks::blocks(&code, slots.clone())
            .map_err(|Unusable(why)| Unusable(format!("{function}: {why}")))?;
        for block in blocks {
            let mut lines = BTreeMap::new();
            for (slot, _) in instructions(&code, block.slots.clone()) {
                *lines.entry(line(told, &name, slot)).or_default() += 1;
            }
            // As many as there is room for: more are refused before anything is loaded.
            numbered.push((measured.len() as i32, block.clone()));
            measured.push(Measured {
                function: function.clone(),
                lines,
                has_mark: block.mark.is_some(),
            });
        }
    }
    if expected != code.len() {
        return Err(Unusable(format!("code of no function in {name}")));
    }
    let numbered = numbered.iter().map(|(number, block)| (*number, block));
    let layout = Layout::new(code.len(), numbered);
    Ok(Section {
        id,
        name,
        code,
        functions,
        layout,
    })
}

fn line(told: &Lines, section: &str, slot: usize) -> Line {
    let before = told
        .get(section)
        .and_then(|lines| lines.range(..=(slot * SLOT) as u64).next_back());
    before.map_or_else(
        || Line {
            file: "(no line)".into(),
            number: 0,
        },
        |(_, line)| line.clone(),
    )
}

/// What tells debuggers of the code, and its relocations.
fn drop_debug(builder: &mut Builder<'_>) {
    for section in &mut builder.sections {
        let name = &*section.name;
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
}

/// The compiler has sections' names among those of symbols, which the crate that writes does not.
fn name_sections(builder: &mut Builder<'_>) {
    let is_names = |section: &ElfSection<'_>| matches!(section.data, SectionData::SectionString);
    if !builder.sections.iter().any(is_names) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
}

/// The section of marks and its symbol.
fn add_marks(builder: &mut Builder<'_>) -> SymbolId {
    let section = builder.sections.add();
    section.name = MARKS.into();
    section.sh_type = elf::SHT_NOBITS;
    section.sh_flags = u64::from(elf::SHF_ALLOC | elf::SHF_WRITE);
    section.sh_addralign = 8;
    section.data = SectionData::UninitializedData(ROOM as u64);
    let section = section.id();
    let symbol = builder.symbols.add();
    symbol.name = "COVERAGE".into();
    symbol.set_st_info(elf::STB_GLOBAL, elf::STT_OBJECT);
    symbol.section = Some(section);
    symbol.st_size = ROOM as u64;
    symbol.id()
}

/// Moves a section's relocations along, and adds one for each mark.
fn relocate(builder: &mut Builder<'_>, section: &Section, marks: SymbolId) -> Result<(), Unusable> {
    let ours = relocations_of(builder, section.id);
    let ours = ours.unwrap_or_else(|| add_relocations(builder, section));
    let SectionData::Relocation(relocations) = &mut builder.sections.get_mut(ours).data else {
        return Err(Unusable(format!(
            "no relocations in those of {}",
            section.name
        )));
    };
    for relocation in relocations.iter_mut() {
        relocation.r_offset = section
            .layout
            .moved(relocation.r_offset, Layout::instruction)?;
    }
    relocations.extend(section.layout.marks().map(|slot| Relocation {
        r_offset: (slot * SLOT) as u64,
        symbol: Some(marks),
        r_type: R_BPF_64_64,
        r_addend: 0,
    }));
    relocations.sort_by_key(|relocation| relocation.r_offset);
    Ok(())
}

/// Where code is told of by its section, or its address is taken, the place is in an instruction that is not moved.
fn refuse_addresses(builder: &Builder<'_>, sections: &[Section]) -> Result<(), Unusable> {
    for section in sections {
        let relocations = relocations_of(builder, section.id).map(|id| builder.sections.get(id));
        let Some(SectionData::Relocation(all)) = relocations.map(|section| &section.data) else {
            continue;
        };
        for relocation in all {
            let Some(symbol) = relocation.symbol.map(|id| builder.symbols.get(id)) else {
                continue;
            };
            let of_code = sections.iter().any(|code| symbol.section == Some(code.id));
            let by_section = symbol.st_type() == elf::STT_SECTION;
            if of_code && (by_section || relocation.r_type == R_BPF_64_64) {
                let (name, at) = (&section.name, relocation.r_offset);
                return Err(Unusable(format!("{name} at {at}: an address of code")));
            }
        }
    }
    Ok(())
}

fn add_relocations(builder: &mut Builder<'_>, section: &Section) -> SectionId {
    let symbols = builder
        .sections
        .iter()
        .find(|section| section.sh_type == elf::SHT_SYMTAB);
    let symbols = symbols.map(|section| section.id());
    let added = builder.sections.add();
    added.name = format!(".rel{}", section.name).into_bytes().into();
    added.sh_type = elf::SHT_REL;
    added.sh_flags = SHF_INFO_LINK;
    added.sh_link_section = symbols;
    added.sh_info_section = Some(section.id);
    added.sh_addralign = 8;
    added.sh_entsize = 16;
    added.data = SectionData::Relocation(Vec::new());
    added.id()
}

fn relocations_of(builder: &Builder<'_>, code: SectionId) -> Option<SectionId> {
    let mut all = builder.sections.iter();
    let of_it = all
        .find(|section| section.sh_type == elf::SHT_REL && section.sh_info_section == Some(code));
    of_it.map(|section| section.id())
}

/// Offsets in a section that relocations are of.
fn relocated(builder: &Builder<'_>, code: SectionId) -> BTreeSet<u64> {
    let section = relocations_of(builder, code).map(|id| builder.sections.get(id));
    match section.map(|section| &section.data) {
        Some(SectionData::Relocation(all)) => all.iter().map(|one| one.r_offset).collect(),
        _ => BTreeSet::new(),
    }
}

fn move_symbols(builder: &mut Builder<'_>, section: &Section) -> Result<(), Unusable> {
    let moved = |slot: usize| section.layout.moved((slot * SLOT) as u64, Layout::entry);
    for symbol in &mut builder.symbols {
        if symbol.section != Some(section.id) || symbol.st_type() != elf::STT_FUNC {
            continue;
        }
        let start = symbol.st_value as usize / SLOT;
        let slots = section
            .functions
            .iter()
            .find(|(_, slots)| slots.start == start);
        let (_, slots) = slots.ok_or_else(|| Unusable("a function of no section".into()))?;
        symbol.st_value = moved(slots.start)?;
        symbol.st_size = moved(slots.end)? - symbol.st_value;
    }
    Ok(())
}

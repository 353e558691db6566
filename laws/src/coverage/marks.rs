//! What the kernel says of an instrumented object that it has loaded: which marks the verifier left in the programs,
//! which is what can be reached at all, and which were set.

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError};
use gauntlet_probes::load::{LoadError, translated};
use gauntlet_probes::object::Family;

use super::instruction::{Instruction, SLOT};
use super::object_file::{MARKS, ROOM};

/// What `src` of `ld_imm64` is where it is the address of something in a map's value.
const MAP_VALUE: u8 = 2;

/// A set of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks(Vec<bool>);

impl Default for Blocks {
    fn default() -> Self {
        Self(vec![false; ROOM])
    }
}

impl Blocks {
    /// Whether a block is in it.
    #[must_use]
    pub fn has(&self, block: usize) -> bool {
        self.0.get(block).is_some_and(|has| *has)
    }

    /// Adds a block.
    pub fn add(&mut self, block: usize) {
        if let Some(has) = self.0.get_mut(block) {
            *has = true;
        }
    }
}

/// The map of marks. It stays when the programs go.
pub(super) struct Marks(Array<MapData, [u8; ROOM]>);

impl Marks {
    /// The one of loaded programs.
    pub(super) fn of(loaded: &Ebpf) -> Result<Self, LoadError> {
        let data = match loaded.map(MARKS) {
            Some(Map::Array(data)) => data,
            _ => return Err(LoadError::Missing(MARKS)),
        };
        let open = || {
            let again = MapData::from_id(data.info()?.id())?;
            Array::try_from(Map::Array(again))
        };
        open().map(Self).map_err(in_marks)
    }

    /// Adds the blocks whose marks are set.
    pub(super) fn read(&self, into: &mut Blocks) -> Result<(), LoadError> {
        let marks = self.0.get(&0, 0).map_err(in_marks)?;
        let set = marks.iter().enumerate().filter(|(_, mark)| **mark != 0);
        set.for_each(|(block, _)| into.add(block));
        Ok(())
    }
}

/// Adds the blocks whose marks the verifier has left in a family's programs.
pub(super) fn left(loaded: &Ebpf, family: Family, into: &mut Blocks) -> Result<(), LoadError> {
    let map = loaded.map(MARKS);
    let Some(Map::Array(data)) = map else {
        return Err(LoadError::Missing(MARKS));
    };
    let map = data.info().map_err(in_marks)?.id();
    for name in family.all() {
        let bytes = translated(loaded, name)?;
        let (slots, _) = bytes.as_chunks::<SLOT>();
        let slots: Vec<_> = slots.iter().copied().map(Instruction::read).collect();
        marks_in(&slots, map).for_each(|block| into.add(block));
    }
    Ok(())
}

/// The marks in a program's instructions, where this is the number of their map.
fn marks_in(slots: &[Instruction], map: u32) -> impl Iterator<Item = usize> {
    slots.windows(2).filter_map(move |pair| {
        let is_one = pair[0].is_load_immediate()
            && pair[0].source == MAP_VALUE
            && pair[0].immediate.cast_unsigned() == map;
        is_one.then_some(pair[1].immediate as usize)
    })
}

fn in_marks(source: MapError) -> LoadError {
    LoadError::Map { map: MARKS, source }
}

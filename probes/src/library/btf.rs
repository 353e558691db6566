//! Where a kernel keeps the fields of its structures, by its own description of them (BTF,
//! Documentation/bpf/btf.rst).
//!
//! Reads structures and unions and the way to a member; refuses to know anything else. aya resolves
//! offsets where a compiler has written relocations for them, which rustc does not, and shows nobody the
//! types that it has read.

use std::path::Path;

/// A kernel's types.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; type 0 is void and has no place.
    types: Vec<usize>,
}

/// Why an offset is not known.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel was built without CONFIG_DEBUG_INFO_BTF, or `/sys` is not mounted.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not BTF, or newer than this reader.
    #[error("the kernel's BTF cannot be read: {0}")]
    Damaged(&'static str),
    /// This kernel keeps it otherwise.
    #[error("this kernel's struct {0}")]
    Absent(String),
}

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// typedef, volatile, const, restrict, type_tag: another name for a type.
const ALIASES: [u32; 5] = [8, 9, 10, 11, 18];

impl Btf {
    /// The running kernel's.
    ///
    /// # Errors
    /// [`BtfError`].
    pub fn of_kernel() -> Result<Self, BtfError> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let bytes = std::fs::read(path).map_err(|source| BtfError::Unreadable {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(bytes)
    }

    /// From a section's bytes, of this machine's byte order.
    ///
    /// # Errors
    /// [`BtfError::Damaged`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let cut = BtfError::Damaged("it is cut off");
        let field = |at: usize| read(&bytes, at).map(|value| value as usize);
        if read(&bytes, 0).map(|value| value as u16) != Some(MAGIC) {
            return Err(BtfError::Damaged("it does not begin as BTF"));
        }
        let (Some(header), Some(from), Some(length), Some(strings)) =
            (field(4), field(8), field(12), field(16))
        else {
            return Err(cut);
        };
        let (mut at, end) = (header + from, header + from + length);
        if end > bytes.len() {
            return Err(cut);
        }
        let mut types = vec![usize::MAX];
        while at < end {
            let Some(info) = read(&bytes, at + 4) else {
                return Err(cut);
            };
            types.push(at);
            let members = (info & 0xffff) as usize;
            at += 12
                + match kind(info) {
                    1 | 14 | 17 => 4,
                    2 | 7..=12 | 16 | 18 => 0,
                    3 => 12,
                    STRUCT | UNION | 15 | 19 => 12 * members,
                    6 | 13 => 8 * members,
                    _ => return Err(BtfError::Damaged("it has a kind of type that is not known")),
                };
        }
        Ok(Self {
            strings: header + strings,
            bytes,
            types,
        })
    }

    /// How many bytes after the beginning of a `struct` the member at the end of `path` is. Members of
    /// unnamed structures and unions count as members of what these are in.
    ///
    /// # Errors
    /// [`BtfError::Absent`]: there is no such member, or it is a bit field.
    pub fn offset(&self, structure: &str, path: &[&str]) -> Result<u32, BtfError> {
        let absent = || BtfError::Absent(format!("{structure} has no {}", path.join(".")));
        let named = |id: &u32| {
            let info = self.field(*id, 4).unwrap_or(0);
            kind(info) == STRUCT
                && info & 0xffff != 0
                && self
                    .field(*id, 0)
                    .is_some_and(|name| self.is(name, structure))
        };
        let ids = 1..u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        let mut id = ids.clone().find(named).ok_or_else(absent)?;
        let mut bits = 0;
        for name in path {
            let (at, next) = self.member(id, name).ok_or_else(absent)?;
            bits += at;
            id = next;
        }
        (bits % 8 == 0).then_some(bits / 8).ok_or_else(absent)
    }

    /// A member of a structure: how many bits after its beginning, and of which type.
    fn member(&self, id: u32, name: &str) -> Option<(u32, u32)> {
        let id = self.itself(id)?;
        let info = self.field(id, 4)?;
        if !matches!(kind(info), STRUCT | UNION) {
            return None;
        }
        let with_sizes = info >> 31 == 1;
        for number in 0..info & 0xffff {
            let at = 12 + 12 * number as usize;
            let (called, inner, place) = (
                self.field(id, at)?,
                self.field(id, at + 4)?,
                self.field(id, at + 8)?,
            );
            let (bits, size) = if with_sizes {
                (place & 0xff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            if self.is(called, name) {
                return (size == 0).then_some((bits, inner));
            }
            if self.is(called, "")
                && let Some((further, found)) = self.member(inner, name)
            {
                return Some((bits + further, found));
            }
        }
        None
    }

    /// The type behind all its other names.
    fn itself(&self, mut id: u32) -> Option<u32> {
        // Longer than any chain; a circle ends here.
        for _ in 0..16 {
            if !ALIASES.contains(&kind(self.field(id, 4)?)) {
                return Some(id);
            }
            id = self.field(id, 8)?;
        }
        None
    }

    fn field(&self, id: u32, at: usize) -> Option<u32> {
        let begin = *self.types.get(id as usize)?;
        read(&self.bytes, begin.checked_add(at)?)
    }

    fn is(&self, name: u32, wanted: &str) -> bool {
        let rest = self.bytes.get(self.strings + name as usize..);
        rest.is_some_and(|rest| {
            rest.starts_with(wanted.as_bytes()) && rest.get(wanted.len()) == Some(&0)
        })
    }
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn read(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types as BTF has them: name, info, size or type, then what the kind asks for.
    fn btf(types: &[&[u32]], strings: &str) -> Vec<u8> {
        let types: Vec<u8> = types
            .iter()
            .flat_map(|words| words.iter().flat_map(|word| word.to_ne_bytes()))
            .collect();
        let length = types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(types);
        bytes.extend(strings.as_bytes());
        bytes
    }

    const STRINGS: &str = "\0int\0outer\0a\0inner\0b\0flag\0alias\0";
    const fn info(kind: u32, members: u32) -> u32 {
        kind << 24 | members
    }

    fn example() -> Vec<u8> {
        let (int, outer, a, inner, b, flag, alias) = (1, 5, 11, 13, 19, 21, 26);
        btf(
            &[
                &[int, info(1, 0), 4, 32],                       // 1: int
                &[0, info(UNION, 1), 4, b, 1, 0],                // 2: union { int b; }
                &[inner, info(STRUCT, 2), 8, a, 1, 0, 0, 2, 32], // 3: struct inner { int a; union { b }; }
                &[alias, info(8, 0), 3],                         // 4: typedef struct inner alias
                &[0, info(10, 0), 4],                            // 5: const alias
                // 6: struct outer { int a; const alias inner; int flag : 1; }
                &[
                    outer,
                    info(STRUCT, 3) | 1 << 31,
                    16,
                    a,
                    1,
                    0,
                    inner,
                    5,
                    32,
                    flag,
                    1,
                    1 << 24 | 96,
                ],
                &[inner, info(7, 0), 0], // 7: a forward declaration
            ],
            STRINGS,
        )
    }

    #[test]
    fn members_are_found_through_names_and_namelessness() {
        let btf = Btf::parse(example()).expect("BTF");
        assert_eq!(btf.offset("outer", &["a"]).ok(), Some(0));
        assert_eq!(btf.offset("outer", &["inner", "a"]).ok(), Some(4));
        assert_eq!(btf.offset("outer", &["inner", "b"]).ok(), Some(8));
        assert_eq!(btf.offset("inner", &["b"]).ok(), Some(4));
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        let btf = Btf::parse(example()).expect("BTF");
        for path in [&["flag"][..], &["b"], &["a", "a"], &["inner", "c"]] {
            let error = btf.offset("outer", path).expect_err("absent").to_string();
            assert_eq!(
                error,
                format!("this kernel's struct outer has no {}", path.join("."))
            );
        }
        assert!(btf.offset("nobody", &["a"]).is_err());
    }

    #[test]
    fn every_cut_is_refused_or_harmless() {
        let whole = example();
        for length in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..length].to_vec()) {
                let _ = btf.offset("outer", &["inner", "b"]);
            }
        }
    }
}

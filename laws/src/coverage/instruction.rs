//! One BPF instruction: which registers it reads and writes, and where it goes on. Knows what compilers make of our
//! programs, and refuses the rest: an instruction that it took for another would make it overwrite a register in use.

use std::ops::BitOr;

/// Bytes of an instruction; `ld_imm64` takes two of them.
pub(super) const SLOT: usize = 8;

/// `ld_imm64`: the one instruction of two slots.
const LOAD_IMMEDIATE: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `goto`, and the one with a long offset.
const GOTO: u8 = 0x05;
const GOTO_LONG: u8 = 0x06;
/// The helper that does not return where it succeeds.
const TAIL_CALL: i32 = 12;
/// What `src` of a call is where a function of the same object is called.
const PSEUDO_CALL: u8 = 1;
/// Store of a constant into a byte.
const STORE_BYTE: u8 = 0x72;

/// A set of the registers r0 to r9; r10, the frame's, is never free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Registers(u16);

impl Registers {
    pub(super) const NONE: Self = Self(0);
    const R0: Self = Self(1);
    const ARGUMENTS: Self = Self(0b11_1110);
    const CALLERS: Self = Self(0b11_1111);

    fn of(register: u8) -> Self {
        Self(1 << register)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The lowest that is not in it.
    pub(super) fn free(self) -> Option<u8> {
        (0..10).find(|register| self.0 & (1 << register) == 0)
    }

    #[cfg(test)]
    pub(super) fn has(self, register: u8) -> bool {
        self.0 & (1 << register) != 0
    }
}

impl BitOr for Registers {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Where it goes on, in slots after the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At the next.
    Following,
    /// At the next, if at all.
    FollowingPerhaps,
    /// There, or at the next.
    Either(i32),
    /// There.
    There(i32),
    /// Nowhere.
    Nowhere,
}

/// What it does to registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) reads: Registers,
    pub(super) writes: Registers,
    pub(super) next: Next,
}

/// A slot of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u8,
    pub(super) destination: u8,
    pub(super) source: u8,
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

impl Instruction {
    pub(super) fn read(bytes: [u8; SLOT]) -> Self {
        let [code, registers, a, b, immediate @ ..] = bytes;
        Self {
            code,
            destination: registers & 0xf,
            source: registers >> 4,
            offset: i16::from_le_bytes([a, b]),
            immediate: i32::from_le_bytes(immediate),
        }
    }

    pub(super) fn bytes(self) -> [u8; SLOT] {
        let [a, b] = self.offset.to_le_bytes();
        let [c, d, e, f] = self.immediate.to_le_bytes();
        [
            self.code,
            self.source << 4 | self.destination,
            a,
            b,
            c,
            d,
            e,
            f,
        ]
    }

    /// Sets a byte of a map, by way of a register that nobody reads: address, its second half, store. A relocation
    /// of the first says which map.
    pub(super) fn marker(register: u8, byte: i32) -> [Self; 3] {
        let plain = Self {
            code: 0,
            destination: 0,
            source: 0,
            offset: 0,
            immediate: 0,
        };
        let address = Self {
            code: LOAD_IMMEDIATE,
            destination: register,
            immediate: byte,
            ..plain
        };
        let store = Self {
            code: STORE_BYTE,
            destination: register,
            immediate: 1,
            ..plain
        };
        [address, plain, store]
    }

    /// How many slots it takes.
    pub(super) fn slots(self) -> usize {
        1 + usize::from(self.code == LOAD_IMMEDIATE)
    }

    pub(super) fn is_load_immediate(self) -> bool {
        self.code == LOAD_IMMEDIATE
    }

    /// Whether it calls a function of the object, not of the kernel.
    pub(super) fn calls_function(self) -> bool {
        self.code == CALL && self.source == PSEUDO_CALL
    }

    /// The same, going elsewhere: so many slots after the next. `None`: that is too far.
    pub(super) fn going(self, slots: i64) -> Option<Self> {
        Some(if self.code == GOTO_LONG || self.code == CALL {
            Self {
                immediate: slots.try_into().ok()?,
                ..self
            }
        } else {
            Self {
                offset: slots.try_into().ok()?,
                ..self
            }
        })
    }

    /// What it does; `None`: it is not known here. Calls are taken to read all registers that arguments may be in.
    pub(super) fn effect(self) -> Option<Effect> {
        if self.destination > 10 || self.source > 10 {
            return None;
        }
        let destination = Registers::of(self.destination);
        let source = Registers::of(self.source);
        // Of those that have two forms, the one with a register.
        let operand = if self.code & 0x08 != 0 {
            source
        } else {
            Registers::NONE
        };
        let simple = |reads, writes| Effect {
            reads,
            writes,
            next: Next::Following,
        };
        Some(match (self.code & 0x07, self.code & 0xf0) {
            _ if self.code == LOAD_IMMEDIATE => simple(Registers::NONE, destination),
            // LDX: plain, and with its sign.
            (0x01, _) if matches!(self.code & 0xe0, 0x60 | 0x80) => simple(source, destination),
            (0x02, _) if self.code & 0xe0 == 0x60 => simple(destination, Registers::NONE),
            (0x03, _) if self.code & 0xe0 == 0x60 => simple(destination | source, Registers::NONE),
            (0x03, _) if self.code & 0xe0 == 0xc0 => self.atomic(destination | source, source)?,
            (0x04 | 0x07, 0xb0) => simple(operand, destination),
            // Negation and byte order: the bit that elsewhere says "with a register" says which order.
            (0x04 | 0x07, 0x80 | 0xd0) => simple(destination, destination),
            (0x04 | 0x07, 0x00..=0xc0) => simple(destination | operand, destination),
            (0x05, 0x80) if self.code == CALL => Effect {
                reads: Registers::ARGUMENTS,
                writes: Registers::CALLERS,
                next: if self.source == 0 && self.immediate == TAIL_CALL {
                    Next::FollowingPerhaps
                } else {
                    Next::Following
                },
            },
            (0x05, 0x90) if self.code == EXIT => Effect {
                reads: Registers::R0,
                writes: Registers::NONE,
                next: Next::Nowhere,
            },
            (0x05, 0x00) if self.code == GOTO => Effect {
                reads: Registers::NONE,
                writes: Registers::NONE,
                next: Next::There(self.offset.into()),
            },
            (0x06, 0x00) if self.code == GOTO_LONG => Effect {
                reads: Registers::NONE,
                writes: Registers::NONE,
                next: Next::There(self.immediate),
            },
            (0x05 | 0x06, 0x10..=0x70 | 0xa0..=0xd0) => Effect {
                reads: destination | operand,
                writes: Registers::NONE,
                next: Next::Either(self.offset.into()),
            },
            _ => return None,
        })
    }

    fn atomic(self, operands: Registers, source: Registers) -> Option<Effect> {
        let (reads, writes) = match self.immediate {
            // Compare and exchange, with r0.
            0xf1 => (operands | Registers::R0, Registers::R0),
            // Exchange; add, or, and, xor, with what was there before or without.
            0xe1 | 0x01 | 0x41 | 0x51 | 0xa1 => (operands, source),
            0x00 | 0x40 | 0x50 | 0xa0 => (operands, Registers::NONE),
            _ => return None,
        };
        Some(Effect {
            reads,
            writes,
            next: Next::Following,
        })
    }
}

//! A floor of delivery: a ring of records in this process's memory, of one writer and one reader, as a C program
//! would have it: two counts, and as many words as a record has. No BPF, and nobody is woken.

use std::sync::atomic::{AtomicU64, Ordering};

/// As large as the shipped ring buffer is, where nothing else is said.
const BYTES: usize = super::RING_BYTES as usize;

/// The ring.
pub(super) struct Records {
    words: Box<[AtomicU64]>,
    of_each: usize,
    /// How many were written.
    written: Apart,
    /// How many were read.
    read: Apart,
}

/// In a cache line of its own.
#[repr(align(128))]
struct Apart(AtomicU64);

impl Records {
    /// Of records so many bytes long, whole words.
    pub(super) fn new(bytes: u32) -> Self {
        let of_each = bytes as usize / size_of::<u64>();
        // Written once, so that no page is touched for the first time while it is measured.
        let words = if of_each > 1 {
            BYTES / size_of::<u64>()
        } else {
            1
        };
        Self {
            words: (0..words).map(|_| AtomicU64::new(1)).collect(),
            of_each,
            written: Apart(AtomicU64::new(0)),
            read: Apart(AtomicU64::new(0)),
        }
    }

    fn record(&self, number: u64) -> &[AtomicU64] {
        let room = self.words.len() / self.of_each;
        let at = (number % room as u64) as usize * self.of_each;
        &self.words[at..at + self.of_each]
    }

    /// Writes a record that begins with that word; `false` when there is no room.
    pub(super) fn put(&self, word: u64) -> bool {
        let number = self.written.0.load(Ordering::Relaxed);
        let room = (self.words.len() / self.of_each) as u64;
        if number - self.read.0.load(Ordering::Acquire) == room {
            return false;
        }
        for place in self.record(number) {
            place.store(word, Ordering::Relaxed);
        }
        self.written.0.store(number + 1, Ordering::Release);
        true
    }

    /// The first word of the next record, if there is one.
    pub(super) fn take(&self) -> Option<u64> {
        let number = self.read.0.load(Ordering::Relaxed);
        if number == self.written.0.load(Ordering::Acquire) {
            return None;
        }
        let word = self.record(number)[0].load(Ordering::Relaxed);
        self.read.0.store(number + 1, Ordering::Release);
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_in_order_and_what_has_no_room_is_told() {
        let records = Records::new(512);
        let room = (BYTES / 512) as u64;
        // Round and round.
        for first in [0, room / 2, room] {
            for word in first..first + room {
                assert!(records.put(word));
            }
            assert!(!records.put(0));
            for word in first..first + room {
                assert_eq!(records.take(), Some(word));
            }
            assert_eq!(records.take(), None);
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let records = Records::new(128);
        let taken = std::thread::scope(|scope| {
            scope.spawn(|| (1..=100_000).for_each(|word| while !records.put(word) {}));
            let mut taken = Vec::new();
            while taken.len() < 100_000 {
                taken.extend(records.take());
            }
            taken
        });
        assert!(taken.into_iter().eq(1..=100_000));
    }
}

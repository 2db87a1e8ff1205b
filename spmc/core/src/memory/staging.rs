//! The private copy of what a guest's buffer holds, or will hold. It is looked at in words, because byte by byte it takes several
//! times as long: all fields of descriptors lie at multiples of their sizes.

use super::layout::Malformed;
use bulkhead_ffa::descriptor::range;
use zerocopy::IntoBytes;

/// Bytes that are copied from or to a guest at a time: an RX or TX buffer.
pub(super) const STAGING: usize = 4096;
const WORD: usize = 8;

/// The copy.
pub(super) struct Staging([u64; STAGING / WORD]);

impl Staging {
    /// All zeroes.
    pub const fn new() -> Self {
        Self([0; STAGING / WORD])
    }

    /// The first `len` bytes, to be read by the machine.
    pub fn bytes(&self, len: usize) -> Option<&[u8]> {
        self.0.as_bytes().get(..len)
    }

    /// The first `len` bytes, to be written by the machine.
    pub fn bytes_mut(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.as_mut_bytes().get_mut(..len)
    }

    /// The first `len` bytes, at most all, as fields.
    pub fn fields(&self, len: usize) -> Fields<'_> {
        Fields { words: &self.0, len: len.min(STAGING) }
    }

    /// Writes the field of `size` bytes, 1, 2, 4 or 8, at `at`.
    #[inline(always)]
    pub fn put(&mut self, at: usize, size: usize, value: u64) -> Result<(), Malformed> {
        let shift = 8 * (at % WORD);
        let mask = (u64::MAX >> (64 - 8 * size)) << shift;
        let word = self.0.get_mut(at / WORD).filter(|_| at.is_multiple_of(size)).ok_or(Malformed)?;
        *word = u64::from_le((word.to_le() & !mask) | (value << shift & mask));
        Ok(())
    }

    /// Writes zeroes to `len` bytes from `at` on, both multiples of eight.
    pub fn clear(&mut self, at: usize, len: usize) -> Result<(), Malformed> {
        let words = self.0.get_mut(at / WORD..(at + len) / WORD).filter(|_| (at | len).is_multiple_of(WORD)).ok_or(Malformed)?;
        for word in words {
            *word = 0;
        }
        Ok(())
    }

    /// The room for ranges from `at` on, a multiple of eight.
    pub fn ranges_mut(&mut self, at: usize) -> &mut [[u64; range::SIZE / WORD]] {
        self.0.get_mut(at / WORD..).unwrap_or_default().as_chunks_mut().0
    }
}

/// Fields of a descriptor, all of which lie in its first bytes.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    words: &'a [u64; STAGING / WORD],
    len: usize,
}

impl<'a> Fields<'a> {
    /// The field of `size` bytes, 2, 4 or 8, at `at`, in the lowest bits.
    #[inline(always)]
    fn at(self, at: usize, size: usize) -> Result<u64, Malformed> {
        if !at.is_multiple_of(size) || at.checked_add(size).is_none_or(|end| end > self.len) {
            return Err(Malformed);
        }
        let word = self.words.get(at / WORD).ok_or(Malformed)?;
        Ok(u64::from_le(*word) >> (8 * (at % WORD)))
    }

    /// The two bytes at `at`.
    pub fn u16(self, at: usize) -> Result<u16, Malformed> {
        self.at(at, 2).map(|bits| bits as u16)
    }

    /// The four bytes at `at`.
    pub fn u32(self, at: usize) -> Result<u32, Malformed> {
        self.at(at, 4).map(|bits| bits as u32)
    }

    /// The eight bytes at `at`.
    pub fn u64(self, at: usize) -> Result<u64, Malformed> {
        self.at(at, 8)
    }

    /// `len` bytes from `at` on, both multiples of eight, as they lie in memory.
    pub fn words(self, at: usize, len: usize) -> Result<&'a [u64], Malformed> {
        if !(at | len).is_multiple_of(WORD) || at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Malformed);
        }
        self.words.get(at / WORD..(at + len) / WORD).ok_or(Malformed)
    }

    /// The ranges from `from` on, a multiple of eight. They must end with the descriptor.
    pub fn ranges(self, from: usize) -> Result<&'a [[u64; range::SIZE / WORD]], Malformed> {
        let bytes = self.len.checked_sub(from).filter(|bytes| bytes.is_multiple_of(range::SIZE) && from.is_multiple_of(WORD)).ok_or(Malformed)?;
        Ok(self.words(from, bytes)?.as_chunks().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        /// Fields are the little-endian bytes at their places, whatever is written beside them, and none reaches over the end.
        #[test]
        fn fields_are_bytes(
            bytes in proptest::collection::vec(any::<u8>(), STAGING), len in 0..=STAGING,
            writes in proptest::collection::vec((0..STAGING + 20, 0u32..4, any::<u64>()), 0..20), reads in proptest::collection::vec(0..STAGING + 20, 50),
        ) {
            let mut staging = Staging::new();
            let mut model: Vec<u8> = bytes.clone();
            staging.bytes_mut(STAGING).unwrap().copy_from_slice(&bytes);
            for (at, log, value) in writes {
                let size = 1 << log;
                let fits = at % size == 0 && at + size <= STAGING;
                prop_assert_eq!(staging.put(at, size, value).is_ok(), fits);
                if fits {
                    model[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
            prop_assert_eq!(staging.bytes(STAGING).unwrap(), &model[..]);
            let fields = staging.fields(len);
            let expected = |at: usize, size: usize| {
                let there = model[..len].get(at..at + size).filter(|_| at % size == 0)?;
                Some(there.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
            };
            for at in reads {
                prop_assert_eq!(fields.u16(at).ok().map(u64::from), expected(at, 2));
                prop_assert_eq!(fields.u32(at).ok().map(u64::from), expected(at, 4));
                prop_assert_eq!(fields.u64(at).ok(), expected(at, 8));
                let two = expected(at, 8).zip(expected(at + 8, 8)).map(|(a, b)| [a.to_le(), b.to_le()]);
                prop_assert_eq!(fields.words(at, 16).ok(), two.as_ref().map(|words| &words[..]));
            }
        }
    }
}

//! Address ranges that cannot wrap.

use core::fmt;

/// Bytes of the page in which partitions get their memory (stage 2 granule).
pub const PAGE_SIZE: u64 = 4096;

/// A range of physical (or, as all partitions are identity mapped, intermediate physical) addresses. Its end does not
/// wrap around the address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AddressRange {
    base: u64,
    size: u64,
}

impl AddressRange {
    /// `size` bytes from `base`; `None` when the end does not fit into 64 bits.
    #[must_use]
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        match base.checked_add(size) {
            Some(_) => Some(Self { base, size }),
            None => None,
        }
    }

    /// First address.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// First address after the range.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Whether no byte is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether base and size are multiples of `granule` (a power of two).
    #[must_use]
    pub const fn is_aligned(&self, granule: u64) -> bool {
        self.base.is_multiple_of(granule) && self.size.is_multiple_of(granule)
    }

    /// Whether a byte is in both; an empty range has none.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.base < other.end() && other.base < self.end()
    }

    /// Whether all of `other` is in this range.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { write!(f, "{:#x} (empty)", self.base) } else { write!(f, "{:#x}..={:#x}", self.base, self.end() - 1) }
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

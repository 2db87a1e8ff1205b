//! Transaction descriptors in bytes (DEN0140 v1.2 section 1.10): parsing what an endpoint sent, writing what it gets.
//!
//! Everything is read from a private copy, by the sizes and offsets that it carries, and refused unless it lies inside.

use bulkhead_ffa::descriptor::{access, composite, range, relinquish, transaction, transaction_v1_0};
use super::staging::{Fields, Staging};
use bulkhead_ffa::{EndpointId, Status, Version};

/// Endpoint memory access descriptors of one transaction, at the most.
pub(crate) const MAX_BORROWERS: usize = 8;

/// Data access in an access descriptor.
pub(super) mod data {
    pub const MASK: u8 = 3;
    pub const UNSPECIFIED: u8 = 0;
    pub const READ: u8 = 1;
    pub const WRITE: u8 = 2;
}

/// Instruction access in an access descriptor.
pub(super) mod instruction {
    pub const MASK: u8 = 3 << 2;
    pub const UNSPECIFIED: u8 = 0;
    pub const NEVER: u8 = 1 << 2;
    pub const EXECUTE: u8 = 2 << 2;
}

/// Flags of an access descriptor, bit 0: see [`Access::not_for_it`].
const NON_RETRIEVAL: u8 = 1 << 0;

/// The descriptor is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::InvalidParameters
    }
}

/// Checks that `len` bytes from `at` on, both multiples of four, are zero.
#[inline(always)]
fn zero(from: Fields<'_>, at: usize, len: usize) -> Result<(), Malformed> {
    for at in (at..at + len).step_by(4) {
        if from.u32(at)? != 0 {
            return Err(Malformed);
        }
    }
    Ok(())
}

/// Which of the two transaction descriptors an endpoint speaks.
pub(crate) const fn is_v1_0(version: Version) -> bool {
    version.0 < Version::V1_1.0
}

/// Bytes of the header that an endpoint of this version speaks.
pub(crate) const fn header_size(version: Version) -> usize {
    if is_v1_0(version) { transaction_v1_0::SIZE } else { transaction::SIZE }
}

/// Bytes of an access descriptor where the endpoint did not choose them.
pub(crate) const fn default_access_size(version: Version) -> usize {
    if version.0 >= Version::V1_2.0 { access::SIZE_V1_2 } else { access::SIZE_V1_1 }
}

/// The part of a transaction descriptor that there is once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Who sent the memory.
    pub sender: EndpointId,
    /// Memory region attributes.
    pub attributes: u16,
    /// Flags.
    pub flags: u32,
    /// Handle; zero in what a sender sends.
    pub handle: u64,
    /// The sender's tag.
    pub tag: u64,
    /// Bytes of each access descriptor.
    pub access_size: usize,
    /// Access descriptors.
    pub access_count: usize,
    /// Where they start.
    pub access_offset: usize,
}

impl Header {
    /// Reads the header, in the layout of `version`.
    pub fn parse(from: Fields<'_>, version: Version) -> Result<Self, Malformed> {
        let v1_0 = is_v1_0(version);
        let access_count = from.u32(transaction::ACCESS_COUNT)? as usize;
        if access_count > MAX_BORROWERS {
            return Err(Malformed);
        }
        let mut header = Self {
            sender: EndpointId(from.u16(transaction::SENDER)?),
            attributes: from.u16(transaction::ATTRIBUTES)?,
            flags: from.u32(transaction::FLAGS)?,
            handle: from.u64(transaction::HANDLE)?,
            tag: from.u64(transaction::TAG)?,
            access_size: access::SIZE_V1_1,
            access_count,
            access_offset: transaction_v1_0::SIZE,
        };
        if v1_0 {
            // One byte of attributes, and a reserved word where the size is from v1.1 on.
            if header.attributes >> 8 != 0 {
                return Err(Malformed);
            }
            zero(from, transaction::ACCESS_SIZE, 4)?;
            return Ok(header);
        }
        zero(from, transaction::ACCESS_OFFSET + 4, transaction::SIZE - transaction::ACCESS_OFFSET - 4)?;
        // Without access descriptors (the hypervisor's request) their size and place mean nothing.
        if access_count == 0 {
            header.access_size = default_access_size(version);
            header.access_offset = transaction::SIZE;
            return Ok(header);
        }
        header.access_size = from.u32(transaction::ACCESS_SIZE)? as usize;
        header.access_offset = from.u32(transaction::ACCESS_OFFSET)? as usize;
        let size_known = matches!(header.access_size, access::SIZE_V1_1 | access::SIZE_V1_2);
        if !size_known || header.access_offset < transaction::SIZE || !header.access_offset.is_multiple_of(16) {
            return Err(Malformed);
        }
        header.access_offset.checked_add(header.access_size * access_count).ok_or(Malformed)?;
        Ok(header)
    }

    /// The first byte after the access descriptors.
    pub fn access_end(&self) -> usize {
        self.access_offset + self.access_size * self.access_count
    }

    fn access_at(&self, n: usize) -> usize {
        self.access_offset + n * self.access_size
    }

    /// Access descriptor `n`. Reserved values, and an endpoint that an earlier one names, are malformed.
    pub fn access(&self, from: Fields<'_>, n: usize) -> Result<Access, Malformed> {
        // Those of the 32-byte form have implementation-defined words in between.
        let [first, words @ .., 0] = from.words(self.access_at(n), self.access_size)? else { return Err(Malformed) };
        let field = |at: usize| u64::from_le(*first) >> (8 * at);
        let (endpoint, permissions, flags) = (field(access::ENDPOINT) as u16, field(access::PERMISSIONS) as u8, field(access::FLAGS) as u8);
        let reserved = permissions & !(data::MASK | instruction::MASK) != 0
            || permissions & data::MASK == data::MASK
            || permissions & instruction::MASK == instruction::MASK
            || flags & !NON_RETRIEVAL != 0;
        if reserved || (0..n).any(|earlier| from.u16(self.access_at(earlier) + access::ENDPOINT) == Ok(endpoint)) {
            return Err(Malformed);
        }
        Ok(Access {
            endpoint: EndpointId(endpoint),
            permissions,
            not_for_it: flags & NON_RETRIEVAL != 0,
            composite: field(access::COMPOSITE_OFFSET) as usize,
            words: match words {
                [low, high] => u128::from(u64::from_le(*low)) | u128::from(u64::from_le(*high)) << 64,
                _ => 0,
            },
        })
    }

    /// All access descriptors.
    pub fn accesses<'a>(&'a self, from: Fields<'a>) -> impl Iterator<Item = Result<Access, Malformed>> + 'a {
        (0..self.access_count).map(move |n| self.access(from, n))
    }

    /// Writes the header in the layout of `version`.
    pub fn write(&self, to: &mut Staging, version: Version) -> Result<(), Malformed> {
        to.clear(0, header_size(version))?;
        to.put(transaction::SENDER, 2, u64::from(self.sender.0))?;
        to.put(transaction::ATTRIBUTES, 2, u64::from(self.attributes))?;
        to.put(transaction::FLAGS, 4, u64::from(self.flags))?;
        to.put(transaction::HANDLE, 8, self.handle)?;
        to.put(transaction::TAG, 8, self.tag)?;
        to.put(transaction::ACCESS_COUNT, 4, self.access_count as u64)?;
        if !is_v1_0(version) {
            to.put(transaction::ACCESS_SIZE, 4, self.access_size as u64)?;
            to.put(transaction::ACCESS_OFFSET, 4, self.access_offset as u64)?;
        }
        Ok(())
    }

    /// Writes an access descriptor of `size` bytes at `at`.
    pub fn write_access(to: &mut Staging, at: usize, size: usize, entry: &Access) -> Result<(), Malformed> {
        to.clear(at, size)?;
        to.put(at + access::ENDPOINT, 2, u64::from(entry.endpoint.0))?;
        to.put(at + access::PERMISSIONS, 1, u64::from(entry.permissions))?;
        to.put(at + access::COMPOSITE_OFFSET, 4, entry.composite as u64)?;
        if size == access::SIZE_V1_2 {
            to.put(at + access::IMPDEF, 8, entry.words as u64)?;
            to.put(at + access::IMPDEF + 8, 8, (entry.words >> 64) as u64)?;
        }
        Ok(())
    }
}

/// An endpoint memory access descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// The borrower.
    pub endpoint: EndpointId,
    /// Data access in bits 1..0, instruction access in bits 3..2.
    pub permissions: u8,
    /// The memory is not to be retrieved for this borrower, which is only named.
    pub not_for_it: bool,
    /// Offset of the composite descriptor.
    pub composite: usize,
    /// Implementation-defined words, which endpoints agree on among themselves; zero in the 16-byte form.
    pub words: u128,
}

/// Page count and range count of the composite memory region descriptor at `at`.
pub(super) fn parse_composite(from: Fields<'_>, at: usize) -> Result<(u32, u32), Malformed> {
    let [counts, 0] = from.words(at, composite::SIZE)? else { return Err(Malformed) };
    let field = |at: usize| (u64::from_le(*counts) >> (8 * at)) as u32;
    Ok((field(composite::PAGE_COUNT), field(composite::RANGE_COUNT)))
}

/// Writes a composite memory region descriptor.
pub(super) fn write_composite(to: &mut Staging, at: usize, pages: u32, ranges: u32) -> Result<(), Malformed> {
    to.clear(at, composite::SIZE)?;
    to.put(at + composite::PAGE_COUNT, 4, u64::from(pages))?;
    to.put(at + composite::RANGE_COUNT, 4, u64::from(ranges))
}

/// Address and page count of a range.
pub(super) fn parse_range([address, pages]: [u64; 2]) -> Result<(u64, u32), Malformed> {
    const _: () = assert!(range::ADDRESS == 0 && range::PAGE_COUNT == 8 && range::SIZE == 16);
    // The upper half of the second word is reserved.
    let pages = u32::try_from(u64::from_le(pages)).map_err(|_| Malformed)?;
    Ok((u64::from_le(address), pages))
}

/// A range.
pub(super) const fn range_words(address: u64, pages: u64) -> [u64; 2] {
    [address.to_le(), pages.to_le()]
}

/// FFA_MEM_RELINQUISH's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relinquish {
    /// Which transaction.
    pub handle: u64,
    /// Flags.
    pub flags: u32,
    /// Who gives it up: one endpoint, as nobody acts for another here.
    pub endpoint: EndpointId,
}

impl Relinquish {
    /// Bytes with one endpoint.
    pub const SIZE: usize = relinquish::ENDPOINTS + 2;

    /// Reads the descriptor.
    pub fn parse(from: Fields<'_>) -> Result<Self, Malformed> {
        if from.u32(relinquish::ENDPOINT_COUNT)? != 1 {
            return Err(Malformed);
        }
        Ok(Self {
            handle: from.u64(relinquish::HANDLE)?,
            flags: from.u32(relinquish::FLAGS)?,
            endpoint: EndpointId(from.u16(relinquish::ENDPOINTS)?),
        })
    }
}

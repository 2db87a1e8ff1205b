//! Transaction descriptors in bytes (DEN0140 v1.2 section 1.10): parsing what an endpoint sent, writing what it gets.
//!
//! Everything is read from a private copy, by the sizes and offsets that it carries, and refused unless it lies inside.

use bulkhead_ffa::descriptor::{access, composite, range, relinquish, transaction, transaction_v1_0};
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
pub(crate) struct Malformed;

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::InvalidParameters
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let end = at.checked_add(N).ok_or(Malformed)?;
    from.get(at..end).and_then(|b| b.try_into().ok()).ok_or(Malformed)
}

fn u16_at(from: &[u8], at: usize) -> Result<u16, Malformed> {
    bytes(from, at).map(u16::from_le_bytes)
}

fn u32_at(from: &[u8], at: usize) -> Result<u32, Malformed> {
    bytes(from, at).map(u32::from_le_bytes)
}

fn u64_at(from: &[u8], at: usize) -> Result<u64, Malformed> {
    bytes(from, at).map(u64::from_le_bytes)
}

fn zero(from: &[u8], at: usize, len: usize) -> Result<(), Malformed> {
    let reserved = from.get(at..at + len).ok_or(Malformed)?;
    if reserved.iter().all(|b| *b == 0) { Ok(()) } else { Err(Malformed) }
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
pub(crate) struct Header {
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
    pub fn parse(from: &[u8], version: Version) -> Result<Self, Malformed> {
        let v1_0 = is_v1_0(version);
        let access_count = u32_at(from, transaction::ACCESS_COUNT)? as usize;
        if access_count > MAX_BORROWERS {
            return Err(Malformed);
        }
        let mut header = Self {
            sender: EndpointId(u16_at(from, transaction::SENDER)?),
            attributes: u16_at(from, transaction::ATTRIBUTES)?,
            flags: u32_at(from, transaction::FLAGS)?,
            handle: u64_at(from, transaction::HANDLE)?,
            tag: u64_at(from, transaction::TAG)?,
            access_size: access::SIZE_V1_1,
            access_count,
            access_offset: transaction_v1_0::SIZE,
        };
        if v1_0 {
            // One byte of attributes, and a reserved word where the size is from v1.1 on.
            zero(from, transaction_v1_0::ATTRIBUTES + 1, 1)?;
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
        header.access_size = u32_at(from, transaction::ACCESS_SIZE)? as usize;
        header.access_offset = u32_at(from, transaction::ACCESS_OFFSET)? as usize;
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
    pub fn access(&self, from: &[u8], n: usize) -> Result<Access, Malformed> {
        let at = self.access_at(n);
        let wide = self.access_size == access::SIZE_V1_2;
        zero(from, at + self.access_size - 8, 8)?;
        let endpoint = u16_at(from, at + access::ENDPOINT)?;
        let [permissions, flags] = bytes::<2>(from, at + access::PERMISSIONS)?;
        let reserved = permissions & !(data::MASK | instruction::MASK) != 0
            || permissions & data::MASK == data::MASK
            || permissions & instruction::MASK == instruction::MASK
            || flags & !NON_RETRIEVAL != 0;
        if reserved || (0..n).any(|earlier| u16_at(from, self.access_at(earlier) + access::ENDPOINT) == Ok(endpoint)) {
            return Err(Malformed);
        }
        Ok(Access {
            endpoint: EndpointId(endpoint),
            permissions,
            not_for_it: flags & NON_RETRIEVAL != 0,
            composite: u32_at(from, at + access::COMPOSITE_OFFSET)? as usize,
            words: if wide { bytes(from, at + access::IMPDEF)? } else { [0; 16] },
        })
    }

    /// All access descriptors.
    pub fn accesses<'a>(&'a self, from: &'a [u8]) -> impl Iterator<Item = Result<Access, Malformed>> + 'a {
        (0..self.access_count).map(move |n| self.access(from, n))
    }

    /// Writes the header in the layout of `version`.
    pub fn write(&self, to: &mut [u8], version: Version) -> Result<(), Malformed> {
        to.get_mut(..header_size(version)).ok_or(Malformed)?.fill(0);
        put(to, transaction::SENDER, &self.sender.0.to_le_bytes())?;
        put(to, transaction::ATTRIBUTES, &self.attributes.to_le_bytes())?;
        put(to, transaction::FLAGS, &self.flags.to_le_bytes())?;
        put(to, transaction::HANDLE, &self.handle.to_le_bytes())?;
        put(to, transaction::TAG, &self.tag.to_le_bytes())?;
        put(to, transaction::ACCESS_COUNT, &(self.access_count as u32).to_le_bytes())?;
        if !is_v1_0(version) {
            put(to, transaction::ACCESS_SIZE, &(self.access_size as u32).to_le_bytes())?;
            put(to, transaction::ACCESS_OFFSET, &(self.access_offset as u32).to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes an access descriptor of `size` bytes at `at`.
    pub fn write_access(to: &mut [u8], at: usize, size: usize, entry: &Access) -> Result<(), Malformed> {
        to.get_mut(at..at + size).ok_or(Malformed)?.fill(0);
        put(to, at + access::ENDPOINT, &entry.endpoint.0.to_le_bytes())?;
        put(to, at + access::PERMISSIONS, &[entry.permissions, 0])?;
        put(to, at + access::COMPOSITE_OFFSET, &(entry.composite as u32).to_le_bytes())?;
        if size == access::SIZE_V1_2 { put(to, at + access::IMPDEF, &entry.words) } else { Ok(()) }
    }
}

/// An endpoint memory access descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The borrower.
    pub endpoint: EndpointId,
    /// Data access in bits 1..0, instruction access in bits 3..2.
    pub permissions: u8,
    /// The memory is not to be retrieved for this borrower, which is only named.
    pub not_for_it: bool,
    /// Offset of the composite descriptor.
    pub composite: usize,
    /// Implementation-defined words, which endpoints agree on among themselves; zero in the 16-byte form.
    pub words: [u8; 16],
}

/// Page count and range count of the composite memory region descriptor at `at`.
pub(crate) fn parse_composite(from: &[u8], at: usize) -> Result<(u32, u32), Malformed> {
    zero(from, at + composite::RANGE_COUNT + 4, 8)?;
    Ok((u32_at(from, at + composite::PAGE_COUNT)?, u32_at(from, at + composite::RANGE_COUNT)?))
}

/// Writes a composite memory region descriptor.
pub(crate) fn write_composite(to: &mut [u8], at: usize, pages: u32, ranges: u32) -> Result<(), Malformed> {
    to.get_mut(at..at + composite::SIZE).ok_or(Malformed)?.fill(0);
    put(to, at + composite::PAGE_COUNT, &pages.to_le_bytes())?;
    put(to, at + composite::RANGE_COUNT, &ranges.to_le_bytes())
}

/// Address and page count of a range.
pub(crate) fn parse_range(from: &[u8; range::SIZE]) -> Result<(u64, u32), Malformed> {
    if u32_at(from, range::PAGE_COUNT + 4)? != 0 {
        return Err(Malformed);
    }
    Ok((u64_at(from, range::ADDRESS)?, u32_at(from, range::PAGE_COUNT)?))
}

/// Writes a range.
pub(crate) fn write_range(to: &mut [u8; range::SIZE], address: u64, pages: u32) -> Result<(), Malformed> {
    put(to, range::ADDRESS, &address.to_le_bytes())?;
    put(to, range::PAGE_COUNT, &u64::from(pages).to_le_bytes())
}

/// FFA_MEM_RELINQUISH's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relinquish {
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
    pub fn parse(from: &[u8]) -> Result<Self, Malformed> {
        if u32_at(from, relinquish::ENDPOINT_COUNT)? != 1 {
            return Err(Malformed);
        }
        Ok(Self {
            handle: u64_at(from, relinquish::HANDLE)?,
            flags: u32_at(from, relinquish::FLAGS)?,
            endpoint: EndpointId(u16_at(from, relinquish::ENDPOINTS)?),
        })
    }
}

fn put(to: &mut [u8], at: usize, data: &[u8]) -> Result<(), Malformed> {
    to.get_mut(at..at + data.len()).ok_or(Malformed)?.copy_from_slice(data);
    Ok(())
}

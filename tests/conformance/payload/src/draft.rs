//! Memory transaction descriptors that a check writes byte by byte, right or wrong, into the TX buffer of any instance.

use crate::instance::Instance;
use bulkhead_sdk::ffa::descriptor::{access, composite, range, relinquish, transaction, transaction_v1_0};
use bulkhead_sdk::ffa::{EndpointId, Regs, Status, Version, function};
use bulkhead_sdk::memory::NORMAL_MEMORY;
use bulkhead_sdk::{Line, PAGE};

/// Bytes of the longest descriptor.
const ROOM: usize = 192;

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// FFA_MEM_SHARE.
    Share,
    /// FFA_MEM_LEND.
    Lend,
    /// FFA_MEM_DONATE.
    Donate,
}

impl Kind {
    fn function(self) -> u32 {
        match self {
            Self::Share => function::MEM_SHARE_32,
            Self::Lend => function::MEM_LEND_32,
            Self::Donate => function::MEM_DONATE_32,
        }
    }

    /// What the lender gives a borrower: nothing for it to say when it donates.
    pub fn permissions(self) -> u8 {
        if self == Self::Donate { 0 } else { 2 }
    }
}

/// A descriptor in the layout of its sender's version.
pub struct Draft {
    bytes: [u8; ROOM],
    /// Bytes that are sent, as w1 says.
    pub total: usize,
    /// Bytes that are in the buffer, as w2 says.
    pub fragment: usize,
    /// Where the access descriptors start.
    pub accesses: usize,
    /// Where the composite descriptor starts, and then its ranges.
    pub composite: usize,
}

impl Draft {
    fn new(at: Instance, sender: EndpointId, borrowers: &[(EndpointId, u8)]) -> Self {
        let v1_0 = at.version() < Version::V1_1;
        let accesses = if v1_0 { transaction_v1_0::SIZE } else { transaction::SIZE };
        let composite = accesses + borrowers.len() * access::SIZE_V1_1;
        let mut draft = Self { bytes: [0; ROOM], total: composite, fragment: composite, accesses, composite };
        draft.put(transaction::SENDER, &sender.0.to_le_bytes());
        draft.put(transaction::ACCESS_COUNT, &(borrowers.len() as u32).to_le_bytes());
        if !v1_0 {
            draft.put(transaction::ACCESS_SIZE, &(access::SIZE_V1_1 as u32).to_le_bytes());
            draft.put(transaction::ACCESS_OFFSET, &(transaction::SIZE as u32).to_le_bytes());
        }
        for (n, (id, permissions)) in borrowers.iter().enumerate() {
            draft.put(draft.access(n) + access::ENDPOINT, &id.0.to_le_bytes());
            draft.put(draft.access(n) + access::PERMISSIONS, &[*permissions]);
        }
        draft
    }

    /// What a lender sends, as it should be.
    pub fn lender(at: Instance, kind: Kind, borrowers: &[EndpointId], ranges: &[(u64, u32)]) -> Self {
        let mut entries = [(EndpointId(0), kind.permissions()); 4];
        for (entry, id) in entries.iter_mut().zip(borrowers) {
            entry.0 = *id;
        }
        let mut draft = Self::new(at, at.id(), &entries[..borrowers.len()]);
        if kind == Kind::Share || borrowers.len() > 1 {
            draft.put(transaction::ATTRIBUTES, &NORMAL_MEMORY.to_le_bytes());
        }
        for n in 0..borrowers.len() {
            draft.put(draft.access(n) + access::COMPOSITE_OFFSET, &(draft.composite as u32).to_le_bytes());
        }
        let pages: u32 = ranges.iter().map(|(_, pages)| pages).sum();
        draft.put(draft.composite + composite::PAGE_COUNT, &pages.to_le_bytes());
        draft.put(draft.composite + composite::RANGE_COUNT, &(ranges.len() as u32).to_le_bytes());
        for (n, (address, pages)) in ranges.iter().enumerate() {
            draft.put(draft.range(n) + range::ADDRESS, &address.to_le_bytes());
            draft.put(draft.range(n) + range::PAGE_COUNT, &pages.to_le_bytes());
        }
        draft.total = draft.range(ranges.len());
        draft.fragment = draft.total;
        draft
    }

    /// What a borrower sends, as it should be.
    pub fn borrower(at: Instance, lender: EndpointId, handle: u64) -> Self {
        let mut draft = Self::new(at, lender, &[(at.id(), 2)]);
        draft.put(transaction::HANDLE, &handle.to_le_bytes());
        draft
    }

    /// Offset of access descriptor `n`.
    pub fn access(&self, n: usize) -> usize {
        self.accesses + n * access::SIZE_V1_1
    }

    /// Offset of range `n`.
    pub fn range(&self, n: usize) -> usize {
        self.composite + composite::SIZE + n * range::SIZE
    }

    /// Writes bytes at an offset.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes a word of 32 bits at an offset.
    pub fn put32(&mut self, offset: usize, word: u32) {
        self.put(offset, &word.to_le_bytes());
    }

    fn write(&self, at: Instance, length: usize) -> Result<(), Line> {
        let (_, tx) = at.buffers()?;
        for n in 0..length.min(ROOM).div_ceil(8) {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[8 * n..8 * n + 8]);
            at.write(tx + 8 * n as u64, u64::from_le_bytes(word))?;
        }
        Ok(())
    }

    /// Sends it as a lender: the handle.
    ///
    /// # Errors
    /// When the instance did not get to, or the answer is neither FFA_SUCCESS nor FFA_ERROR.
    pub fn send(&self, at: Instance, kind: Kind) -> Result<Result<u64, Status>, Line> {
        self.write(at, self.total)?;
        let reply = at.status(&[kind.function().into(), self.total as u64, self.fragment as u64])?;
        Ok(reply.map(|regs| u64::from(regs.w(2)) | u64::from(regs.w(3)) << 32))
    }

    /// Sends it as a borrower: the answer, whose description lies in the RX buffer then.
    ///
    /// # Errors
    /// When the instance did not get to, or the answer is neither FFA_MEM_RETRIEVE_RESP nor FFA_ERROR.
    pub fn retrieve(&self, at: Instance) -> Result<Result<Regs, Status>, Line> {
        self.write(at, self.total)?;
        let reply = at.call(&[function::MEM_RETRIEVE_REQ_32.into(), self.total as u64, self.fragment as u64])?;
        match reply.as_error() {
            Some(status) => Ok(Err(status)),
            None if reply.function() == function::MEM_RETRIEVE_RESP => Ok(Ok(reply)),
            None => Err(crate::probes::describe(&reply)),
        }
    }
}

/// FFA_MEM_RELINQUISH with these fields.
///
/// # Errors
/// As [`Draft::send`].
pub fn relinquish(at: Instance, handle: u64, flags: u32, count: u32, endpoint: EndpointId) -> Result<Result<(), Status>, Line> {
    const { assert!(relinquish::ENDPOINTS == 16 && relinquish::FLAGS == 8 && relinquish::ENDPOINT_COUNT == 12) };
    let (_, tx) = at.buffers()?;
    for (n, word) in [handle, u64::from(flags) | u64::from(count) << 32, endpoint.0.into()].into_iter().enumerate() {
        at.write(tx + 8 * n as u64, word)?;
    }
    Ok(at.status(&[function::MEM_RELINQUISH.into()])?.map(|_| ()))
}

/// FFA_MEM_RECLAIM.
///
/// # Errors
/// As [`Draft::send`].
pub fn reclaim(at: Instance, handle: u64, flags: u64) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::MEM_RECLAIM.into(), handle & 0xffff_ffff, handle >> 32, flags])?.map(|_| ()))
}

/// FFA_RX_RELEASE.
///
/// # Errors
/// As [`Draft::send`].
pub fn release(at: Instance) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::RX_RELEASE.into()])?.map(|_| ()))
}

/// Bytes of a page, as descriptors count.
pub const PAGE_BYTES: u64 = PAGE as u64;

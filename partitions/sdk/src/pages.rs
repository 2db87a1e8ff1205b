//! Whole pages of this program that others may read and write: for buffers and for sharing.
#![expect(unsafe_code, reason = "memory that changes behind Rust's back is reached by volatile accesses")]

use crate::call;
use bulkhead_ffa::{Regs, Status, function};
use core::cell::UnsafeCell;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// `N` pages of this program's memory, for statics.
#[repr(C, align(4096))]
pub struct Pages<const N: usize>(UnsafeCell<[[u8; PAGE]; N]>);

// SAFETY: the bytes are reached only by the volatile accesses below; whoever uses one static from two cores gets mixed
// bytes, as with any memory that is shared with another world, but no reference to them exists.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Pages<N> {
    /// Zeroes.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([[0; PAGE]; N]))
    }

    /// Address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Copies `data` to `offset`.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn write(&self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= N * PAGE);
        let start = self.0.get().cast::<u8>();
        for (n, byte) in data.iter().enumerate() {
            // SAFETY: inside the pages, as asserted; no reference to them exists.
            unsafe { start.add(offset + n).write_volatile(*byte) };
        }
    }

    /// Copies from `offset` to `out`.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= N * PAGE);
        let start = self.0.get().cast::<u8>();
        for (n, byte) in out.iter_mut().enumerate() {
            // SAFETY: inside the pages, as asserted; no reference to them exists.
            *byte = unsafe { start.add(offset + n).read_volatile() };
        }
    }

    /// The eight bytes at `offset`.
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl<const N: usize> Default for Pages<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// RX/TX buffers of one page each, for a static.
pub struct Mailbox {
    /// Written by the SPMC.
    pub rx: Pages<1>,
    /// Read by the SPMC.
    pub tx: Pages<1>,
}

impl Mailbox {
    /// Not mapped yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { rx: Pages::new(), tx: Pages::new() }
    }

    /// FFA_RXTX_MAP.
    ///
    /// # Errors
    /// What the SPMC answered.
    pub fn map(&self) -> Result<(), Status> {
        let regs = [u64::from(function::RXTX_MAP_64), self.tx.address(), self.rx.address(), 1];
        succeeded(&call(Regs::new(&regs)))
    }

    /// FFA_RXTX_UNMAP.
    ///
    /// # Errors
    /// What the SPMC answered.
    pub fn unmap(&self) -> Result<(), Status> {
        succeeded(&call(Regs::new(&[u64::from(function::RXTX_UNMAP)])))
    }

    /// FFA_RX_RELEASE.
    ///
    /// # Errors
    /// What the SPMC answered.
    pub fn release(&self) -> Result<(), Status> {
        succeeded(&call(Regs::new(&[u64::from(function::RX_RELEASE)])))
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a reply is FFA_SUCCESS.
///
/// # Errors
/// The status that it carries, NOT_SUPPORTED for any other reply.
pub(crate) fn succeeded(reply: &Regs) -> Result<(), Status> {
    match reply.function() {
        function::SUCCESS_32 | function::SUCCESS_64 => Ok(()),
        _ => Err(reply.as_error().unwrap_or(Status::NotSupported)),
    }
}

//! The register set of a call and endpoint identifiers.

use crate::{Message, Status, function};

/// x0 to x17 of a call or of its reply. A 32-bit call uses the low halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Regs(pub [u64; 18]);

impl Regs {
    /// Puts a message in x0 to x7.
    #[inline]
    pub fn set_message(&mut self, x: Message) {
        let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = &mut self.0;
        (*x0, *x1, *x2, *x3, *x4, *x5, *x6, *x7) = (x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
    }

    /// x0 to x7.
    #[inline]
    #[must_use]
    pub const fn message(&self) -> Message {
        let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = self.0;
        [x0, x1, x2, x3, x4, x5, x6, x7]
    }

    /// A message; x8 to x17 are zero.
    #[must_use]
    pub fn of(x: Message) -> Self {
        let mut regs = Self::default();
        regs.set_message(x);
        regs
    }

    /// A reply or call that starts with `x`; the other registers are zero.
    #[must_use]
    pub fn new(x: &[u64]) -> Self {
        let mut regs = [0; 18];
        regs[..x.len()].copy_from_slice(x);
        Self(regs)
    }

    /// FFA_SUCCESS (32-bit) with `x2` onwards from `results`.
    #[must_use]
    pub fn success(results: &[u64]) -> Self {
        let mut regs = Self::new(&[function::SUCCESS_32 as u64]);
        regs.0[2..2 + results.len()].copy_from_slice(results);
        regs
    }

    /// FFA_ERROR with `status`.
    #[must_use]
    pub fn error(status: Status) -> Self {
        Self::new(&[function::ERROR as u64, 0, status.code()])
    }

    /// The function identifier (w0) without the SVE hint.
    #[must_use]
    pub const fn function(&self) -> u32 {
        self.0[0] as u32 & !function::SVE_HINT
    }

    /// The low half of register `n`.
    #[must_use]
    pub const fn w(&self, n: usize) -> u32 {
        self.0[n] as u32
    }

    /// For FFA_ERROR: its status, if it is one that the specification defines.
    #[must_use]
    pub const fn as_error(&self) -> Option<Status> {
        match self.function() {
            function::ERROR | function::ERROR_64 => Status::from_code(self.w(2)),
            _ => None,
        }
    }
}

/// The 16-bit identifier of an endpoint, DEN0077A v1.2 section 6.1. Bit 15 set: secure world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct EndpointId(pub u16);

impl EndpointId {
    /// The normal world's hypervisor, or its only operating system.
    pub const HYPERVISOR: Self = Self(0);
    /// The SPMC, as Hafnium and TF-A's manifests call it by convention.
    pub const SPMC: Self = Self(0x8000);
    /// The SPMD, as TF-A names it in messages to the SPMC.
    pub const SPMD: Self = Self(0xFFFF);

    /// Whether the endpoint belongs to the secure world.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        self.0 & 0x8000 != 0
    }
}

impl core::fmt::Display for EndpointId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

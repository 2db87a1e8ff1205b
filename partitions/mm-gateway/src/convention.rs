//! The gateway's convention: x3 of a request is the offset of the message in the buffer, x3 of the answer one of the status codes of
//! the MM interface (Arm DEN0060A, section 2).

use bulkhead_sdk::ffa::Status;

/// EFI_MM_COMMUNICATE_HEADER: a GUID and a length.
const HEADER: u64 = 24;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum MmStatus {
    /// SUCCESS: the answer is in the buffer.
    Success = 0,
    /// NOT_SUPPORTED: nobody serves the request.
    NotSupported = -1,
    /// INVALID_PARAMETERS.
    InvalidParameters = -2,
    /// DENIED.
    Denied = -3,
    /// NO_MEMORY.
    NoMemory = -5,
}

impl MmStatus {
    /// As a register.
    pub fn register(self) -> u64 {
        (self as i64).cast_unsigned()
    }

    /// What the FF-A status of a request to StMM means to a client. The convention has no words for a partition that stays busy or has
    /// ended: U-Boot makes EFI_DEVICE_ERROR of NOT_SUPPORTED, which is right for both, and the secure console says which.
    pub fn of(status: Status) -> Self {
        match status {
            Status::InvalidParameters => Self::InvalidParameters,
            Status::Denied => Self::Denied,
            Status::NoMemory => Self::NoMemory,
            _ => Self::NotSupported,
        }
    }

    /// The status that StMM gives along with its event: zero, or one of these codes.
    pub fn of_event(code: u64) -> Self {
        match code as i32 {
            0 => Self::Success,
            -2 => Self::InvalidParameters,
            -3 => Self::Denied,
            -5 => Self::NoMemory,
            _ => Self::NotSupported,
        }
    }
}

/// The MM communication buffer.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    base: u64,
    size: u64,
}

impl Buffer {
    /// Reads the three big-endian cells of the manifest.
    pub fn parse(cells: &[u8]) -> Option<Self> {
        let (high, low, size) = (cells.get(..4)?, cells.get(4..8)?, cells.get(8..)?);
        let number = |cell: &[u8]| cell.try_into().ok().map(|bytes| u64::from(u32::from_be_bytes(bytes)));
        let buffer = Self { base: number(high)? << 32 | number(low)?, size: number(size)? };
        buffer.base.checked_add(buffer.size).map(|_| buffer)
    }

    /// Address of the message at `offset`, if its header fits. Whether the rest does, StMM judges.
    pub fn message(self, offset: u64) -> Option<u64> {
        let end = offset.checked_add(HEADER)?;
        (end <= self.size).then_some(self.base + offset)
    }
}

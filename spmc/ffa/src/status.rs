//! FF-A status codes, DEN0077A v1.2 table 12.2.

/// Why a call failed. The value is what FFA_ERROR carries in w2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// NOT_SUPPORTED.
    NotSupported = -1,
    /// INVALID_PARAMETERS.
    InvalidParameters = -2,
    /// NO_MEMORY.
    NoMemory = -3,
    /// BUSY.
    Busy = -4,
    /// INTERRUPTED.
    Interrupted = -5,
    /// DENIED.
    Denied = -6,
    /// RETRY.
    Retry = -7,
    /// ABORTED.
    Aborted = -8,
    /// NO_DATA.
    NoData = -9,
    /// NOT_READY.
    NotReady = -10,
}

impl Status {
    /// The code as a register value: sign-extended to 32 bits, upper half zero.
    #[must_use]
    pub const fn code(self) -> u64 {
        (self as i32) as u32 as u64
    }

    /// The status that `code` (w2 of FFA_ERROR) stands for, if the specification defines it.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code as i32 {
            -1 => Self::NotSupported,
            -2 => Self::InvalidParameters,
            -3 => Self::NoMemory,
            -4 => Self::Busy,
            -5 => Self::Interrupted,
            -6 => Self::Denied,
            -7 => Self::Retry,
            -8 => Self::Aborted,
            -9 => Self::NoData,
            -10 => Self::NotReady,
            _ => return None,
        })
    }
}

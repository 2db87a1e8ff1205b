//! What a partition did wrong, in words.

use core::fmt;

/// Why a partition is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Where the partition was.
    pub pc: u64,
    /// The exception syndrome (ESR_EL2, or ESR_EL1 for what S-EL0 forwarded); 0 where there is none.
    pub esr: u64,
    /// The address that it tried to reach.
    pub address: Option<u64>,
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An exception that S-EL2 does not resolve.
    Exception,
    /// A system error, or an external abort.
    SystemError,
    /// Its initialisation, or its answer to a power management message, took longer than the manifest allows.
    TimeLimit,
    /// Its initialisation ended with FFA_ERROR and this code.
    InitError(i32),
    /// It called FFA_ABORT.
    Abort,
    /// Its initialisation ended with a call that is not FFA_MSG_WAIT.
    BadInitEnd(u32),
}

/// The meaning of an exception syndrome (Arm ARM D24.2.40): class, and for aborts what was tried and what was missing.
#[derive(Clone, Copy, Debug)]
pub struct Syndrome(pub u64);

impl Syndrome {
    /// Exception class.
    #[must_use]
    pub const fn class(self) -> u64 {
        self.0 >> 26 & 0x3f
    }

    /// Whether this is an instruction or data abort.
    #[must_use]
    pub const fn is_abort(self) -> bool {
        matches!(self.class(), 0x20 | 0x21 | 0x24 | 0x25)
    }

    /// Whether a data abort was caused by a write.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(self.class(), 0x24 | 0x25) && self.0 & 1 << 6 != 0
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class() {
            0x00 => "undefined instruction",
            0x01 => "WFI or WFE",
            0x07 => "FP, SIMD or SVE instruction",
            0x0a => "instruction of an absent extension",
            0x0d => "branch target exception",
            0x0e => "illegal execution state",
            0x15 => "SVC with an immediate that is not 0",
            0x16 => "HVC with an immediate that is not 0",
            0x17 => "SMC with an immediate that is not 0",
            0x18 => "system register access",
            0x19 => "SVE instruction",
            0x1c => "pointer authentication failure",
            0x1d => "SME instruction",
            0x20 | 0x21 => "instruction fetch",
            0x22 => "misaligned program counter",
            0x24 | 0x25 => {
                if self.is_write() {
                    "write"
                } else {
                    "read"
                }
            }
            0x26 => "misaligned stack pointer",
            0x27 => "memory copy or set instruction",
            0x2c => "floating-point exception",
            0x2f => "system error",
            0x30..=0x35 => "debug exception",
            0x3c => "breakpoint instruction",
            _ => "exception of an unknown class",
        };
        f.write_str(class)?;
        if self.is_abort() {
            let reason = match self.0 & 0x3c {
                0x00 => "address size fault",
                0x04 => "nothing mapped",
                0x08 => "access flag fault",
                0x0c => "no permission",
                0x10 => "external abort",
                0x14 => "external abort on a table walk",
                0x20 => "misaligned",
                _ => "unknown fault",
            };
            write!(f, " ({reason})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Exception => write!(f, "{}", Syndrome(self.esr))?,
            FaultKind::SystemError => f.write_str("system error (asynchronous external abort)")?,
            FaultKind::TimeLimit => f.write_str("it did not finish within its time limit")?,
            FaultKind::InitError(code) => {
                let sign = if code < 0 { "-" } else { "" };
                write!(f, "its initialisation reported FFA_ERROR {sign}{}", u64::from(code.unsigned_abs()))?;
            }
            FaultKind::Abort => f.write_str("it called FFA_ABORT")?,
            FaultKind::BadInitEnd(id) => write!(f, "its initialisation ended with call {id:#010x} in place of FFA_MSG_WAIT")?,
        }
        if let Some(address) = self.address {
            write!(f, " at address {address:#x}")?;
        }
        write!(f, ", pc {:#x}", self.pc)?;
        if self.esr != 0 {
            write!(f, ", esr {:#x}", self.esr)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_stage_2_read_is_described_in_words() {
        let fault = Fault { kind: FaultKind::Exception, pc: 0x1000, esr: 0x9200_0046 & !(1 << 6) | 0x4, address: Some(0x0e60_0000) };
        assert_eq!(fault.to_string(), "read (nothing mapped) at address 0xe600000, pc 0x1000, esr 0x92000006");
    }

    #[test]
    fn every_syndrome_has_words() {
        for class in 0..64u64 {
            for low in [0, 4, 0xc, 0x10, 0x3f, 0x40] {
                assert!(!Syndrome(class << 26 | low).to_string().is_empty());
            }
        }
    }
}

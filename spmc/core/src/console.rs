//! FFA_CONSOLE_LOG (DEN0077A v1.2 section 13.16): characters of partitions, printed as whole lines.

use crate::{MAX_PARTITIONS, PartitionIndex};
use crate::calls::{Call, From};
use crate::machine::Machine;
use crate::spmc::Spmc;
use arrayvec::ArrayString;
use bulkhead_ffa::{Message, Status, Version, function, message};

/// Characters of a line; a longer one is printed in pieces.
const LINE: usize = 160;

/// The unfinished line of each partition.
pub struct Consoles {
    lines: [ArrayString<LINE>; MAX_PARTITIONS],
}

impl Consoles {
    /// Nothing printed yet.
    pub const fn new() -> Self {
        Self { lines: [const { ArrayString::new_const() }; MAX_PARTITIONS] }
    }
}

impl Spmc {
    /// Prints what a partition has written of a line that it will not finish.
    pub(crate) fn finish_line<M: Machine>(&self, machine: &mut M, partition: PartitionIndex) {
        let mut consoles = self.consoles.lock();
        let line = &mut consoles.lines[usize::from(partition) % MAX_PARTITIONS];
        if !line.is_empty() {
            machine.print(Some(partition), line);
            line.clear();
        }
    }

    pub(crate) fn console_log<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let From::Partition(vcpu) = call.from else { return Err(Status::NotSupported) };
        let wide = function::is_64_bit(call.function());
        // Characters in x2 to x7 up to v1.1, in x2 to x17 from v1.2 with 64-bit registers.
        let registers = if wide && self.version(call.from) >= Version::V1_2 { 16 } else { 6 };
        let per_register = if wide { 8 } else { 4 };
        let count = call.regs.w(1) as usize;
        if count == 0 || count > registers * per_register {
            return Err(Status::InvalidParameters);
        }
        let mut consoles = self.consoles.lock();
        let line = &mut consoles.lines[usize::from(vcpu.partition) % MAX_PARTITIONS];
        for n in 0..count {
            let byte = call.regs.0[2 + n / per_register].to_le_bytes()[n % per_register];
            match byte {
                b'\n' => {
                    machine.print(Some(vcpu.partition), line);
                    line.clear();
                }
                b'\r' | 0 => {}
                _ => {
                    if line.is_full() {
                        machine.print(Some(vcpu.partition), line);
                        line.clear();
                    }
                    let shown = if matches!(byte, b' '..=b'~' | b'\t') { byte as char } else { '?' };
                    // There is room: the line was just checked.
                    let _ = line.try_push(shown);
                }
            }
        }
        Ok(message::success(&[]))
    }
}

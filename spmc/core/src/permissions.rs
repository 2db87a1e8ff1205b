//! FFA_MEM_PERM_GET and FFA_MEM_PERM_SET (DEN0140 v1.2 sections 2.10 and 2.11): an S-EL0 partition's own page
//! permissions, while it initialises.

use crate::calls::{Call, From, decode_permissions, encode_permissions};
use crate::machine::Machine;
use crate::spmc::Spmc;
use crate::tables::PAGE;
use crate::vcpu::{Model, VcpuId};
use bulkhead_ffa::{Message, Status, Version, function, message};

/// Pages that one call may name: bounds its work to a partition's whole memory.
const MAX_PAGES: u64 = 0x4000;

impl Spmc {
    /// Only S-EL0 partitions have these calls, and only before they are initialised.
    fn permission_caller(&self, call: &Call) -> Result<VcpuId, Status> {
        let From::Partition(vcpu) = call.from else { return Err(Status::NotSupported) };
        let (_, state) = self.vcpu(vcpu);
        match self.config_of(vcpu) {
            Some(config) if config.s_el0 => {}
            _ => return Err(Status::NotSupported),
        }
        if state.model() == Model::Init { Ok(vcpu) } else { Err(Status::Denied) }
    }

    fn permission_range(call: &Call, pages: u64) -> Result<(u64, u64), Status> {
        let base = if function::is_64_bit(call.function()) { call.regs.0[1] } else { u64::from(call.regs.w(1)) };
        let fits = pages != 0 && pages <= MAX_PAGES && base.checked_add(pages * PAGE).is_some();
        if base % PAGE != 0 || !fits {
            return Err(Status::InvalidParameters);
        }
        Ok((base, pages))
    }

    pub(crate) fn memory_permissions_get<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let vcpu = self.permission_caller(call)?;
        // From v1.3 (and by EDK2's clients already) w2 is the page count less one; up to v1.2 it is reserved.
        let asked = if self.version(call.from) > Version::V1_2 { u64::from(call.regs.w(2)) + 1 } else { 1 };
        let (base, pages) = Self::permission_range(call, asked)?;
        let first = machine.permissions(vcpu.partition, base).ok_or(Status::InvalidParameters)?;
        let same = (1..pages).take_while(|n| machine.permissions(vcpu.partition, base + n * PAGE) == Some(first)).count() as u64;
        Ok(message::success(&[encode_permissions(first), same]))
    }

    pub(crate) fn memory_permissions_set<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let vcpu = self.permission_caller(call)?;
        let (base, pages) = Self::permission_range(call, u64::from(call.regs.w(2)))?;
        let permissions = decode_permissions(call.regs.w(3)).ok_or(Status::InvalidParameters)?;
        let own = (0..pages).all(|n| machine.may_set_permissions(vcpu.partition, base + n * PAGE));
        if !own {
            return Err(Status::InvalidParameters);
        }
        machine.set_permissions(vcpu.partition, base, pages, permissions).map_err(|_| Status::NoMemory)?;
        Ok(message::success(&[]))
    }
}

//! The table of calls: which function answers which identifier, for which caller.

use crate::machine::{Machine, Permissions};
use crate::spmc::{Spmc, UNKNOWN};
use crate::vcpu::VcpuId;
use bulkhead_ffa::{EndpointId, Message, Regs, Status, function};

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The normal world, through the SPMD.
    NormalWorld,
    /// A partition's vCPU, which this core has claimed.
    Partition(VcpuId),
}

impl From {
    /// How the machine names the owner of memory.
    pub fn owner(self) -> crate::memory::Owner {
        match self {
            Self::NormalWorld => crate::memory::Owner::NormalWorld,
            Self::Partition(vcpu) => crate::memory::Owner::Partition(vcpu.partition),
        }
    }
}

/// A call and its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Who calls.
    pub from: From,
    /// With which registers.
    pub regs: &'a Regs,
}

impl Call<'_> {
    /// The function identifier without the SVE hint.
    pub fn function(&self) -> u32 {
        self.regs.function()
    }

    /// Sender and receiver of w1.
    pub fn sender_receiver(&self) -> (EndpointId, EndpointId) {
        (EndpointId((self.regs.w(1) >> 16) as u16), EndpointId(self.regs.w(1) as u16))
    }

    /// INVALID_PARAMETERS unless the registers of `range` are zero (their low halves for a 32-bit call).
    pub fn zero(&self, range: core::ops::RangeInclusive<usize>) -> Result<(), Status> {
        let wide = function::is_64_bit(self.function());
        let zero = range.into_iter().all(|n| if wide { self.regs.0[n] == 0 } else { self.regs.w(n) == 0 });
        if zero { Ok(()) } else { Err(Status::InvalidParameters) }
    }
}

impl Spmc {
    /// Calls that neither run another endpoint nor give up the caller's core, and are answered by x0 to x7, from any caller.
    pub(crate) fn common_call<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        match call.function() {
            function::VERSION => Ok(self.version_call(call)),
            function::FEATURES => self.features(call),
            function::ID_GET => self.id_get(call),
            function::SPM_ID_GET => self.spm_id_get(call),
            function::PARTITION_INFO_GET => self.partition_info_get(machine, call),
            function::RXTX_MAP_32 | function::RXTX_MAP_64 => self.rxtx_map(machine, call),
            function::RXTX_UNMAP => self.rxtx_unmap(call),
            function::RX_RELEASE => self.rx_release(call),
            function::MSG_SEND2 => self.message_send(machine, call),
            function::RX_ACQUIRE => self.rx_acquire(call),
            function::MEM_SHARE_32 | function::MEM_SHARE_64 | function::MEM_LEND_32 | function::MEM_LEND_64
            | function::MEM_DONATE_32 | function::MEM_DONATE_64 => self.memory_send(machine, call),
            function::MEM_FRAG_TX => self.memory_fragment_tx(machine, call),
            function::MEM_FRAG_RX => self.memory_fragment_rx(machine, call),
            function::MEM_RETRIEVE_REQ_32 | function::MEM_RETRIEVE_REQ_64 => self.memory_retrieve(machine, call),
            function::MEM_RELINQUISH => self.memory_relinquish(machine, call),
            function::MEM_RECLAIM => self.memory_reclaim(machine, call),
            function::MEM_PERM_GET_32 | function::MEM_PERM_GET_64 => self.memory_permissions_get(machine, call),
            function::MEM_PERM_SET_32 | function::MEM_PERM_SET_64 => self.memory_permissions_set(machine, call),
            function::NOTIFICATION_BITMAP_CREATE => self.notification_bitmap_create(call),
            function::NOTIFICATION_BITMAP_DESTROY => self.notification_bitmap_destroy(call),
            function::NOTIFICATION_BIND => self.notification_bind(call),
            function::NOTIFICATION_UNBIND => self.notification_unbind(call),
            function::NOTIFICATION_SET => self.notification_set(machine, call),
            function::NOTIFICATION_GET => self.notification_get(call),
            function::NOTIFICATION_INFO_GET_32 | function::NOTIFICATION_INFO_GET_64 => self.notification_info_get(call),
            function::CONSOLE_LOG_32 | function::CONSOLE_LOG_64 => self.console_log(machine, call),
            function::SECONDARY_EP_REGISTER_32 | function::SECONDARY_EP_REGISTER_64 => self.secondary_entry_register(machine, call),
            _ => Err(UNKNOWN),
        }
    }
}

/// FFA_MEM_PERM's encoding of permissions (DEN0140 v1.2 table 2.14): bits 1..0 data, bit 2 execute never.
pub(crate) fn encode_permissions(p: Permissions) -> u64 {
    let data = match (p.read, p.write) {
        (_, true) => 1,
        (true, false) => 3,
        (false, false) => 0,
    };
    data | u64::from(!p.execute) << 2
}

/// The inverse of [`encode_permissions`], for what FFA_MEM_PERM_SET may ask.
pub(crate) fn decode_permissions(bits: u32) -> Option<Permissions> {
    let execute = bits & 4 == 0;
    match bits {
        0 | 4 => Some(Permissions { read: false, write: false, execute: false }).filter(|_| bits == 4),
        5 => Some(Permissions { read: true, write: true, execute: false }),
        3 | 7 => Some(Permissions { read: true, write: false, execute }),
        _ => None,
    }
}

//! FFA_VERSION, FFA_FEATURES, FFA_ID_GET, FFA_SPM_ID_GET, FFA_PARTITION_INFO_GET and _REGS (DEN0077A v1.2 chapter 13).

use crate::calls::{Call, From};
use crate::interrupts::SCHEDULE_RECEIVER;
use crate::virtual_interrupts::{MANAGED_EXIT, NOTIFICATION_PENDING};
use crate::machine::{Address, Machine};
use crate::mailbox::BUFFER_SIZE;
use crate::partition::{Methods, Partition, PartitionConfig, Service};
use crate::spmc::{OUR_VERSION, Spmc, UNKNOWN};
use bulkhead_ffa::descriptor::partition_info;
use bulkhead_ffa::{EndpointId, Message, Regs, Status, Uuid, Version, function, message};

/// Partition properties (table 6.2).
mod property {
    pub const DIRECT_RECEIVE: u32 = 1 << 0;
    pub const DIRECT_SEND: u32 = 1 << 1;
    pub const INDIRECT: u32 = 1 << 2;
    pub const NOTIFICATIONS: u32 = 1 << 3;
    pub const VM_CREATED: u32 = 1 << 6;
    pub const VM_DESTROYED: u32 = 1 << 7;
    pub const AARCH64: u32 = 1 << 8;
    pub const DIRECT2_RECEIVE: u32 = 1 << 9;
    pub const DIRECT2_SEND: u32 = 1 << 10;
}

/// w5 of FFA_PARTITION_INFO_GET: only the number of partitions is wanted.
const COUNT_ONLY: u32 = 1;
/// w2 of FFA_FEATURES for FFA_MEM_RETRIEVE_REQ: the caller understands the NS bit.
const NS_BIT: u32 = 1 << 1;
/// Entries in one answer of FFA_PARTITION_INFO_GET_REGS: x3 to x17, three registers each.
const ENTRIES_IN_REGISTERS: usize = 5;

impl Spmc {
    /// FFA_VERSION: the answer is a bare value.
    pub(crate) fn version_call(&self, call: &Call) -> Message {
        message::new(&[self.negotiate(call.from, call.regs.w(1))])
    }

    /// Settles the caller's version; returns what FFA_VERSION answers (section 13.2).
    pub(crate) fn negotiate(&self, from: From, asked: u32) -> u64 {
        let version = Version(asked);
        if asked & 1 << 31 != 0 || version.major() != OUR_VERSION.major() {
            return Status::NotSupported.code();
        }
        if self.endpoint(from).spoken.agree(version) { u64::from(OUR_VERSION.0) } else { Status::NotSupported.code() }
    }

    pub(crate) fn id_get(&self, call: &Call) -> Result<Message, Status> {
        Ok(message::success(&[u64::from(self.id(call.from).0)]))
    }

    pub(crate) fn spm_id_get(&self, call: &Call) -> Result<Message, Status> {
        if self.version(call.from) < Version::V1_1 {
            return Err(UNKNOWN);
        }
        Ok(message::success(&[u64::from(EndpointId::SPMC.0)]))
    }

    /// FFA_FEATURES, section 13.3.
    pub(crate) fn features(&self, call: &Call) -> Result<Message, Status> {
        let asked = call.regs.w(1);
        let properties = call.regs.w(2);
        // w2 has a meaning since v1.1.
        let properties = if self.version(call.from) < Version::V1_1 { 0 } else { properties };
        let retrieve = matches!(asked, function::MEM_RETRIEVE_REQ_32 | function::MEM_RETRIEVE_REQ_64);
        if properties & !(if retrieve { NS_BIT } else { 0 }) != 0 {
            return Err(Status::InvalidParameters);
        }
        if asked & 1 << 31 == 0 {
            return self.feature(call.from, asked);
        }
        let secure = matches!(call.from, From::Partition(_));
        // A partition at v1.1 or later must understand the NS bit: it gets no memory without it.
        if retrieve && secure && self.version(call.from) >= Version::V1_1 && properties & NS_BIT == 0 {
            return Err(UNKNOWN);
        }
        let s_el0 = matches!(call.from, From::Partition(vcpu) if self.config_of(vcpu).is_some_and(|c| c.s_el0));
        let multiprocessor = matches!(call.from, From::Partition(vcpu) if self.config_of(vcpu).is_some_and(|c| c.vcpus > 1));
        let version = self.version(call.from);
        let v1_1 = version >= Version::V1_1;
        let v1_2 = version >= Version::V1_2;
        let supported = match asked {
            function::ERROR | function::SUCCESS_32 | function::SUCCESS_64 | function::INTERRUPT | function::VERSION | function::FEATURES
            | function::RX_RELEASE | function::RXTX_UNMAP | function::PARTITION_INFO_GET | function::ID_GET | function::RUN
            | function::MSG_SEND_DIRECT_REQ_32 | function::MSG_SEND_DIRECT_REQ_64
            | function::MEM_DONATE_32 | function::MEM_DONATE_64 | function::MEM_LEND_32 | function::MEM_LEND_64
            | function::MEM_SHARE_32 | function::MEM_SHARE_64 | function::MEM_RECLAIM | function::MEM_FRAG_RX | function::MEM_FRAG_TX
            | function::MEM_RETRIEVE_RESP | function::MEM_RELINQUISH => true,
            function::RXTX_MAP_32 | function::RXTX_MAP_64 => {
                // Bits 1..0: 0, 4 KiB minimum and alignment; bits 31..16 (v1.2): most pages.
                return Ok(message::success(&[if v1_2 { 1 << 16 } else { 0 }]));
            }
            function::MEM_RETRIEVE_REQ_32 | function::MEM_RETRIEVE_REQ_64 => {
                // Bit 1 of w2, in and out: the NS bit of retrieved memory is reported. Bit 2: the normal world's hypervisor may
                // retrieve, too. w3: outstanding retrievals, as bits - 1.
                return Ok(message::success(&[u64::from(v1_1) << 1 | u64::from(v1_1) << 2, 0]));
            }
            // The answers to direct requests and FFA_RUN, which the normal world receives: it may ask for them.
            function::MSG_WAIT | function::MSG_SEND_DIRECT_RESP_32 | function::MSG_SEND_DIRECT_RESP_64 => true,
            function::YIELD => secure,
            function::MEM_PERM_GET_32 | function::MEM_PERM_GET_64 | function::MEM_PERM_SET_32 | function::MEM_PERM_SET_64 => s_el0,
            function::CONSOLE_LOG_32 | function::CONSOLE_LOG_64 | function::ABORT_32 | function::ABORT_64 => secure,
            function::SECONDARY_EP_REGISTER_32 | function::SECONDARY_EP_REGISTER_64 => secure && multiprocessor,
            function::SPM_ID_GET | function::NOTIFICATION_BIND | function::NOTIFICATION_UNBIND | function::NOTIFICATION_SET | function::NOTIFICATION_GET
            | function::MSG_SEND2 | function::PARTITION_INFO_GET_REGS => v1_1,
            // Calls of the normal world. Partitions that were written for Hafnium expect to find them, too.
            function::NOTIFICATION_BITMAP_CREATE | function::NOTIFICATION_BITMAP_DESTROY | function::NOTIFICATION_INFO_GET_32
            | function::NOTIFICATION_INFO_GET_64 => v1_1,
            function::RX_ACQUIRE => v1_1 && !secure,
            function::MSG_SEND_DIRECT_REQ2 | function::MSG_SEND_DIRECT_RESP2 => v1_2,
            _ => false,
        };
        if supported { Ok(message::success(&[])) } else { Err(UNKNOWN) }
    }

    /// Feature ids, table 13.14.
    fn feature(&self, from: From, id: u32) -> Result<Message, Status> {
        let secure = matches!(from, From::Partition(_));
        match id {
            1 if self.has_virtual_interrupts(from) => Ok(message::success(&[u64::from(NOTIFICATION_PENDING)])),
            2 if !secure => Ok(message::success(&[u64::from(SCHEDULE_RECEIVER)])),
            3 if self.has_virtual_interrupts(from) => Ok(message::success(&[u64::from(MANAGED_EXIT)])),
            _ => Err(UNKNOWN),
        }
    }

    /// S-EL0 has none; what a partition's own are used for, its manifest says.
    fn has_virtual_interrupts(&self, from: From) -> bool {
        matches!(from, From::Partition(vcpu) if self.config_of(vcpu).is_some_and(|c| !c.s_el0))
    }

    /// Shows `visit` the services that `uuid` selects, one for each entry of the answer, and returns how many they are. For the nil
    /// UUID they are all, or (where an entry has no UUID) the first of each partition.
    #[inline(never)]
    fn visit_selected(&self, uuid: Uuid, each_service: bool, visit: &mut dyn FnMut(usize, &Partition, &PartitionConfig, &Service)) -> usize {
        let all = uuid == Uuid::NIL;
        let mut count = 0;
        for (_, partition, config) in self.partitions().filter(|(_, partition, _)| !partition.has_failed()) {
            for service in config.services.iter().filter(|s| all || s.uuid == uuid) {
                visit(count, partition, config, service);
                count += 1;
                if all && !each_service {
                    break;
                }
            }
        }
        count
    }

    /// FFA_PARTITION_INFO_GET, section 13.8.
    pub(crate) fn partition_info_get<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let uuid = Uuid::from_words([1, 2, 3, 4].map(|n| call.regs.w(n)));
        let flags = call.regs.w(5);
        if flags & !COUNT_ONLY != 0 {
            return Err(Status::InvalidParameters);
        }
        let version = self.version(call.from);
        // Entries have a UUID since v1.1.
        let each_service = version >= Version::V1_1;
        let count = self.visit_selected(uuid, each_service, &mut |_, _, _, _| {});
        if count == 0 {
            return Err(Status::InvalidParameters);
        }
        if flags & COUNT_ONLY != 0 {
            return Ok(message::success(&[count as u64]));
        }
        let size = if version >= Version::V1_1 { partition_info::SIZE } else { partition_info::SIZE_V1_0 };
        let mut mailbox = self.endpoint(call.from).mailbox.lock();
        let rx = mailbox.free_rx()?;
        if (count * size) as u64 > BUFFER_SIZE {
            return Err(Status::NoMemory);
        }
        let mut written = Ok(());
        self.visit_selected(uuid, each_service, &mut |n, partition, config, service| {
            if n >= count || written.is_err() {
                return;
            }
            let bits = properties(call.from, version, partition, config, service);
            let mut bytes = [0; partition_info::SIZE];
            bytes[partition_info::ID..][..2].copy_from_slice(&config.id.0.to_le_bytes());
            bytes[partition_info::EXECUTION_CONTEXTS..][..2].copy_from_slice(&u16::from(config.vcpus).to_le_bytes());
            bytes[partition_info::PROPERTIES..][..4].copy_from_slice(&bits.to_le_bytes());
            if uuid == Uuid::NIL {
                bytes[partition_info::UUID..].copy_from_slice(&service.uuid.0);
            }
            let to = Address { pa: rx.pa + (n * size) as u64, ..rx };
            written = machine.write(to, &bytes[..size]).map_err(|_| Status::InvalidParameters);
        });
        written?;
        mailbox.give();
        // At v1.0 it may be known without this, but TF-A-Tests look there.
        Ok(message::success(&[count as u64, size as u64]))
    }

    /// FFA_PARTITION_INFO_GET_REGS, section 13.9.
    pub(crate) fn partition_info_get_regs(&self, call: &Call) -> Result<Regs, Status> {
        let version = self.version(call.from);
        if version < Version::V1_1 {
            return Err(UNKNOWN);
        }
        let uuid = Uuid::from_doublewords(call.regs.0[1], call.regs.0[2]);
        let start = usize::from(call.regs.0[3] as u16);
        let tag = (call.regs.0[3] >> 16) as u16;
        let count = self.visit_selected(uuid, true, &mut |_, _, _, _| {});
        // The set of partitions changes only when one fails; the tag tells a client that its earlier entries are stale.
        let current = self.partitions().filter(|(_, p, _)| p.has_failed()).count() as u16;
        if tag != (if start == 0 { 0 } else { current }) {
            return Err(Status::Retry);
        }
        if count == 0 || start >= count {
            return Err(Status::InvalidParameters);
        }
        let last = count - 1;
        let current_index = last.min(start + ENTRIES_IN_REGISTERS - 1);
        let mut reply = Regs::new(&[u64::from(function::SUCCESS_64), 0]);
        reply.0[2] = last as u64 | (current_index as u64) << 16 | u64::from(current) << 32 | (partition_info::SIZE as u64) << 48;
        self.visit_selected(uuid, true, &mut |n, partition, config, service| {
            let Some(entry) = n.checked_sub(start).filter(|entry| *entry < ENTRIES_IN_REGISTERS) else { return };
            let bits = properties(call.from, version, partition, config, service);
            let x = &mut reply.0[3 + 3 * entry..][..3];
            x[0] = u64::from(config.id.0) | u64::from(config.vcpus) << 16 | u64::from(bits) << 32;
            if uuid == Uuid::NIL {
                x[1..].copy_from_slice(&service.uuid.doublewords());
            }
        });
        Ok(reply)
    }
}

/// A service's properties as this caller may see them: what caller and partition both know at their versions.
fn properties(from: From, version: Version, partition: &Partition, config: &PartitionConfig, service: &Service) -> u32 {
    let methods = partition.methods(service.methods);
    let caller_secure = matches!(from, From::Partition(_));
    let mut bits = 0;
    let mut set = |condition: bool, bit: u32| {
        if condition {
            bits |= bit;
        }
    };
    set(methods.has(Methods::DIRECT_RECEIVE), property::DIRECT_RECEIVE);
    // Partitions do not send direct requests to the normal world: to it they are receivers only.
    set(caller_secure && methods.has(Methods::DIRECT_SEND), property::DIRECT_SEND);
    set(methods.has(Methods::INDIRECT), property::INDIRECT);
    if version >= Version::V1_1 {
        set(config.notifications && partition.endpoint.spoken.version() >= Version::V1_1, property::NOTIFICATIONS);
        set(true, property::AARCH64);
        // What the hypervisor is to tell a partition is no other partition's business.
        let told = !caller_secure && methods.has(Methods::DIRECT_RECEIVE);
        set(told && config.vm_messages.created, property::VM_CREATED);
        set(told && config.vm_messages.destroyed, property::VM_DESTROYED);
    }
    if version >= Version::V1_2 {
        set(methods.has(Methods::DIRECT2_RECEIVE), property::DIRECT2_RECEIVE);
        set(caller_secure && methods.has(Methods::DIRECT2_SEND), property::DIRECT2_SEND);
    }
    bits
}

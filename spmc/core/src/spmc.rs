//! The SPMC's state, and the way from the normal world's call to its answer.

use crate::calls::{Call, From};
use crate::machine::Machine;
use crate::fast::{self, Tried};
use crate::memory;
use crate::notifications::Notifications;
use crate::partition::{Endpoint, Partition, PartitionConfig};
use crate::vcpu::VcpuId;
use crate::vms::{MAX_VMS, Vm};
use crate::{MAX_CORES, MAX_PARTITIONS, PartitionIndex};
use bulkhead_ffa::{EndpointId, Message, Regs, Status, Version, function, message};
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::sync::Mutex;

/// The FF-A version that Bulkhead implements.
pub const OUR_VERSION: Version = Version::V1_2;

/// Bits of [`Spmc::attention`].
pub(crate) mod attention {
    /// A vCPU is to run on the core for an interrupt; which one, [`crate::partition::Partition::wanted_on`] says.
    pub const WANTED: u8 = 1;
    /// A partition has set a notification there and delayed the schedule receiver interrupt.
    pub const DELAYED: u8 = 2;
}

/// A partition: its index, its state and its configuration.
pub type Found<'a> = (PartitionIndex, &'a Partition, &'a PartitionConfig);

/// Partition indices in the order of the table, as [`Spmc::set_boot_order`] packs them.
const TABLE_ORDER: u64 = 0x0706_0504_0302_0100;

/// Everything that cores share.
///
/// A fresh one is all zero bits: it is a static of the binary, and so costs nothing in the image.
///
/// Locks are taken in this order: mailboxes of partitions, the normal world's, virtual machines', notifications, memory,
/// consoles; none is held while a partition runs.
#[repr(C)]
pub struct Spmc {
    /// What each core has to look after before it goes to the normal world: bits of [`attention`]. With `normal_world`'s
    /// version, which comes next, one cache line that every call reads and few write.
    pub(crate) attention: [AtomicU8; MAX_CORES],
    pub(crate) normal_world: Endpoint,
    partitions: [Partition; MAX_PARTITIONS],
    count: AtomicU8,
    pub(crate) vms: [Vm; MAX_VMS],
    pub(crate) notifications: Mutex<Notifications>,
    pub(crate) memory: Mutex<memory::MemoryManager>,
    pub(crate) consoles: Mutex<crate::console::Consoles>,
    /// Partition indices in boot order, one byte each from bit 0, exclusive-or the order of the table.
    boot_order: AtomicU64,
}

impl Spmc {
    /// No partitions yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            attention: [const { AtomicU8::new(0) }; MAX_CORES],
            normal_world: Endpoint::new(),
            partitions: [const { Partition::new() }; MAX_PARTITIONS],
            count: AtomicU8::new(0),
            vms: [const { Vm::new() }; MAX_VMS],
            notifications: Mutex::new(Notifications::new()),
            memory: Mutex::new(memory::MemoryManager::new()),
            consoles: Mutex::new(crate::console::Consoles::new()),
            boot_order: AtomicU64::new(0),
        }
    }

    /// Adds a partition, at boot. Returns its index; `None` when the table is full.
    pub fn add(&self, config: PartitionConfig) -> Option<PartitionIndex> {
        let index = self.count.load(Ordering::Relaxed);
        let place = self.partitions.get(usize::from(index))?;
        place.fast.store(fast::usual_about(&config, index), Ordering::Relaxed);
        place.configure(config);
        self.count.store(index + 1, Ordering::Release);
        Some(index)
    }

    /// Sets the order in which partitions are initialised: `order[n]` is the index of the n-th.
    pub fn set_boot_order(&self, order: &[PartitionIndex]) {
        let word = order.iter().take(8).rev().fold(0u64, |word, index| word << 8 | u64::from(*index));
        self.boot_order.store(word ^ TABLE_ORDER, Ordering::Relaxed);
    }

    pub(crate) fn boot_order(&self) -> impl Iterator<Item = PartitionIndex> {
        let word = self.boot_order.load(Ordering::Relaxed) ^ TABLE_ORDER;
        (0..self.count()).map(move |n| (word >> (8 * n)) as u8)
    }

    pub(crate) fn count(&self) -> u8 {
        self.count.load(Ordering::Acquire)
    }

    /// Partition `index`, if there is one.
    pub fn partition(&self, index: PartitionIndex) -> Option<(&Partition, &PartitionConfig)> {
        let partition = self.partitions.get(usize::from(index))?;
        Some((partition, partition.config()?))
    }

    /// The same, with its index.
    pub(crate) fn found(&self, index: PartitionIndex) -> Option<Found<'_>> {
        self.partition(index).map(|(partition, config)| (index, partition, config))
    }

    /// All partitions, with their indices.
    pub fn partitions(&self) -> impl Iterator<Item = Found<'_>> {
        (0..self.count()).filter_map(|index| self.found(index))
    }

    /// The partition with this id.
    #[inline(always)]
    pub fn find(&self, id: EndpointId) -> Option<Found<'_>> {
        // Ids are handed out from 0x8001 on in the order of the table in every manifest that we know; others are searched.
        let guess = usize::from(id.0.wrapping_sub(0x8001));
        if let Some(partition) = self.partitions.get(guess)
            && let Some(config) = partition.config()
            && config.id == id
        {
            return Some((guess as u8, partition, config));
        }
        self.search(id)
    }

    #[cold]
    fn search(&self, id: EndpointId) -> Option<Found<'_>> {
        self.partitions().find(|(_, _, config)| config.id == id)
    }

    /// A vCPU's partition and shared state. The id is one that this crate made, so it exists.
    pub(crate) fn vcpu(&self, id: VcpuId) -> (&Partition, &crate::vcpu::Vcpu) {
        let partition = &self.partitions[usize::from(id.partition) % MAX_PARTITIONS];
        (partition, &partition.vcpus[usize::from(id.index) % crate::MAX_CORES])
    }

    pub(crate) fn config_of(&self, id: VcpuId) -> Option<&PartitionConfig> {
        self.vcpu(id).0.config()
    }

    pub(crate) fn endpoint(&self, from: From) -> &Endpoint {
        match from {
            From::NormalWorld => &self.normal_world,
            From::Partition(vcpu) => &self.vcpu(vcpu).0.endpoint,
        }
    }

    pub(crate) fn id(&self, from: From) -> EndpointId {
        match from {
            From::NormalWorld => EndpointId::HYPERVISOR,
            From::Partition(vcpu) => self.config_of(vcpu).map_or(EndpointId::SPMC, |c| c.id),
        }
    }

    pub(crate) fn version(&self, from: From) -> Version {
        self.endpoint(from).spoken.version()
    }

    /// Answers one call that the SPMD delivered: the normal world's, or a message of the SPMD's own. Its x0 to x7 are `x`,
    /// its x8 to x17 in their places of `regs`; the answer goes to `reply` in the same form, and what that returns is returned.
    ///
    /// (A result in place of `reply` would have the answers of both paths moved to the same registers first.)
    #[inline(always)]
    pub fn handle_normal_world<M: Machine, T>(&self, machine: &mut M, x: Message, regs: &mut Regs, reply: impl Fn(Message, &mut Regs) -> T) -> T {
        if cfg!(not(feature = "no-fast-path")) {
            let tried = if x[0] == u64::from(function::RUN) { self.fast_run(machine, x, regs) } else { self.fast_request(machine, x, regs) };
            match tried {
                Tried::Answered(answer) => return reply(answer, regs),
                Tried::Put => return reply(regs.message(), regs),
                Tried::Unusual => {}
            }
        }
        regs.set_message(x);
        if needs_general_path(regs.function()) {
            self.general_path(machine, regs);
            return reply(regs.message(), regs);
        }
        self.normal_world.spoken.lock();
        let answer = self.common_call(machine, &Call { from: From::NormalWorld, regs });
        reply(answer.unwrap_or_else(message::error), regs)
    }

    /// [`Self::handle_normal_world`] for every call, with all registers in `regs`.
    #[inline(never)]
    pub(crate) fn general_path<M: Machine>(&self, machine: &mut M, regs: &mut Regs) {
        let call = Call { from: From::NormalWorld, regs };
        let function = call.function();
        let result = match function {
            // The SPMD asks for itself what the normal world asks it.
            function::VERSION => Ok(Regs::of(self.version_call(&call))),
            function::MSG_SEND_DIRECT_REQ_32 if (regs.w(1) >> 16) as u16 == EndpointId::SPMD.0 => Ok(self.spmd_message(machine, &call)),
            function::INTERRUPT => Ok(self.secure_interrupt_in_normal_world(machine)),
            _ => {
                self.normal_world.spoken.lock();
                match function {
                    function::MSG_SEND_DIRECT_REQ_32 | function::MSG_SEND_DIRECT_REQ_64 | function::MSG_SEND_DIRECT_REQ2 => {
                        self.request_from_normal_world(machine, &call)
                    }
                    function::RUN => self.run_from_normal_world(machine, &call),
                    function::PARTITION_INFO_GET_REGS => self.partition_info_get_regs(&call),
                    _ => self.common_call(machine, &call).map(Regs::of),
                }
            }
        };
        match &result {
            Ok(reply) => answer(regs, reply),
            Err(status) => answer(regs, &Regs::error(*status)),
        }
    }

    /// Place `index` of the table, whether or not there is a partition in it.
    pub(crate) fn place(&self, index: u64) -> Option<&Partition> {
        self.partitions.get(index as usize)
    }
}

impl Default for Spmc {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a call of the normal world is not one that [`Spmc::common_call`] answers.
const fn needs_general_path(function: u32) -> bool {
    matches!(
        function,
        function::VERSION
            | function::INTERRUPT
            | function::RUN
            | function::PARTITION_INFO_GET_REGS
            | function::MSG_SEND_DIRECT_REQ_32
            | function::MSG_SEND_DIRECT_REQ_64
            | function::MSG_SEND_DIRECT_REQ2
    )
}

/// Puts the answer `reply` to the call in `regs` there. x8 to x17 belong to the caller, except where the reply defines them
/// (SMCCC 1.2, DEN0077A v1.2 section 11.2).
pub(crate) fn answer(regs: &mut Regs, reply: &Regs) {
    if carries_extended_registers(regs.function(), reply.function()) {
        *regs = *reply;
        return;
    }
    let ([x0, x1, x2, x3, x4, x5, x6, x7, ..], reply) = (&mut regs.0, &reply.0);
    (*x0, *x1, *x2, *x3) = (reply[0], reply[1], reply[2], reply[3]);
    (*x4, *x5, *x6, *x7) = (reply[4], reply[5], reply[6], reply[7]);
}

/// Whether x8 to x17 of the answer `reply` to `call` mean something.
pub(crate) fn carries_extended_registers(call: u32, reply: u32) -> bool {
    matches!(reply, function::MSG_SEND_DIRECT_REQ2 | function::MSG_SEND_DIRECT_RESP2)
        || (call == function::PARTITION_INFO_GET_REGS && reply == function::SUCCESS_64)
}

/// A status for calls that nobody implements.
pub(crate) const UNKNOWN: Status = Status::NotSupported;

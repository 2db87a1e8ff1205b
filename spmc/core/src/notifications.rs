//! Notifications (DEN0077A v1.2 chapter 10 and sections 16.1 to 16.7): bits that one endpoint sets and another collects.
//!
//! A receiver has two bitmaps of 64 bits: one for senders of the secure world, one for those of the normal world. The
//! normal world's receivers exist from FFA_NOTIFICATION_BITMAP_CREATE on; a partition is one if its manifest says so.
//! Registers that are reserved and should be zero (SBZ) are not looked at, those that must be (MBZ) are.
//!
//! Invariant: a pending bit is bound, to the sender that set it and for the kind (global or per vCPU) in which it pends.

mod lists;

use crate::calls::{Call, From};
use crate::machine::Machine;
use crate::messaging::vcpu_on;
use crate::spmc::{Found, Spmc, UNKNOWN, attention};
use crate::vcpu::{RunState, VcpuId};
use crate::virtual_interrupts::{NOTIFICATION_PENDING, slots};
use crate::{MAX_CORES, MAX_PARTITIONS, PartitionIndex};
use bulkhead_ffa::{EndpointId, Message, Status, Version, function, message};
use crate::sync::atomic::Ordering;
use lists::Lists;

/// Receivers of the normal world at the most: its operating system, and a hypervisor's virtual machines.
const MAX_VMS: usize = 4;

/// w2 of BIND and SET: the notification is for one vCPU.
const PER_VCPU: u32 = 1 << 0;
/// w2 of SET and of FFA_MSG_SEND2: the schedule receiver interrupt waits until the normal world gets the core anyway.
pub(crate) const DELAY: u32 = 1 << 1;
/// w2 of GET: which bitmaps are wanted.
const FROM_PARTITIONS: u32 = 1 << 0;
const FROM_VMS: u32 = 1 << 1;
/// w2 of GET: the framework's half that is the SPM's.
const FROM_SPM: u32 = 1 << 2;
/// w2 of GET: the framework's two halves, the SPM's and the hypervisor's. Both are kept here, and one flag is enough to
/// get both, as suites and partitions expect of an SPMC.
const FROM_FRAMEWORK: u32 = 3 << 2;
/// w2 of GET: all bitmaps that there are.
const ALL_BITMAPS: u32 = FROM_PARTITIONS | FROM_VMS | FROM_FRAMEWORK;

/// The framework's notification that a message lies in the receiver's RX buffer: its bit in w6 (SPM) or w7 (hypervisor) of
/// FFA_NOTIFICATION_GET's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum RxFull {
    /// From a partition: the SPM's.
    FromPartition = 1 << 0,
    /// From the normal world: what its hypervisor would signal.
    FromNormalWorld = 1 << 32,
}

/// Bits that are set and not yet collected.
#[derive(Clone, Copy)]
struct Pending {
    bits: u64,
    /// Those that FFA_NOTIFICATION_INFO_GET has reported since they were set.
    reported: u64,
}

impl Pending {
    const NONE: Self = Self { bits: 0, reported: 0 };

    fn set(&mut self, bits: u64) {
        self.bits |= bits;
        self.reported &= !bits;
    }

    fn take(&mut self) -> u64 {
        core::mem::replace(self, Self::NONE).bits
    }

    fn unreported(&self) -> bool {
        self.bits & !self.reported != 0
    }
}

/// The notifications of one receiver from one world.
struct Bitmap {
    /// Who may set each bit that is bound.
    senders: [EndpointId; 64],
    bound: u64,
    /// Which of the bound bits are per-vCPU ones.
    per_vcpu: u64,
    global: Pending,
    vcpus: [Pending; MAX_CORES],
}

impl Bitmap {
    const fn new() -> Self {
        Self { senders: [EndpointId(0); 64], bound: 0, per_vcpu: 0, global: Pending::NONE, vcpus: [Pending::NONE; MAX_CORES] }
    }

    fn pending(&self) -> u64 {
        self.vcpus.iter().fold(self.global.bits, |all, vcpu| all | vcpu.bits)
    }

    /// Whether all `bits` are bound to `sender`.
    fn belongs_to(&self, sender: EndpointId, bits: u64) -> bool {
        bits & !self.bound == 0 && ones(bits).all(|n| self.senders[n] == sender)
    }

    fn bind(&mut self, sender: EndpointId, bits: u64, per_vcpu: bool) {
        self.bound |= bits;
        self.per_vcpu = if per_vcpu { self.per_vcpu | bits } else { self.per_vcpu & !bits };
        for n in ones(bits) {
            self.senders[n] = sender;
        }
    }

    /// Ends the bindings of `sender`, and what it has set.
    fn forget(&mut self, sender: EndpointId) {
        let bits = ones(self.bound).filter(|n| self.senders[*n] == sender).fold(0, |bits, n| bits | 1 << n);
        self.bound &= !bits;
        self.global.bits &= !bits;
        for vcpu in &mut self.vcpus {
            vcpu.bits &= !bits;
        }
    }
}

/// The positions of the ones in `bits`.
fn ones(bits: u64) -> impl Iterator<Item = usize> {
    slots(bits).map(|n| n as usize)
}

/// One endpoint's notifications.
struct Receiver {
    from_partitions: Bitmap,
    from_vms: Bitmap,
    /// From the framework: bits of [`RxFull`], bound to nobody.
    framework: Pending,
}

impl Receiver {
    const fn new() -> Self {
        Self { from_partitions: Bitmap::new(), from_vms: Bitmap::new(), framework: Pending::NONE }
    }

    fn from(&mut self, sender: EndpointId) -> &mut Bitmap {
        if sender.is_secure() { &mut self.from_partitions } else { &mut self.from_vms }
    }

    fn unreported_global(&self) -> bool {
        self.from_partitions.global.unreported() || self.from_vms.global.unreported() || self.framework.unreported()
    }

    fn unreported_vcpu(&self, vcpu: usize) -> bool {
        self.from_partitions.vcpus[vcpu].unreported() || self.from_vms.vcpus[vcpu].unreported()
    }

    fn report_global(&mut self) {
        for bitmap in [&mut self.from_partitions, &mut self.from_vms] {
            bitmap.global.reported = bitmap.global.bits;
        }
        self.framework.reported = self.framework.bits;
    }

    fn report_vcpu(&mut self, vcpu: usize) {
        for bitmap in [&mut self.from_partitions, &mut self.from_vms] {
            bitmap.vcpus[vcpu].reported = bitmap.vcpus[vcpu].bits;
        }
    }
}

/// A receiver of the normal world.
struct Vm {
    /// Its identity and number of vCPUs; `None` for a free place.
    registered: Option<(EndpointId, u8)>,
    receiver: Receiver,
}

/// The notifications of all endpoints.
pub struct Notifications {
    partitions: [Receiver; MAX_PARTITIONS],
    vms: [Vm; MAX_VMS],
}

impl Notifications {
    /// Nothing bound.
    pub const fn new() -> Self {
        Self {
            partitions: [const { Receiver::new() }; MAX_PARTITIONS],
            vms: [const { Vm { registered: None, receiver: Receiver::new() } }; MAX_VMS],
        }
    }

    fn vm(&mut self, id: EndpointId) -> Option<&mut Vm> {
        self.vms.iter_mut().find(|vm| vm.registered.is_some_and(|(registered, _)| registered == id))
    }
}

impl Spmc {
    /// FFA_NOTIFICATION_BITMAP_CREATE.
    pub(crate) fn notification_bitmap_create(&self, call: &Call) -> Result<Message, Status> {
        let id = self.bitmap_owner(call)?;
        let vcpus = call.regs.w(2);
        if vcpus == 0 || vcpus as usize > MAX_CORES {
            return Err(Status::InvalidParameters);
        }
        let mut notifications = self.notifications.lock();
        if notifications.vm(id).is_some() {
            return Err(Status::Denied);
        }
        let free = notifications.vms.iter_mut().find(|vm| vm.registered.is_none()).ok_or(Status::NoMemory)?;
        *free = Vm { registered: Some((id, vcpus as u8)), receiver: Receiver::new() };
        Ok(message::success(&[]))
    }

    /// FFA_NOTIFICATION_BITMAP_DESTROY.
    pub(crate) fn notification_bitmap_destroy(&self, call: &Call) -> Result<Message, Status> {
        let id = self.bitmap_owner(call)?;
        let mut notifications = self.notifications.lock();
        let vm = notifications.vm(id).ok_or(Status::Denied)?;
        // A pending one is bound.
        if vm.receiver.from_partitions.bound | vm.receiver.framework.bits != 0 {
            return Err(Status::Denied);
        }
        vm.registered = None;
        Ok(message::success(&[]))
    }

    /// An endpoint of v1.0 has none of these calls.
    fn since_v1_1(&self, call: &Call) -> Result<(), Status> {
        if self.version(call.from) < Version::V1_1 { Err(UNKNOWN) } else { Ok(()) }
    }

    /// The endpoint that w1 names, for the two calls above: the normal world's alone.
    fn bitmap_owner(&self, call: &Call) -> Result<EndpointId, Status> {
        self.since_v1_1(call)?;
        if !matches!(call.from, From::NormalWorld) {
            return Err(UNKNOWN);
        }
        let id = EndpointId(call.regs.w(1) as u16);
        if id.is_secure() || call.regs.w(1) >> 16 != 0 { Err(Status::InvalidParameters) } else { Ok(id) }
    }

    /// FFA_NOTIFICATION_BIND.
    pub(crate) fn notification_bind(&self, call: &Call) -> Result<Message, Status> {
        self.since_v1_1(call)?;
        let flags = call.regs.w(2);
        if flags & !PER_VCPU != 0 {
            return Err(Status::InvalidParameters);
        }
        self.with_binding(call, |bitmap, sender, bits| {
            if bitmap.bound & bits != 0 {
                return Err(Status::Denied);
            }
            bitmap.bind(sender, bits, flags & PER_VCPU != 0);
            Ok(())
        })
    }

    /// FFA_NOTIFICATION_UNBIND.
    pub(crate) fn notification_unbind(&self, call: &Call) -> Result<Message, Status> {
        self.since_v1_1(call)?;
        call.zero(2..=2)?;
        self.with_binding(call, |bitmap, sender, bits| {
            if !bitmap.belongs_to(sender, bits) || bitmap.pending() & bits != 0 {
                return Err(Status::Denied);
            }
            bitmap.bound &= !bits;
            Ok(())
        })
    }

    /// What BIND and UNBIND have in common: w1 names sender and receiver, w3 and w4 hold the bits.
    fn with_binding(&self, call: &Call, change: impl FnOnce(&mut Bitmap, EndpointId, u64) -> Result<(), Status>) -> Result<Message, Status> {
        let (sender, receiver) = call.sender_receiver();
        let bits = bitmap_of(call)?;
        let exists = if sender.is_secure() { self.find(sender).is_some() } else { matches!(call.from, From::Partition(_)) };
        if sender == receiver || !exists {
            return Err(Status::InvalidParameters);
        }
        let mut notifications = self.notifications.lock();
        let (receiver, _) = self.own_receiver(&mut notifications, call.from, receiver)?;
        change(receiver.from(sender), sender, bits)?;
        Ok(message::success(&[]))
    }

    /// The receiver that the caller names as itself, and its number of vCPUs.
    fn own_receiver<'a>(&self, notifications: &'a mut Notifications, from: From, id: EndpointId) -> Result<(&'a mut Receiver, u8), Status> {
        match from {
            From::NormalWorld if id.is_secure() => Err(Status::InvalidParameters),
            From::NormalWorld => notifications.vm(id).and_then(|vm| Some((&mut vm.receiver, vm.registered?.1))).ok_or(Status::Denied),
            From::Partition(vcpu) => {
                let config = self.config_of(vcpu).ok_or(UNKNOWN)?;
                if id != config.id {
                    return Err(Status::InvalidParameters);
                }
                if !config.notifications {
                    return Err(Status::Denied);
                }
                Ok((&mut notifications.partitions[usize::from(vcpu.partition)], config.vcpus))
            }
        }
    }

    /// FFA_NOTIFICATION_SET.
    pub(crate) fn notification_set<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        self.since_v1_1(call)?;
        let (sender, receiver) = call.sender_receiver();
        let flags = call.regs.w(2);
        let (per_vcpu, index) = (flags & PER_VCPU != 0, (flags >> 16) as u8);
        let bits = bitmap_of(call)?;
        // The normal world gets the core with the answer to its call: there is no later time for it.
        let (own, allowed) = match call.from {
            From::NormalWorld => (!sender.is_secure(), PER_VCPU),
            From::Partition(_) => (sender == self.id(call.from), PER_VCPU | DELAY),
        };
        if !own || sender == receiver || flags & 0xffff & !allowed != 0 || !per_vcpu && flags >> 16 != 0 {
            return Err(Status::InvalidParameters);
        }
        let mut notifications = self.notifications.lock();
        let (target, found, vcpus) = if receiver.is_secure() {
            let found = self.find(receiver).ok_or(Status::InvalidParameters)?;
            let (partition, state, config) = found;
            if !config.notifications || state.has_failed() {
                return Err(Status::Denied);
            }
            (&mut notifications.partitions[usize::from(partition)], Some(found), config.vcpus)
        } else {
            // Notifications between endpoints of the normal world are not the SPMC's.
            if !matches!(call.from, From::Partition(_)) {
                return Err(Status::InvalidParameters);
            }
            let vm = notifications.vm(receiver).ok_or(Status::Denied)?;
            let vcpus = vm.registered.map_or(0, |(_, vcpus)| vcpus);
            (&mut vm.receiver, None, vcpus)
        };
        if per_vcpu && flags >> 16 >= u32::from(vcpus) {
            return Err(Status::InvalidParameters);
        }
        let bitmap = target.from(sender);
        let kind = if per_vcpu { bitmap.per_vcpu } else { !bitmap.per_vcpu };
        if !bitmap.belongs_to(sender, bits) {
            return Err(Status::Denied);
        }
        // Those of a vCPU are not signalled as everybody's, nor the other way round.
        if bits & !kind != 0 {
            return Err(Status::InvalidParameters);
        }
        let pending = if per_vcpu { &mut bitmap.vcpus[usize::from(index)] } else { &mut bitmap.global };
        pending.set(bits);
        drop(notifications);
        if let Some(found) = found {
            self.tell_receiver(machine, found, per_vcpu.then_some(index));
        }
        self.schedule_receiver(machine, flags);
        Ok(message::success(&[]))
    }

    /// Raises the schedule receiver interrupt, or remembers to.
    #[inline(always)]
    fn schedule_receiver<M: Machine>(&self, machine: &mut M, flags: u32) {
        if flags & DELAY != 0 {
            self.attention_of(machine.core()).fetch_or(attention::DELAYED, Ordering::Relaxed);
        } else {
            machine.raise_schedule_receiver();
        }
    }

    /// Tells `receiver` (partition `found`, or one of the normal world) of the message in its RX buffer, if it takes
    /// notifications.
    pub(crate) fn signal_rx_full<M: Machine>(
        &self,
        machine: &mut M,
        receiver: EndpointId,
        found: Option<Found<'_>>,
        kind: RxFull,
        flags: u32,
    ) {
        let mut notifications = self.notifications.lock();
        let target = match found {
            Some((_, state, config)) if !config.notifications || state.has_failed() => return,
            Some((index, ..)) => Some(&mut notifications.partitions[usize::from(index)]),
            None => notifications.vm(receiver).map(|vm| &mut vm.receiver),
        };
        let Some(target) = target else { return };
        target.framework.set(kind as u64);
        drop(notifications);
        if let Some(found) = found {
            self.tell_receiver(machine, found, None);
        }
        self.schedule_receiver(machine, flags);
    }

    /// Posts the notification pending interrupt: to the vCPU concerned, or to the one that serves this core.
    #[inline(never)]
    fn tell_receiver<M: Machine>(&self, machine: &mut M, (partition, state, config): Found<'_>, vcpu: Option<u8>) {
        // An S-EL0 partition has no line for it, and asks when it runs.
        if config.s_el0 {
            return;
        }
        let here = vcpu_on(config, machine.core());
        let started = |index: u8| state.vcpus[usize::from(index)].state() != RunState::Off;
        let index = vcpu.unwrap_or(if started(here) { here } else { 0 });
        self.post_virtual(machine, VcpuId { partition, index }, NOTIFICATION_PENDING);
    }

    /// Raises a schedule receiver interrupt that a partition on this core had delayed: the normal world gets the core.
    pub(crate) fn raise_delayed_schedule_receiver<M: Machine>(&self, machine: &mut M) {
        let attention = self.attention_of(machine.core());
        if attention.load(Ordering::Relaxed) & attention::DELAYED != 0 {
            attention.fetch_and(!attention::DELAYED, Ordering::Relaxed);
            machine.raise_schedule_receiver();
        }
    }

    /// FFA_NOTIFICATION_GET: reads and clears. w1: vCPU in the upper half, receiver in the lower.
    pub(crate) fn notification_get(&self, call: &Call) -> Result<Message, Status> {
        self.since_v1_1(call)?;
        let (vcpu, receiver) = call.sender_receiver();
        let flags = call.regs.w(2);
        // At the normal world's instance the bitmaps of its own side are its hypervisor's (section 16.6).
        let known = if matches!(call.from, From::NormalWorld) { FROM_PARTITIONS | FROM_SPM } else { ALL_BITMAPS };
        if flags & !known != 0 || usize::from(vcpu.0) >= MAX_CORES {
            return Err(Status::InvalidParameters);
        }
        let mut notifications = self.notifications.lock();
        let (receiver, vcpus) = self.own_receiver(&mut notifications, call.from, receiver)?;
        if vcpu.0 >= u16::from(vcpus) {
            return Err(Status::InvalidParameters);
        }
        let collect = |bitmap: &mut Bitmap, flag: u32| {
            if flags & flag == 0 { 0 } else { bitmap.global.take() | bitmap.vcpus[usize::from(vcpu.0)].take() }
        };
        let partitions = collect(&mut receiver.from_partitions, FROM_PARTITIONS);
        let vms = collect(&mut receiver.from_vms, FROM_VMS);
        let framework = if flags & FROM_FRAMEWORK == 0 { 0 } else { receiver.framework.take() };
        let halves = |bits: u64| [bits & 0xffff_ffff, bits >> 32];
        let ([a, b], [c, d], [e, f]) = (halves(partitions), halves(vms), halves(framework));
        Ok(message::success(&[a, b, c, d, e, f]))
    }

    /// FFA_NOTIFICATION_INFO_GET: which receivers, and which of their vCPUs, have something pending that was not yet reported.
    pub(crate) fn notification_info_get(&self, call: &Call) -> Result<Message, Status> {
        self.since_v1_1(call)?;
        if !matches!(call.from, From::NormalWorld) {
            return Err(UNKNOWN);
        }
        let mut lists = Lists::new(function::is_64_bit(call.function()));
        let mut notifications = self.notifications.lock();
        let Notifications { partitions, vms } = &mut *notifications;
        let secure = self.partitions().map(|(index, _, config)| (usize::from(index), config.id));
        let complete = secure.fold(true, |complete, (index, id)| complete & lists.add(id, &mut partitions[index]))
            & vms.iter_mut().fold(true, |complete, vm| complete & vm.registered.is_none_or(|(id, _)| lists.add(id, &mut vm.receiver)));
        if lists.count == 0 { Err(Status::NoData) } else { Ok(lists.reply(!complete)) }
    }

    /// A partition has failed: it neither receives nor sends notifications any more.
    pub(crate) fn notifications_after_failure(&self, partition: PartitionIndex) {
        let Some((_, config)) = self.partition(partition) else { return };
        let mut notifications = self.notifications.lock();
        notifications.partitions[usize::from(partition)] = Receiver::new();
        let Notifications { partitions, vms } = &mut *notifications;
        for receiver in partitions.iter_mut().chain(vms.iter_mut().map(|vm| &mut vm.receiver)) {
            receiver.from_partitions.forget(config.id);
        }
    }
}

/// The bits of w3 and w4; at least one.
fn bitmap_of(call: &Call) -> Result<u64, Status> {
    let bits = u64::from(call.regs.w(3)) | u64::from(call.regs.w(4)) << 32;
    if bits == 0 { Err(Status::InvalidParameters) } else { Ok(bits) }
}

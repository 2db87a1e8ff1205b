//! Notifications (DEN0077A v1.2 chapter 10, sections 16.1 to 16.7) between two partitions that take them, one that does not, and
//! the normal world's virtual machines.

use super::{Wrong, cases};
use crate::PartitionConfig;
use crate::calls::{Call, From};
use crate::fake::{Bench, s_el1};
use crate::vcpu::VcpuId;
use bulkhead_ffa::{Regs, Status, Version, function};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// The partitions: identity, vCPUs, whether they take notifications.
const PARTITIONS: [(u16, u8, bool); 3] = [(0x8001, 1, true), (0x8002, 4, true), (0x8003, 2, false)];
/// No endpoint.
const NOBODY: u16 = 0x8009;
const PER_VCPU: u64 = 1;
const DELAY: u64 = 2;

/// A call; `caller` is a partition's number, or the normal world.
#[derive(Clone, Debug)]
enum Step {
    Create { caller: usize, vm: u16, vcpus: u64 },
    Destroy { caller: usize, vm: u16 },
    Bind { caller: usize, sender: u16, receiver: u16, flags: u64, bits: u64 },
    Unbind { caller: usize, sender: u16, receiver: u16, flags: u64, bits: u64 },
    Set { caller: usize, sender: u16, receiver: u16, flags: u64, vcpu: u64, bits: u64 },
    Get { caller: usize, receiver: u16, vcpu: u16, flags: u64 },
    Info { caller: usize, wide: bool },
    /// Bit 1 for each vCPU of a receiver.
    SetEach { sender: u16, receiver: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let caller = || prop_oneof![3 => Just(PARTITIONS.len()), 4 => 0..PARTITIONS.len()];
    let id = || prop_oneof![8 => (0..PARTITIONS.len()).prop_map(|n| PARTITIONS[n].0), 6 => 0u16..3, 1 => Just(NOBODY)];
    // The first two are bound and set often, so that they collide.
    let bits = || prop_oneof![4 => Just(1u64), 4 => Just(2u64), 2 => Just(3u64), 2 => Just(1 << 63), 1 => any::<u64>(), 1 => Just(0)];
    let flags = || prop_oneof![8 => Just(0), 6 => Just(PER_VCPU), 1 => Just(DELAY), 1 => Just(4)];
    let vcpu = || prop_oneof![6 => Just(0u64), 6 => 0u64..4, 1 => 4u64..9, 1 => Just(0xffff)];
    prop_oneof![
        3 => (caller(), id(), prop_oneof![4 => 1u64..9, 4 => Just(8), 1 => Just(0), 1 => Just(9)]).prop_map(|(caller, vm, vcpus)| Step::Create { caller, vm, vcpus }),
        1 => (caller(), id()).prop_map(|(caller, vm)| Step::Destroy { caller, vm }),
        8 => (caller(), id(), id(), flags(), bits())
            .prop_map(|(caller, sender, receiver, flags, bits)| Step::Bind { caller, sender, receiver, flags, bits }),
        3 => (caller(), id(), id(), prop_oneof![5 => Just(0), 1 => Just(PER_VCPU)], bits())
            .prop_map(|(caller, sender, receiver, flags, bits)| Step::Unbind { caller, sender, receiver, flags, bits }),
        12 => (caller(), id(), id(), flags(), vcpu(), bits())
            .prop_map(|(caller, sender, receiver, flags, vcpu, bits)| Step::Set { caller, sender, receiver, flags, vcpu, bits }),
        4 => (caller(), id(), vcpu(), prop_oneof![6 => 1u64..4, 1 => Just(0), 1 => 16u64..32])
            .prop_map(|(caller, receiver, vcpu, flags)| Step::Get { caller, receiver, vcpu: vcpu as u16, flags }),
        2 => (caller(), any::<bool>()).prop_map(|(caller, wide)| Step::Info { caller, wide }),
        2 => (id(), id()).prop_map(|(sender, receiver)| Step::SetEach { sender, receiver }),
    ]
}

/// Who notifies whom in most calls: few, so that they meet.
const PAIRS: [(u16, u16); 4] = [(0x8002, 0x8001), (0, 0x8002), (0x8002, 0), (1, 0x8001)];

fn caller_for(id: u16) -> usize {
    PARTITIONS.iter().position(|partition| partition.0 == id).unwrap_or(PARTITIONS.len())
}

/// Makes a call one that may well be right: between the ends of a pair, bit 0 and 63 global and bit 1 per vCPU.
fn likely(step: Step, pair: usize) -> Step {
    let Some((sender, receiver)) = PAIRS.get(pair).copied() else { return step };
    let usual = |bits: u64, flags: u64| {
        let bits = if bits == 3 { 2 } else { bits };
        (bits, if flags & !PER_VCPU != 0 { flags } else { u64::from(bits == 2) * PER_VCPU })
    };
    match step {
        Step::Create { vcpus, .. } => Step::Create { caller: PARTITIONS.len(), vm: pair as u16 % 2, vcpus },
        Step::Destroy { .. } => Step::Destroy { caller: PARTITIONS.len(), vm: pair as u16 % 2 },
        Step::Bind { flags, bits, .. } => {
            let (bits, flags) = usual(bits, flags);
            Step::Bind { caller: caller_for(receiver), sender, receiver, flags, bits }
        }
        Step::Unbind { flags, bits, .. } => Step::Unbind { caller: caller_for(receiver), sender, receiver, flags, bits },
        Step::Set { flags, vcpu, bits, .. } => {
            let (bits, flags) = usual(bits, flags);
            Step::Set { caller: caller_for(sender), sender, receiver, flags, vcpu: if flags & PER_VCPU == 0 { 0 } else { vcpu }, bits }
        }
        Step::Get { vcpu, flags, .. } => Step::Get { caller: caller_for(receiver), receiver, vcpu, flags },
        Step::Info { wide, .. } => Step::Info { caller: PARTITIONS.len(), wide },
        Step::SetEach { .. } => Step::SetEach { sender, receiver },
    }
}

/// A notification that pends: whether a virtual machine set it, for which vCPU, which bit.
type Pending = (bool, Option<u16>, u32);

/// One receiver.
#[derive(Clone, Default, Debug)]
struct Receiver {
    vcpus: u16,
    takes: bool,
    /// By the sender's world and bit: the sender, and whether it is per vCPU.
    bound: BTreeMap<(bool, u32), (u16, bool)>,
    pending: BTreeSet<Pending>,
    /// Those of the pending that FFA_NOTIFICATION_INFO_GET has told.
    told: BTreeSet<Pending>,
}

fn is_vm(id: u16) -> bool {
    id & 0x8000 == 0
}

fn ones(bits: u64) -> impl Iterator<Item = u32> + Clone {
    (0..64).filter(move |n| bits >> n & 1 != 0)
}

struct Model {
    receivers: BTreeMap<u16, Receiver>,
}

impl Model {
    fn new() -> Self {
        let receiver = |(id, vcpus, takes): (u16, u8, bool)| (id, Receiver { vcpus: u16::from(vcpus), takes, ..Receiver::default() });
        Self { receivers: PARTITIONS.into_iter().map(receiver).collect() }
    }

    /// The receiver has to be the caller: a partition itself, or one of the normal world's that has bitmaps.
    fn own(&self, wrong: &mut Wrong, caller: usize, receiver: u16) {
        match PARTITIONS.get(caller) {
            Some(partition) => wrong.when(receiver != partition.0, Status::InvalidParameters).when(!partition.2, Status::Denied),
            None => wrong.when(!is_vm(receiver), Status::InvalidParameters).when(is_vm(receiver) && !self.receivers.contains_key(&receiver), Status::Denied),
        };
    }

    /// Sender and receiver of a binding exist, differ, and are not both the normal world's.
    fn ends(wrong: &mut Wrong, caller: usize, sender: u16, receiver: u16) {
        let unknown = !is_vm(sender) && !PARTITIONS.iter().any(|partition| partition.0 == sender);
        wrong.when(sender == receiver || unknown || caller == PARTITIONS.len() && is_vm(sender), Status::InvalidParameters);
    }

    fn run(&mut self, bench: &mut Bench, step: &Step) -> Result<(), TestCaseError> {
        let mut wrong = Wrong::default();
        match *step {
            Step::Create { caller, vm, vcpus } => {
                wrong.when(caller < PARTITIONS.len(), Status::NotSupported);
                wrong.when(!is_vm(vm) || vcpus == 0 || vcpus > 8, Status::InvalidParameters).when(self.receivers.contains_key(&vm), Status::Denied);
                let answer = call(bench, caller, &[u64::from(function::NOTIFICATION_BITMAP_CREATE), u64::from(vm), vcpus]);
                if wrong.judge(&answer, step)? {
                    self.receivers.insert(vm, Receiver { vcpus: vcpus as u16, takes: true, ..Receiver::default() });
                }
            }
            Step::Destroy { caller, vm } => {
                wrong.when(caller < PARTITIONS.len(), Status::NotSupported).when(!is_vm(vm), Status::InvalidParameters);
                wrong.when(self.receivers.get(&vm).is_none_or(|receiver| !receiver.bound.is_empty()), Status::Denied);
                let answer = call(bench, caller, &[u64::from(function::NOTIFICATION_BITMAP_DESTROY), u64::from(vm)]);
                if wrong.judge(&answer, step)? {
                    self.receivers.remove(&vm);
                }
            }
            Step::Bind { caller, sender, receiver, flags, bits } => {
                self.own(&mut wrong, caller, receiver);
                Self::ends(&mut wrong, caller, sender, receiver);
                wrong.when(bits == 0 || flags & !PER_VCPU != 0, Status::InvalidParameters);
                let taken = |to: &Receiver| ones(bits).any(|bit| to.bound.contains_key(&(is_vm(sender), bit)));
                wrong.when(self.receivers.get(&receiver).is_some_and(taken), Status::Denied);
                if wrong.judge(&binding(bench, caller, function::NOTIFICATION_BIND, sender, receiver, flags, bits), step)? {
                    let new = ones(bits).map(|bit| ((is_vm(sender), bit), (sender, flags & PER_VCPU != 0)));
                    self.receivers.entry(receiver).or_default().bound.extend(new);
                }
            }
            Step::Unbind { caller, sender, receiver, flags, bits } => {
                self.own(&mut wrong, caller, receiver);
                Self::ends(&mut wrong, caller, sender, receiver);
                wrong.when(bits == 0 || flags != 0, Status::InvalidParameters);
                let others = |to: &Receiver| ones(bits).any(|bit| to.bound.get(&(is_vm(sender), bit)).is_none_or(|bound| bound.0 != sender));
                let pends = |to: &Receiver| to.pending.iter().any(|(vm, _, bit)| *vm == is_vm(sender) && bits >> bit & 1 != 0);
                wrong.when(self.receivers.get(&receiver).is_some_and(|to| others(to) || pends(to)), Status::Denied);
                if wrong.judge(&binding(bench, caller, function::NOTIFICATION_UNBIND, sender, receiver, flags, bits), step)? {
                    let to = self.receivers.entry(receiver).or_default();
                    to.bound.retain(|(vm, bit), _| *vm != is_vm(sender) || bits >> bit & 1 == 0);
                }
            }
            Step::Set { caller, sender, receiver, flags, vcpu, bits } => {
                let own = PARTITIONS.get(caller).map_or(is_vm(sender), |partition| partition.0 == sender);
                let per_vcpu = flags & PER_VCPU != 0;
                wrong.when(!own || sender == receiver || bits == 0 || flags & !(PER_VCPU | DELAY) != 0, Status::InvalidParameters);
                wrong.when(!per_vcpu && vcpu != 0, Status::InvalidParameters);
                wrong.when(caller == PARTITIONS.len() && (is_vm(receiver) || flags & DELAY != 0), Status::InvalidParameters);
                match self.receivers.get(&receiver) {
                    None => wrong.when(true, if is_vm(receiver) { Status::Denied } else { Status::InvalidParameters }),
                    Some(to) => {
                        let bound = |bit| to.bound.get(&(is_vm(sender), bit)).filter(|bound| bound.0 == sender);
                        let other_kind = |bit| bound(bit).is_some_and(|bound| bound.1 != per_vcpu);
                        wrong.when(!to.takes || !ones(bits).all(|bit| bound(bit).is_some()), Status::Denied);
                        wrong.when(ones(bits).any(other_kind) || per_vcpu && vcpu >= u64::from(to.vcpus), Status::InvalidParameters)
                    }
                };
                let word = flags | vcpu << 16;
                if wrong.judge(&binding(bench, caller, function::NOTIFICATION_SET, sender, receiver, word, bits), step)? {
                    let to = self.receivers.entry(receiver).or_default();
                    for bit in ones(bits) {
                        let notification = (is_vm(sender), per_vcpu.then_some(vcpu as u16), bit);
                        to.pending.insert(notification);
                        to.told.remove(&notification);
                    }
                }
            }
            Step::SetEach { sender, receiver } => {
                let vcpus = self.receivers.get(&receiver).map_or(0, |to| to.vcpus);
                for vcpu in 0..u64::from(vcpus) {
                    self.run(bench, &Step::Set { caller: caller_for(sender), sender, receiver, flags: PER_VCPU, vcpu, bits: 2 })?;
                }
            }
            Step::Get { caller, receiver, vcpu, flags } => {
                self.own(&mut wrong, caller, receiver);
                let vcpus = self.receivers.get(&receiver).map_or(8, |to| to.vcpus);
                // A virtual machine's notifications from others, and from the hypervisor, are the hypervisor's own.
                let may = if caller < PARTITIONS.len() { 0b1111 } else { 0b0101 };
                wrong.when(flags & !may != 0 || vcpu >= vcpus, Status::InvalidParameters);
                let answer = call(bench, caller, &[u64::from(function::NOTIFICATION_GET), u64::from(vcpu) << 16 | u64::from(receiver), flags]);
                if wrong.judge(&answer, step)? {
                    let to = self.receivers.entry(receiver).or_default();
                    // Flag 0: from partitions, flag 1: from virtual machines.
                    let wanted = |(vm, index, _): &Pending| flags >> u8::from(*vm) & 1 != 0 && index.is_none_or(|index| index == vcpu);
                    let word = |vm: bool| to.pending.iter().filter(|p| wanted(p) && p.0 == vm).fold(0u64, |word, p| word | 1 << p.2);
                    let halves = |word: u64| [word & 0xffff_ffff, word >> 32];
                    let ([a, b], [c, d]) = (halves(word(false)), halves(word(true)));
                    prop_assert_eq!(answer, Regs::success(&[a, b, c, d]), "{:x?}", step);
                    to.pending.retain(|p| !wanted(p));
                    to.told.retain(|p| !wanted(p));
                }
            }
            Step::Info { caller, wide } => {
                wrong.when(caller < PARTITIONS.len(), Status::NotSupported);
                // What has not been told, by receiver and vCPU.
                let untold: Untold =
                    self.receivers.iter().flat_map(|(id, to)| to.pending.difference(&to.told).map(|p| (*id, p.1))).collect();
                wrong.when(untold.is_empty(), Status::NoData);
                let id = if wide { function::NOTIFICATION_INFO_GET_64 } else { function::NOTIFICATION_INFO_GET_32 };
                let answer = call(bench, caller, &[u64::from(id)]);
                if wrong.judge(&answer, step)? {
                    let (told, more) = lists(&answer, wide)?;
                    prop_assert!(told.is_subset(&untold), "{:x?} is told of {:x?}", told, untold);
                    prop_assert_eq!(more, told.len() < untold.len());
                    for (id, to) in &mut self.receivers {
                        to.told.extend(to.pending.iter().filter(|p| told.contains(&(*id, p.1))).copied());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Receivers, and the vCPU for which something pends.
type Untold = BTreeSet<(u16, Option<u16>)>;

/// The lists of FFA_NOTIFICATION_INFO_GET's answer, each receiver and vCPU once, and whether there are more.
fn lists(answer: &Regs, wide: bool) -> Result<(Untold, bool), TestCaseError> {
    let per_register = if wide { 4 } else { 2 };
    let mut ids = (0..20).map(|n| (answer.0[3 + n / per_register % 5] >> (16 * (n % per_register))) as u16);
    let mut told = BTreeSet::new();
    for list in 0..answer.0[2] >> 7 & 0x1f {
        let vcpus = answer.0[2] >> (12 + 2 * list) & 3;
        let id = ids.next().unwrap_or_default();
        let entries: Vec<_> = if vcpus == 0 { [(id, None)].into() } else { ids.by_ref().take(vcpus as usize).map(|vcpu| (id, Some(vcpu))).collect() };
        for entry in entries {
            prop_assert!(told.insert(entry), "{entry:x?} is told twice");
        }
    }
    Ok((told, answer.0[2] & 1 != 0))
}

fn binding(bench: &mut Bench, caller: usize, id: u32, sender: u16, receiver: u16, flags: u64, bits: u64) -> Regs {
    call(bench, caller, &[u64::from(id), u64::from(sender) << 16 | u64::from(receiver), flags, bits & 0xffff_ffff, bits >> 32])
}

fn call(bench: &mut Bench, caller: usize, x: &[u64]) -> Regs {
    let from = if caller < PARTITIONS.len() { From::Partition(VcpuId { partition: caller as u8, index: 0 }) } else { From::NormalWorld };
    bench.spmc.common_call(&mut bench.machine, &Call { from, regs: &Regs::new(x) }).map_or_else(Regs::error, Regs::of)
}

proptest! {
    #![proptest_config(cases(600))]
    #[test]
    fn notifications_agree_with_the_model(steps in proptest::collection::vec((step(), 0..PAIRS.len() + 1), 1..120)) {
        let mut bench = Bench::new(Version::V1_2);
        for (id, vcpus, notifications) in PARTITIONS {
            bench.add(PartitionConfig { vcpus, notifications, ..s_el1(id) }, |_| ());
        }
        let mut model = Model::new();
        for (step, pair) in steps {
            model.run(&mut bench, &likely(step, pair))?;
        }
    }
}

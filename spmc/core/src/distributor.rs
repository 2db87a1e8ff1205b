//! The GICv3's distributor and redistributors as a partition finds them (IHI0069H chapter 12): only its own interrupts, and
//! of those what it may change. Its accesses fault in stage 2 and are emulated.
//!
//! A partition has them if its manifest names the controller's region as a device. Group and trigger are the manifest's: what
//! is written to these is lost. A partition without a distributor finds its interrupts enabled.

use crate::MAX_CORES;
use crate::machine::Machine;
use crate::spmc::Spmc;
use crate::vcpu::VcpuId;
use crate::virtual_interrupts::{SLOTS, Set, interrupt_in, is_physical, slot_of};
use core::sync::atomic::Ordering;

/// A register of the distributor, or of a redistributor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The redistributor of this core; `None`: the distributor.
    pub redistributor: Option<u8>,
    /// Bytes from its base; the redistributor's SGI frame starts at 64 KiB.
    pub offset: u32,
    /// Bytes of the access: 1, 2, 4 or 8.
    pub bytes: u8,
}

/// Where the registers of private interrupts start in a redistributor.
const PRIVATE: u32 = 0x1_0000;
/// Ids from here on are shared between cores.
const FIRST_SHARED: u32 = 32;
/// GICD_CTLR: all groups enabled, affinity routing in both states.
const CONTROL: u64 = 0x37;
/// GICD_TYPER: 1020 interrupts, two security states, 10 bits of interrupt id.
const TYPE: u64 = 31 | 1 << 10 | 9 << 19;
/// GICD_IIDR and GICR_IIDR: Arm.
const IMPLEMENTER: u64 = 0x43b;
/// GICD_PIDR2 and GICR_PIDR2: architecture revision 3.
const REVISION: u64 = 0x3b;
/// Last of GICR_TYPER.
const LAST: u64 = 1 << 4;

impl Spmc {
    /// An access of a running vCPU: what is read.
    pub(crate) fn distributor_access<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, place: Place, write: Option<u64>) -> u64 {
        let (partition, _) = self.vcpu(vcpu);
        let Some(config) = partition.config() else { return 0 };
        // A general register may hold more than the access is wide.
        let write = write.map(|value| value & u64::MAX >> (64 - 8 * u32::from(place.bytes.clamp(1, 8))));
        // Whose registers they are: a redistributor's are those of the vCPU of that number.
        let (target, offset) = match place.redistributor {
            None => (vcpu, place.offset),
            Some(index) if index >= config.vcpus.min(MAX_CORES as u8) => return 0,
            Some(index) => match place.offset.checked_sub(PRIVATE) {
                Some(offset) => (VcpuId { index, ..vcpu }, offset),
                None => return redistributor(index, index + 1 == config.vcpus, place),
            },
        };
        let private = place.redistributor.is_some();
        let within = |start: u32| offset - start;
        match offset {
            0x0000 if !private => CONTROL,
            0x0004 if !private => TYPE,
            0x0008 if !private => IMPLEMENTER,
            0xffe8 if !private => REVISION,
            0x0100..=0x017f => self.bits(machine, target, private, within(0x100), Set::Enabled, write.map(|bits| (bits, true))),
            0x0180..=0x01ff => self.bits(machine, target, private, within(0x180), Set::Enabled, write.map(|bits| (bits, false))),
            0x0200..=0x027f => self.bits(machine, target, private, within(0x200), Set::Pending, write.map(|bits| (bits, true))),
            0x0280..=0x02ff => self.bits(machine, target, private, within(0x280), Set::Pending, write.map(|bits| (bits, false))),
            0x0300..=0x037f => self.bits(machine, target, private, within(0x300), Set::Active, None),
            0x0380..=0x03ff => self.bits(machine, target, private, within(0x380), Set::Active, write.map(|bits| (bits, false))),
            0x0400..=0x07ff => {
                let mut value = 0;
                for n in 0..u32::from(place.bytes) {
                    let Some(slot) = slot_of(config, within(0x400) + n).filter(|slot| is_private(interrupt_in(config, *slot)) == private) else { continue };
                    if let Some(written) = write {
                        partition.priorities.set(slot, (written >> (8 * n)) as u8);
                    }
                    value |= u64::from(partition.priorities.of(slot)) << (8 * n);
                }
                value
            }
            // Group modifiers: everything is secure group 1.
            0x0d00..=0x0d7f => u64::from(u32::MAX),
            0x6000..=0x7fff if !private && write.is_some() && within(0x6000) % 8 == 0 => {
                // Only affinity 0 of a vCPU's MPIDR is not 0. The upper half of a register is written in its own right, or not at all.
                let core = write.unwrap_or(0);
                let slot = slot_of(config, within(0x6000) / 8).filter(|slot| is_physical(*slot));
                if let Some(slot) = slot.filter(|_| core < u64::from(config.vcpus) && config.vcpus > 1) {
                    partition.routed.fetch_or(1 << slot, Ordering::Relaxed);
                    machine.route_interrupt(interrupt_in(config, slot), core as usize);
                }
                0
            }
            _ => 0,
        }
    }

    /// A word of one of the sets: 32 interrupts from eight times its offset on. Bits that are written change what they name.
    fn bits<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, private: bool, offset: u32, set: Set, write: Option<(u64, bool)>) -> u64 {
        let Some(config) = self.config_of(vcpu) else { return 0 };
        let first = (offset & !3) * 8;
        let mut value = 0;
        for slot in 0..SLOTS as u32 {
            let interrupt = interrupt_in(config, slot);
            let Some(bit) = interrupt.checked_sub(first).filter(|bit| *bit < 32 && slot_of(config, interrupt) == Some(slot)) else { continue };
            if is_private(interrupt) != private {
                continue;
            }
            if let Some((bits, on)) = write
                && bits & 1 << bit != 0
            {
                // Shared ones are the same for all vCPUs.
                for index in 0..if private { 1 } else { config.vcpus.min(MAX_CORES as u8) } {
                    let vcpu = if private { vcpu } else { VcpuId { index, ..vcpu } };
                    match set {
                        Set::Enabled => self.enable_interrupt(machine, vcpu, slot, on),
                        Set::Pending if on => self.post_virtual(machine, vcpu, slot),
                        Set::Pending => self.interrupts(vcpu).clear(slot),
                        Set::Active => self.deactivate(machine, vcpu, slot),
                    }
                    if set == Set::Pending {
                        break;
                    }
                }
            }
            value |= u64::from(self.interrupts(vcpu).is_in(set, slot)) << bit;
        }
        value
    }
}

const fn is_private(interrupt: u32) -> bool {
    interrupt < FIRST_SHARED
}

/// The first frame of a redistributor: awake always, and no LPIs.
fn redistributor(index: u8, last: bool, place: Place) -> u64 {
    let number = u64::from(index);
    let lower = number << 8 | if last { LAST } else { 0 };
    match place.offset {
        0x0004 => IMPLEMENTER,
        // GICR_TYPER: affinity in the upper half, the core's number and Last in the lower.
        0x0008 if place.bytes == 8 => number << 32 | lower,
        0x0008 => lower,
        0x000c => number,
        0xffe8 => REVISION,
        _ => 0,
    }
}

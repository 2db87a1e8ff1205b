//! The GICv3's interface of a vCPU that drives it by ICC_* registers (IHI0069H chapter 12.2), emulated: its accesses trap.
//!
//! One security state, as a guest sees it; five bits of priority; two groups, the first of which raises the FIQ line. The
//! interface begins to rule the IRQ line when the partition enables group 1. List registers are not used: they hold the
//! normal world's state, and a trap costs less than moving them at each switch.

use crate::machine::{Access, Machine, Register};
use crate::chain::Next;
use crate::spmc::Spmc;
use crate::vcpu::VcpuId;
use crate::virtual_interrupts::{Priorities, SLOTS, Set, VirtualInterrupts, highest, interrupt_in, slot_of};
use crate::{MAX_CORES, PartitionConfig};
use crate::sync::atomic::Ordering;

/// A register of the interface: CRm and op2 of its encoding (op0 3, op1 0, CRn 12; ICC_PMR_EL1 is CRn 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface(u8);

impl Interface {
    /// ICC_PMR_EL1.
    pub const PMR: Self = Self(0);
    /// ICC_IAR0_EL1.
    pub const IAR0: Self = Self::at(8, 0);
    /// ICC_EOIR0_EL1.
    pub const EOIR0: Self = Self::at(8, 1);
    /// ICC_HPPIR0_EL1.
    pub const HPPIR0: Self = Self::at(8, 2);
    /// ICC_BPR0_EL1.
    pub const BPR0: Self = Self::at(8, 3);
    /// ICC_AP1R0_EL1.
    pub const AP1R0: Self = Self::at(9, 0);
    /// ICC_DIR_EL1.
    pub const DIR: Self = Self::at(11, 1);
    /// ICC_RPR_EL1.
    pub const RPR: Self = Self::at(11, 3);
    /// ICC_SGI1R_EL1.
    pub const SGI1R: Self = Self::at(11, 5);
    /// ICC_IAR1_EL1.
    pub const IAR1: Self = Self::at(12, 0);
    /// ICC_EOIR1_EL1.
    pub const EOIR1: Self = Self::at(12, 1);
    /// ICC_HPPIR1_EL1.
    pub const HPPIR1: Self = Self::at(12, 2);
    /// ICC_BPR1_EL1.
    pub const BPR1: Self = Self::at(12, 3);
    /// ICC_CTLR_EL1.
    pub const CTLR: Self = Self::at(12, 4);
    /// ICC_SRE_EL1.
    pub const SRE: Self = Self::at(12, 5);
    /// ICC_IGRPEN0_EL1.
    pub const IGRPEN0: Self = Self::at(12, 6);
    /// ICC_IGRPEN1_EL1.
    pub const IGRPEN1: Self = Self::at(12, 7);

    const fn at(crm: u8, op2: u8) -> Self {
        Self(crm << 3 | op2)
    }

    /// The register with this encoding (op0 3, op1 0); `None` for one that is not of the interface.
    #[must_use]
    pub const fn decode(crn: u64, crm: u64, op2: u64) -> Option<Self> {
        match (crn, crm, op2) {
            (4, 6, 0) => Some(Self::PMR),
            (12, 8..=12, 0..=7) => Some(Self::at(crm as u8, op2 as u8)),
            _ => None,
        }
    }
}

/// MSR of a register with op0 3 and op1 0, from CRn 0 to op2 0 and x0; MRS has a bit more.
const WRITE: u32 = 0xd518_0000;
const READ: u32 = 1 << 21;
/// HVC with immediate 0.
const CALL: u32 = 0xd400_0002;
/// Immediates of calls that stand for accesses: the mark; read; register; general register.
const MARK: u32 = 0xc000;
const MARKED: u32 = 0xf000;
const CALL_READ: u32 = 1 << 11;

/// The HVC that stands for an access to the interface, on a CPU whose secure EL1 has the physical one within its reach;
/// `None` for other instructions. The registers that send interrupts trap even there.
#[must_use]
pub const fn call_for(instruction: u32) -> Option<u32> {
    if instruction & 0xffd8_0000 != WRITE || instruction >> 16 & 7 != 0 {
        return None;
    }
    let (crn, crm, op2) = (instruction >> 12 & 0xf, instruction >> 8 & 0xf, instruction >> 5 & 7);
    if Interface::decode(crn as u64, crm as u64, op2 as u64).is_none() || crm == 11 && op2 >= 5 {
        return None;
    }
    // PMR is 0; the others start with 1.
    let register = if crn == 4 { 0 } else { 1 + ((crm - 8) << 3 | op2) };
    let read = if instruction & READ != 0 { CALL_READ } else { 0 };
    Some(CALL | (MARK | read | register << 5 | instruction & 0x1f) << 5)
}

/// The access that an HVC with this immediate stands for: the register, whether it is read, and the general register.
#[must_use]
pub const fn access_of_call(immediate: u32) -> Option<(Interface, bool, u8)> {
    if immediate & MARKED != MARK {
        return None;
    }
    let register = match immediate >> 5 & 0x3f {
        0 => Interface::PMR,
        n @ 1..=40 => Interface(n as u8 - 1 + (8 << 3)),
        _ => return None,
    };
    Some((register, immediate & CALL_READ != 0, (immediate & 0x1f) as u8))
}

/// Fields of [`VirtualInterrupts::interface`]: the priority mask is in bits 7..0.
const PRIORITY_MASK: u32 = 0xff;
/// EOImode: priority drop and deactivation are separate.
const SPLIT: u32 = 1 << 8;
/// CBPR.
const COMMON: u32 = 1 << 9;
/// Group enables.
const GROUP_0: u32 = 1 << 10;
const GROUP_1: u32 = 1 << 11;
/// Binary points, three bits each.
const BINARY_POINT_0: u32 = 16;
const BINARY_POINT_1: u32 = 20;
/// The smallest binary points that five bits of priority have.
const LEAST_0: u32 = 2;
const LEAST_1: u32 = 3;
/// Bits of a priority that exist.
const PRIORITY_BITS: u32 = 0xf8;
/// Nothing is active.
const IDLE: u32 = 0xff;
/// Nothing is pending.
const SPURIOUS: u64 = 1023;
/// ICC_CTLR_EL1: five bits of priority, affinity 3.
const CONTROL_FIXED: u64 = 4 << 8 | 1 << 15;
/// ICC_SRE_EL1: system registers, no bypass.
const SYSTEM_REGISTERS: u64 = 7;

impl VirtualInterrupts {
    /// Whether the partition drives the GICv3's interface.
    pub(crate) fn by_interface(&self) -> bool {
        self.interface.load(Ordering::Relaxed) & GROUP_1 != 0
    }

    /// Of these, the one that the interface signals.
    pub(crate) fn admitted(&self, priorities: &Priorities, ready: u64) -> Option<u32> {
        let control = self.interface.load(Ordering::Relaxed);
        let slot = highest(priorities, ready)?;
        let priority = u32::from(priorities.of(slot)) & PRIORITY_BITS;
        // The group priority of what it would preempt counts, without the subpriority.
        let mask = match control {
            c if c & COMMON != 0 => 0xff << (binary_point(c, BINARY_POINT_0, LEAST_0) + 1),
            c => 0xff << binary_point(c, BINARY_POINT_1, LEAST_1),
        };
        let running = self.running_priority();
        (priority < control & PRIORITY_MASK && (running == IDLE || priority & mask < running & mask)).then_some(slot)
    }

    fn running_priority(&self) -> u32 {
        match self.active_priorities.load(Ordering::Relaxed) {
            0 => IDLE,
            active => active.trailing_zeros() << 3,
        }
    }

    /// Takes an interrupt for the handler.
    fn take(&self, priorities: &Priorities, slot: u32) {
        self.acknowledge(slot, true);
        self.active_priorities.fetch_or(1 << (priorities.of(slot) >> 3), Ordering::Relaxed);
    }

    fn drop_priority(&self) {
        let active = self.active_priorities.load(Ordering::Relaxed);
        self.active_priorities.store(active & active.wrapping_sub(1), Ordering::Relaxed);
    }

    fn field(&self, mask: u32, value: u32) {
        let old = self.interface.load(Ordering::Relaxed);
        self.interface.store(old & !mask | value & mask, Ordering::Relaxed);
    }
}

fn binary_point(control: u32, at: u32, least: u32) -> u32 {
    (control >> at & 7).max(least)
}

impl Spmc {
    /// An access of a running vCPU to an emulated register.
    pub(crate) fn register_access<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, access: Access) -> Next {
        let value = match access.register {
            Register::Timer(which, register) => self.timer_access(machine, vcpu, which, register, access.write),
            Register::Interface(register) => self.interface_access(machine, vcpu, register, access.write),
            Register::Distributor(place) => self.distributor_access(machine, vcpu, place, access.write),
        };
        if access.write.is_none() {
            machine.set_general(vcpu, access.target, value);
        }
        Next::Resume(vcpu)
    }

    fn interface_access<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, register: Interface, write: Option<u64>) -> u64 {
        let (partition, _) = self.vcpu(vcpu);
        let Some(config) = partition.config() else { return 0 };
        let (interrupts, priorities) = (self.interrupts(vcpu), &partition.priorities);
        let control = interrupts.interface.load(Ordering::Relaxed);
        let word = write.unwrap_or(0) as u32;
        match (register, write) {
            (Interface::PMR, None) => u64::from(control & PRIORITY_MASK),
            (Interface::PMR, _) => field(interrupts, PRIORITY_MASK, word & PRIORITY_BITS),
            (Interface::IAR1 | Interface::HPPIR1 | Interface::IAR0 | Interface::HPPIR0, None) => {
                let second = matches!(register, Interface::IAR1 | Interface::HPPIR1);
                let ready = if second { interrupts.ready_irqs() } else { interrupts.ready() & !interrupts.ready_irqs() };
                let takes = matches!(register, Interface::IAR1 | Interface::IAR0);
                let enabled = !second || control & GROUP_1 != 0;
                let slot = if takes { interrupts.admitted(priorities, ready) } else { highest(priorities, ready) };
                let Some(slot) = slot.filter(|_| enabled) else { return SPURIOUS };
                if takes {
                    interrupts.take(priorities, slot);
                }
                u64::from(interrupt_in(config, slot))
            }
            (Interface::EOIR1 | Interface::EOIR0, Some(_)) => {
                if let Some(slot) = slot_of(config, word & 0xff_ffff) {
                    interrupts.drop_priority();
                    if control & SPLIT == 0 {
                        self.deactivate(machine, vcpu, slot);
                    }
                }
                0
            }
            (Interface::DIR, Some(_)) => {
                if let Some(slot) = slot_of(config, word & 0xff_ffff).filter(|_| control & SPLIT != 0) {
                    self.deactivate(machine, vcpu, slot);
                }
                0
            }
            (Interface::RPR, None) => u64::from(interrupts.running_priority()),
            (Interface::BPR0, None) => u64::from(binary_point(control, BINARY_POINT_0, LEAST_0)),
            (Interface::BPR1, None) if control & COMMON != 0 => u64::from((binary_point(control, BINARY_POINT_0, LEAST_0) + 1).min(7)),
            (Interface::BPR1, None) => u64::from(binary_point(control, BINARY_POINT_1, LEAST_1)),
            (Interface::BPR0, _) => field(interrupts, 7 << BINARY_POINT_0, word << BINARY_POINT_0),
            (Interface::BPR1, _) if control & COMMON == 0 => field(interrupts, 7 << BINARY_POINT_1, word << BINARY_POINT_1),
            (Interface::AP1R0, None) => u64::from(interrupts.active_priorities.load(Ordering::Relaxed)),
            (Interface::AP1R0, _) => {
                interrupts.active_priorities.store(word, Ordering::Relaxed);
                0
            }
            (Interface::CTLR, None) => CONTROL_FIXED | u64::from(control & COMMON != 0) | u64::from(control & SPLIT != 0) << 1,
            (Interface::CTLR, _) => field(interrupts, COMMON | SPLIT, (word & 1) * COMMON | (word >> 1 & 1) * SPLIT),
            (Interface::SRE, None) => SYSTEM_REGISTERS,
            (Interface::IGRPEN0, None) => u64::from(control & GROUP_0 != 0),
            (Interface::IGRPEN0, _) => field(interrupts, GROUP_0, (word & 1) * GROUP_0),
            (Interface::IGRPEN1, None) => u64::from(control & GROUP_1 != 0),
            (Interface::IGRPEN1, _) => {
                if word & 1 != 0 && !config.distributor {
                    self.enable_all(machine, vcpu);
                }
                field(interrupts, GROUP_1, (word & 1) * GROUP_1)
            }
            (Interface::SGI1R, Some(value)) => {
                self.send_software_interrupt(machine, vcpu, config, value);
                0
            }
            // The group 0 and other state's SGIs, other active priorities, and the rest: nothing there.
            _ => 0,
        }
    }

    /// A partition that uses the interface and never a distributor finds all of its interrupts enabled.
    fn enable_all<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        for slot in (0..SLOTS as u32).filter(|slot| !self.interrupts(vcpu).is_in(Set::Enabled, *slot)) {
            self.enable_interrupt(machine, vcpu, slot, true);
        }
    }

    /// ICC_SGI1R_EL1: to the vCPUs of a list, or to all others.
    fn send_software_interrupt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, config: &PartitionConfig, value: u64) {
        const ALL_OTHERS: u64 = 1 << 40;
        // Affinities 1 to 3 and the range selector: vCPUs have none of these.
        const ELSEWHERE: u64 = 0xff << 48 | 0xf << 44 | 0xff << 32 | 0xff << 16;
        let interrupt = (value >> 24 & 0xf) as u32;
        for index in 0..config.vcpus.min(MAX_CORES as u8) {
            let chosen = if value & ALL_OTHERS != 0 { index != vcpu.index } else { value & ELSEWHERE == 0 && value & 1 << index != 0 };
            if chosen {
                self.post_and_wake(machine, VcpuId { index, ..vcpu }, interrupt);
            }
        }
    }
}

/// Changes fields of the interface; what a write returns.
fn field(interrupts: &VirtualInterrupts, mask: u32, value: u32) -> u64 {
    interrupts.field(mask, value);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_access_of_the_interface_has_its_call() {
        // By GNU as: mrs x3, ICC_IAR1_EL1; msr ICC_EOIR1_EL1, x30; msr ICC_PMR_EL1, x0; mrs xzr, ICC_IGRPEN1_EL1.
        let known = [
            (0xd538_cc03, Interface::IAR1, true, 3),
            (0xd518_cc3e, Interface::EOIR1, false, 30),
            (0xd518_4600, Interface::PMR, false, 0),
            (0xd538_ccff, Interface::IGRPEN1, true, 31),
        ];
        for (instruction, register, read, general) in known {
            let call = call_for(instruction).expect("an access");
            assert_eq!(call & 0xffe0_001f, CALL);
            assert_eq!(access_of_call(call >> 5 & 0xffff), Some((register, read, general)));
        }
    }

    #[test]
    fn other_instructions_stay() {
        // icc_sgi1r_el1; vbar_el1, isr_el1, tpidr_el1; spsr_el2, of another op1; msr daifset; nop; hvc #0; sctlr_el1.
        for other in [0xd518_cba0, 0xd518_c000, 0xd538_c100, 0xd518_d080, 0xd51c_4600, 0xd503_42df, 0xd503_201f, CALL, 0xd518_1000, 0] {
            assert_eq!(call_for(other), None, "{other:#x}");
        }
        assert_eq!([0, 0xb17, 0xbfff, 0xc5ff, 0xcfff].map(access_of_call), [None; 5]);
    }
}

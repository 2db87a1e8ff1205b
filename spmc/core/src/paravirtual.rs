//! The paravirtual interrupt calls that partitions make under an S-EL2 SPMC: the numbers, registers and answers are those
//! that Hafnium gave them and that OP-TEE's `hfic` driver and TF-A's test partitions use.

use crate::machine::Machine;
use crate::spmc::Spmc;
use crate::vcpu::VcpuId;
use crate::virtual_interrupts::{INTER_PROCESSOR, MANAGED_EXIT, interrupt_in, is_physical, slot_of, slots};
use crate::{MAX_CORES, PartitionConfig};
use bulkhead_ffa::Regs;
use crate::sync::atomic::Ordering;

/// Identifiers in w0.
const ENABLE: u32 = 0xff03;
const GET: u32 = 0xff04;
const DEACTIVATE: u32 = 0xff08;
const RECONFIGURE: u32 = 0xff09;
const SEND_IPI: u32 = 0xff0a;
/// ENABLE, w3: raises the FIQ line.
const FIQ: u32 = 1;
/// RECONFIGURE, w2: the core that it goes to, its security state, whether it is enabled. The value is in w3.
const TARGET: u32 = 0;
const SECURITY: u32 = 1;
const STATUS: u32 = 2;
/// GET: nothing is pending.
const NONE: u64 = 0xffff_ffff;
/// Any call: refused.
const REFUSED: u64 = u64::MAX;
/// SMCCC: unknown function.
const SMC_UNKNOWN: u64 = u64::MAX;

impl Spmc {
    /// A call of a partition that is not FF-A's: returns x0.
    pub(crate) fn paravirtual_call<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, regs: &Regs) -> u64 {
        let Some(config) = self.config_of(vcpu) else { return SMC_UNKNOWN };
        let interrupts = self.interrupts(vcpu);
        let slot = slot_of(config, regs.w(1));
        let done = match (regs.w(0), slot) {
            (GET, _) => return self.take_interrupt(machine, vcpu, config),
            (SEND_IPI, _) => self.send_inter_processor(machine, vcpu, config, regs.w(1)),
            (ENABLE, Some(slot)) => {
                // How a managed exit is signalled, the manifest says.
                if slot != MANAGED_EXIT {
                    interrupts.choose_line(slot, regs.w(3) == FIQ);
                }
                self.enable_interrupt(machine, vcpu, slot, regs.w(2) != 0);
                true
            }
            (DEACTIVATE, Some(slot)) => {
                interrupts.expect_deactivation();
                self.deactivate(machine, vcpu, slot);
                true
            }
            (RECONFIGURE, Some(slot)) if is_physical(slot) => self.reconfigure(machine, vcpu, config, slot, regs.w(2), regs.w(3)),
            (ENABLE | DEACTIVATE | RECONFIGURE, _) => false,
            _ => return SMC_UNKNOWN,
        };
        if done { 0 } else { REFUSED }
    }

    fn take_interrupt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, config: &PartitionConfig) -> u64 {
        self.deactivate_forgotten(machine, vcpu);
        let interrupts = self.interrupts(vcpu);
        let Some(slot) = interrupts.peek(&self.vcpu(vcpu).0.priorities) else { return NONE };
        interrupts.acknowledge(slot, is_physical(slot));
        u64::from(interrupt_in(config, slot))
    }

    /// A partition that never deactivates has dealt with an interrupt when it takes the next one, or waits.
    pub(crate) fn deactivate_forgotten<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        for slot in slots(self.interrupts(vcpu).forgotten()) {
            self.deactivate(machine, vcpu, slot);
        }
    }

    fn send_inter_processor<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, config: &PartitionConfig, target: u32) -> bool {
        let known = target < u32::from(config.vcpus);
        if known {
            self.post_and_wake(machine, VcpuId { index: target as u8, ..vcpu }, INTER_PROCESSOR);
        }
        known
    }

    fn reconfigure<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, config: &PartitionConfig, slot: u32, command: u32, value: u32) -> bool {
        let interrupt = interrupt_in(config, slot);
        match command {
            // A partition with one vCPU may choose only the core that it is on.
            TARGET if (value as usize) < MAX_CORES && (config.vcpus > 1 || value as usize == machine.core()) => {
                self.vcpu(vcpu).0.routed.fetch_or(1 << slot, Ordering::Relaxed);
                machine.route_interrupt(interrupt, value as usize)
            }
            SECURITY if value <= 1 => {
                machine.set_interrupt_security(interrupt, value == 1);
                true
            }
            STATUS if value <= 1 => {
                self.enable_interrupt(machine, vcpu, slot, value == 1);
                true
            }
            _ => false,
        }
    }
}

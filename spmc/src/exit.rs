//! What a synchronous exception from a partition means (ESR_EL2, Arm ARM D24.2.40).

use crate::context::VcpuContext;
use crate::{gic, sysreg, traps};
use bulkhead_core::Exit;
use bulkhead_core::machine::{Access, Register};
use bulkhead_core::fault::{Fault, FaultKind, Syndrome};

/// Immediate of the HVC in the EL1 vectors of S-EL0 partitions (`entry.s`).
const FORWARDED: u64 = 0xb17;
const CLASS_FP: u64 = 0x07;
const CLASS_POINTER_AUTHENTICATION: u64 = 0x09;
const CLASS_SVC: u64 = 0x15;
const CLASS_HVC: u64 = 0x16;
const CLASS_SMC: u64 = 0x17;
const CLASS_SYSTEM_REGISTER: u64 = 0x18;
const CLASS_INSTRUCTION_ABORT: u64 = 0x20;
const CLASS_DATA_ABORT: u64 = 0x24;
const IMMEDIATE: u64 = 0xffff;

/// What to do about an exception.
pub enum Decoded {
    /// Tell the core logic.
    Exit(Exit),
    /// Done: the vCPU goes on.
    Emulated,
    /// The vCPU needs its FP registers.
    NeedsSimd,
    /// The vCPU needs its pointer authentication keys.
    NeedsKeys,
}

/// ESR_EL2 of a 32-bit instruction (IL) of this class with immediate zero.
const fn plain(class: u64) -> u64 {
    class << 26 | 1 << 25
}

/// ESR_EL2 of the trapped instruction that a partition calls with: SMC or, at S-EL0, SVC, with immediate zero.
pub const fn usual_call(s_el0: bool) -> u64 {
    plain(if s_el0 { CLASS_SVC } else { CLASS_SMC })
}

/// Whether a synchronous exception is a call of the ABI: SMC, HVC or, at S-EL0, SVC, with immediate zero. If so the vCPU will
/// go on behind it.
#[inline(always)]
pub fn is_call(context: &mut VcpuContext, esr: u64) -> bool {
    if esr != context.call {
        return esr == plain(CLASS_HVC) && !context.s_el0;
    }
    // Traps: ELR_EL2 is the instruction itself. It may be the last one of the address space.
    context.pc = context.pc.wrapping_add(4);
    true
}

/// Reads the syndrome of a vCPU that stopped on this core, not for a call; its EL1 registers are still loaded.
pub fn decode(context: &mut VcpuContext) -> Decoded {
    let syndrome = Syndrome(context.esr);
    let immediate = context.esr & IMMEDIATE;
    match syndrome.class() {
        CLASS_FP => Decoded::NeedsSimd,
        CLASS_POINTER_AUTHENTICATION => Decoded::NeedsKeys,
        CLASS_SYSTEM_REGISTER if traps::is_key(context.esr) => Decoded::NeedsKeys,
        CLASS_HVC if context.s_el0 && immediate == FORWARDED => forwarded(context),
        CLASS_HVC if !context.s_el0 && let Some(access) = traps::interface_call(context, immediate) => Decoded::Exit(Exit::Register(access)),
        CLASS_SYSTEM_REGISTER if let Some(access) = traps::emulated_by_core(context) => {
            context.pc = context.pc.wrapping_add(4);
            Decoded::Exit(Exit::Register(access))
        }
        CLASS_SYSTEM_REGISTER if traps::emulate(context) => {
            context.pc = context.pc.wrapping_add(4);
            Decoded::Emulated
        }
        CLASS_DATA_ABORT if context.distributor && let Some(access) = distributor_access(context) => {
            context.pc = context.pc.wrapping_add(4);
            Decoded::Exit(Exit::Register(access))
        }
        _ => {
            let address = syndrome.is_abort().then(|| fault_address(context, syndrome));
            fault(context.pc, context.esr, address)
        }
    }
}

/// An exception that EL0 took to the vectors of [`crate::image::forward_vectors`].
fn forwarded(context: &mut VcpuContext) -> Decoded {
    let syndrome = Syndrome(sysreg::esr_el1::read());
    context.pc = sysreg::elr_el1::read();
    context.pstate = sysreg::spsr_el1::read();
    if syndrome.class() == CLASS_SVC && syndrome.0 & IMMEDIATE == 0 {
        // A CPU without fine-grained traps: the SVC came this way.
        return Decoded::Exit(Exit::Call);
    }
    fault(context.pc, syndrome.0, syndrome.is_abort().then(sysreg::far_el1::read))
}

fn fault(pc: u64, esr: u64, address: Option<u64>) -> Decoded {
    Decoded::Exit(Exit::Fault(Fault { kind: FaultKind::Exception, pc, esr, address }))
}

/// An access to the GIC's distributor or redistributors, where a partition has nothing mapped.
fn distributor_access(context: &VcpuContext) -> Option<Access> {
    let syndrome = Syndrome(context.esr);
    let page = unmapped_page(context)?;
    let register = gic::register_at((page | context.far & 0xfff) as usize, 1 << (syndrome.0 >> 22 & 3))?;
    // The syndrome has the instruction's registers for single accesses only, not for pairs; nor when it was a table walk.
    let valid = syndrome.0 & 1 << 24 != 0 && syndrome.0 & 1 << 7 == 0;
    valid.then(|| traps::access(context, Register::Distributor(register), syndrome.0 & 1 << 6 == 0, (syndrome.0 >> 16 & 0x1f) as usize))
}

/// The page of a stage 2 translation fault. In which address space is not told: QEMU 10 has HPFAR_EL2.NS the wrong way round.
pub fn unmapped_page(context: &VcpuContext) -> Option<u64> {
    let syndrome = Syndrome(context.esr);
    // From a lower exception level; translation fault at level 0 to 3.
    let fault = matches!(syndrome.class(), CLASS_INSTRUCTION_ABORT | CLASS_DATA_ABORT) && syndrome.0 & 0x3c == 4;
    fault.then_some((context.hpfar & 0xff_ffff_fff0) << 8)
}

/// The intermediate physical address of a stage 2 fault.
fn fault_address(context: &VcpuContext, syndrome: Syndrome) -> u64 {
    let on_a_walk = syndrome.0 & 1 << 7 != 0;
    let page = (context.hpfar & 0xff_ffff_fff0) << 8;
    if on_a_walk { page } else { page | context.far & 0xfff }
}

//! The GIC's interface on a CPU that does not trap secure EL1's accesses to it.
//!
//! By the architecture, HCR_EL2.IMO and ICH_HCR_EL2 make them trap in the secure state as in the other (IHI0069H section 12.2).
//! QEMU, up to 10 at the least, looks at these bits in the non-secure state only, so that a partition would get at the
//! physical interface. Where a trial at boot shows that, each such instruction of a partition's image becomes a call, before
//! the partition runs. What a partition writes itself and then runs keeps the physical interface: such a CPU contains only
//! partitions that mean no harm by it.

use crate::context::{self, Common, CommonRegister, VcpuContext};
use crate::{gic, image, physical, sysreg};
use bulkhead_core::VcpuId;
use bulkhead_core::fault::Syndrome;
use bulkhead_core::interface;

/// HCR_EL2 of the trial: EL1 in AArch64, no stage 2; interrupts would go to EL1, which masks them.
const TRIAL: u64 = 1 << 31;
/// Top byte of every access to a system register.
const SYSTEM: u8 = 0xd5;
/// Class of a trapped access.
const SYSTEM_REGISTER: u64 = 0x18;

/// Whether they are needed: runs an access at secure EL1. For the boot core, before any partition runs.
pub fn are_needed() -> bool {
    let mut world = Common::ZERO;
    world.save();
    let hcr = sysreg::hcr_el2::read();
    let mut own = Common::ZERO;
    *own.register(CommonRegister::Sctlr) = context::SCTLR_RESET;
    own.load();
    gic::trap_interface();
    sysreg::hcr_el2::write(TRIAL);
    sysreg::isb();
    // A context that no vCPU has used yet, and that is reset before one does.
    let trial = context::context(VcpuId { partition: 0, index: 0 });
    *trial = VcpuContext::ZERO;
    trial.pc = image::interface_access();
    trial.pstate = context::PSTATE_EL1H;
    let (_, esr) = context::enter(trial);
    world.load();
    sysreg::hcr_el2::write(hcr);
    sysreg::isb();
    Syndrome(esr).class() != SYSTEM_REGISTER
}

/// Makes the accesses of an image calls; returns how many.
pub fn replace(start: u64, bytes: u64) -> usize {
    let mut replaced = 0;
    for word in physical::firmware_data_mut(start, bytes).chunks_exact_mut(4) {
        // An image is long, and most of it is something else.
        if word[3] != SYSTEM {
            continue;
        }
        let instruction = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        if let Some(call) = interface::call_for(instruction) {
            word.copy_from_slice(&call.to_le_bytes());
            replaced += 1;
        }
    }
    replaced
}

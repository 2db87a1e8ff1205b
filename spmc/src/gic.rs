//! The GICv3, as far as S-EL2 uses it: secure group 1 interrupts of partitions, the SPMC's timer, the schedule receiver SGI.
//!
//! EL3 has set the controller up and shares it with the normal world: only registers and bits of interrupts that are
//! ours are changed. Priority drop and deactivation are separate, so that a partition's interrupt stays active until the
//! partition deactivates it.

use crate::physical::{read32, write32, write64};
use crate::platform::{GICD_BASE, GICR_BASE, GICR_STRIDE, SECURE_EL2_TIMER};
use crate::sysreg::{self, isb};
use bulkhead_core::MAX_CORES;
use bulkhead_core::distributor::Place;
use spin::Mutex;

/// Distributor and redistributor registers (GIC spec, chapter 12).
mod register {
    pub const CTLR: usize = 0x0000;
    pub const GROUP: usize = 0x0080;
    pub const ENABLE_SET: usize = 0x0100;
    pub const ENABLE_CLEAR: usize = 0x0180;
    pub const PENDING_CLEAR: usize = 0x0280;
    pub const ACTIVE_CLEAR: usize = 0x0380;
    pub const PRIORITY: usize = 0x0400;
    pub const CONFIGURATION: usize = 0x0c00;
    pub const GROUP_MODIFIER: usize = 0x0d00;
    pub const ROUTER: usize = 0x6000;
    /// From a redistributor's base: the lower half of GICR_TYPER.
    pub const REDISTRIBUTOR_TYPE: usize = 0x0008;
    /// From a redistributor's base: the affinity fields of its core, the upper half of GICR_TYPER.
    pub const REDISTRIBUTOR_AFFINITY: usize = 0x000c;
    /// SGI and PPI registers, from a redistributor's base.
    pub const SGI_FRAME: usize = 0x1_0000;
}

/// EnableGrp1S of GICD_CTLR.
const ENABLE_SECURE_GROUP_1: u32 = 1 << 2;
/// EOImode of ICC_CTLR_EL1.
const SPLIT_DEACTIVATION: u64 = 1 << 1;
/// CBPR of ICC_CTLR_EL1.
const COMMON_BINARY_POINT: u64 = 1 << 0;
/// TC, TALL0, TALL1 and TDIR of ICH_HCR_EL2: the virtual interface is not used and holds the normal world's state, so that
/// EL1's accesses to it trap.
const TRAP_INTERFACE: u64 = 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;
/// Priority of partitions' interrupts and of the timer: above all that the normal world can set (0x80 and on).
const PRIORITY: u32 = 0x60;
/// Priority mask that holds back the normal world's interrupts.
const MASK_NORMAL_WORLD: u64 = 0x80;
/// Acknowledged ids from here on are no interrupts.
const SPECIAL: u32 = 1020;
/// Last of GICR_TYPER: there is no further core.
const LAST: u32 = 1 << 4;
/// Bytes of the distributor's registers.
const DISTRIBUTOR: usize = 0x1_0000;
/// SGI by which Bulkhead's cores interrupt each other.
pub const CROSS_CORE: u32 = 9;
/// Affinity fields of MPIDR_EL1, where GICD_IROUTER has them too.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// Ids from here on are shared between cores.
const FIRST_SHARED: u32 = 32;

/// Read-modify-write sequences on the distributor are the business of one core at a time.
static CONFIGURATION: Mutex<()> = Mutex::new(());

/// Once, on the boot core.
pub fn start() {
    let control = read32(GICD_BASE + register::CTLR);
    if control & ENABLE_SECURE_GROUP_1 == 0 {
        write32(GICD_BASE + register::CTLR, control | ENABLE_SECURE_GROUP_1);
    }
}

/// On each core, whenever it comes up.
pub fn start_core(core: usize) {
    // SRE, and no bypass of the interface; EL1's access to its own SRE register traps.
    sysreg::icc_sre_el2::write(0x7);
    isb();
    take_interface_back();
    trap_interface();
    isb();
    // The schedule receiver interrupt is the normal world's: group 1 non-secure.
    let _guard = CONFIGURATION.lock();
    let base = frame(core, bulkhead_core::SCHEDULE_RECEIVER);
    set_bit(base + register::GROUP, bulkhead_core::SCHEDULE_RECEIVER, true);
    set_bit(base + register::GROUP_MODIFIER, bulkhead_core::SCHEDULE_RECEIVER, false);
    make_secure(core, SECURE_EL2_TIMER);
    write32(frame(core, SECURE_EL2_TIMER) + register::ENABLE_SET, 1 << SECURE_EL2_TIMER);
    make_secure(core, CROSS_CORE);
    write32(frame(core, CROSS_CORE) + register::ENABLE_SET, 1 << CROSS_CORE);
}

/// EL1's accesses to the interface trap.
pub fn trap_interface() {
    sysreg::ich_hcr_el2::write(TRAP_INTERFACE);
}

/// Base of the registers that hold an interrupt's bits.
fn frame(core: usize, interrupt: u32) -> usize {
    if interrupt < FIRST_SHARED { GICR_BASE + core * GICR_STRIDE + register::SGI_FRAME } else { GICD_BASE }
}

fn word(interrupt: u32) -> usize {
    interrupt as usize / 32 * 4
}

fn set_bit(register: usize, interrupt: u32, value: bool) {
    let at = register + word(interrupt);
    let bit = 1 << (interrupt % 32);
    let old = read32(at);
    write32(at, if value { old | bit } else { old & !bit });
}

fn make_secure(core: usize, interrupt: u32) {
    let base = frame(core, interrupt);
    set_bit(base + register::GROUP, interrupt, false);
    set_bit(base + register::GROUP_MODIFIER, interrupt, true);
    let at = base + register::PRIORITY + (interrupt as usize & !3);
    let shift = interrupt % 4 * 8;
    write32(at, read32(at) & !(0xff << shift) | PRIORITY << shift);
}

/// The register of the distributor or of a redistributor at an address.
pub fn register_at(address: usize, bytes: u8) -> Option<Place> {
    if let Some(offset) = address.checked_sub(GICR_BASE) {
        let core = offset / GICR_STRIDE;
        return (core < MAX_CORES).then(|| Place { redistributor: Some(core as u8), offset: (offset % GICR_STRIDE) as u32, bytes });
    }
    let offset = address.checked_sub(GICD_BASE).filter(|offset| *offset < DISTRIBUTOR)?;
    Some(Place { redistributor: None, offset: offset as u32, bytes })
}

/// Makes an interrupt secure group 1, level or edge triggered, as its owner's manifest says; disabled. A shared one goes to
/// the core whose affinity fields are `target`.
pub fn configure(core: usize, interrupt: u32, level: bool, target: Option<u64>) {
    let _guard = CONFIGURATION.lock();
    make_secure(core, interrupt);
    if interrupt >= FIRST_SHARED {
        let at = GICD_BASE + register::CONFIGURATION + interrupt as usize / 16 * 4;
        let bit = 2 << (interrupt % 16 * 2);
        let old = read32(at);
        write32(at, if level { old & !bit } else { old | bit });
        if let Some(target) = target {
            write64(GICD_BASE + register::ROUTER + 8 * interrupt as usize, target & AFFINITY);
        }
    }
}

/// Makes an interrupt secure group 1, or non-secure group 1 in the normal world's hands.
pub fn set_security(core: usize, interrupt: u32, secure: bool) {
    let _guard = CONFIGURATION.lock();
    let base = frame(core, interrupt);
    set_bit(base + register::GROUP, interrupt, !secure);
    set_bit(base + register::GROUP_MODIFIER, interrupt, secure);
}

/// Sends a shared interrupt to a core; `false` for a private one, or a core that does not exist.
pub fn route(interrupt: u32, core: usize) -> bool {
    let last = |core| read32(GICR_BASE + core * GICR_STRIDE + register::REDISTRIBUTOR_TYPE) & LAST != 0;
    let possible = interrupt >= FIRST_SHARED && !(0..core).any(last);
    if possible {
        write64(GICD_BASE + register::ROUTER + 8 * interrupt as usize, affinity_of(core));
    }
    possible
}

/// Enables an interrupt, or disables it.
pub fn enable(core: usize, interrupt: u32, enable: bool) {
    let bit = 1 << (interrupt % 32);
    let base = frame(core, interrupt);
    if !enable {
        write32(base + register::ENABLE_CLEAR + word(interrupt), bit);
        write32(base + register::PENDING_CLEAR + word(interrupt), bit);
        return;
    }
    write32(base + register::ENABLE_SET + word(interrupt), bit);
}

/// Affinity fields of a core, at their places in MPIDR_EL1 and GICD_IROUTER: there is a gap below the fourth.
fn affinity_of(core: usize) -> u64 {
    let affinity = u64::from(read32(GICR_BASE + core * GICR_STRIDE + register::REDISTRIBUTOR_AFFINITY));
    affinity & 0xff_ffff | affinity >> 24 << 32
}

/// Acknowledges and drops the priority of the highest pending secure interrupt.
pub fn acknowledge() -> Option<u32> {
    let id = sysreg::icc_iar1_el1::read() as u32 & 0xff_ffff;
    if id >= SPECIAL {
        return None;
    }
    sysreg::icc_eoir1_el1::write(u64::from(id));
    Some(id)
}

/// Whether a group 0 interrupt is pending: EL3's.
pub fn has_group_0() -> bool {
    (sysreg::icc_hppir0_el1::read() as u32 & 0xff_ffff) < SPECIAL
}

/// Ends the active state of an interrupt that this core acknowledged, at its distributor or redistributor.
///
/// Not by ICC_DIR_EL1: QEMU judges that register by the rules from before Secure EL2 and ignores it there, so that no secure
/// interrupt would come a second time.
pub fn deactivate(core: usize, interrupt: u32) {
    write32(frame(core, interrupt) + register::ACTIVE_CLEAR + word(interrupt), 1 << (interrupt % 32));
}

/// Whether a partition has changed this core's interface: see [`take_interface_back`].
#[inline(always)]
pub fn interface_was_changed() -> bool {
    let control = sysreg::icc_ctlr_el1::read() & (SPLIT_DEACTIVATION | COMMON_BINARY_POINT);
    control != SPLIT_DEACTIVATION || sysreg::icc_igrpen1_el1::read() & 1 == 0 || sysreg::icc_ap1r0_el1::read() != 0
}

/// This core's interface as Bulkhead has it, whatever a partition did to it.
///
/// By the architecture a partition at S-EL1 reaches only the virtual interface, whose registers trap. QEMU judges that by the
/// rules from before Secure EL2, too, and lets S-EL1 at the physical one. The priority mask is the caller's to restore.
pub fn take_interface_back() {
    if interface_was_changed() {
        let control = sysreg::icc_ctlr_el1::read();
        sysreg::icc_ctlr_el1::write(control & !COMMON_BINARY_POINT | SPLIT_DEACTIVATION);
        sysreg::icc_igrpen1_el1::write(1);
        // Bulkhead drops a priority as soon as it has acknowledged it: what is active here was acknowledged by somebody else.
        sysreg::icc_ap1r0_el1::write(0);
        // In force before anything that depends on it is read.
        isb();
    }
}

/// The priority mask.
pub fn priority_mask() -> u64 {
    sysreg::icc_pmr_el1::read()
}

/// The priority mask that holds back the normal world's interrupts, where it has set `mask`.
pub fn holding_back(mask: u64) -> u64 {
    mask.min(MASK_NORMAL_WORLD)
}

/// Sets the priority mask.
pub fn set_priority_mask(mask: u64) {
    sysreg::icc_pmr_el1::write(mask);
    isb();
}

/// Raises the schedule receiver interrupt on this core, in the normal world.
pub fn raise_schedule_receiver() {
    sysreg::icc_asgi1r_el1::write(software_interrupt(bulkhead_core::SCHEDULE_RECEIVER, sysreg::mpidr_el1::read()));
    isb();
}

/// Makes another core enter Bulkhead.
pub fn interrupt_core(core: usize) {
    let affinity = affinity_of(core);
    // What that core is to see is written before the interrupt is raised.
    sysreg::dsb_ish();
    sysreg::icc_sgi1r_el1::write(software_interrupt(CROSS_CORE, affinity));
    isb();
}

/// What the SGI registers take: an interrupt and a core's affinity fields, from where MPIDR_EL1 has them.
fn software_interrupt(interrupt: u32, mpidr: u64) -> u64 {
    let target = 1 << (mpidr & 0xf) | (mpidr >> 4 & 0xf) << 44;
    target | (mpidr & 0xff00) << 8 | u64::from(interrupt) << 24 | (mpidr & 0xff_0000) << 16 | (mpidr & 0xff_0000_0000) << 16
}

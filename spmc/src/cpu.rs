//! One core as the [`Machine`] that the core logic runs on: whose registers are in it, and how partitions are entered.
//!
//! Nothing is moved before somebody needs the place: the normal world's EL1 registers leave when a partition runs, a
//! partition's when another one or the normal world does.

use crate::context::{self, PSTATE_EL1H, SCTLR_RESET, CommonRegister, Keys, Lower, RawExit, VcpuContext, context};
use crate::holders::{Group, Holder, Holders};
use crate::physical;
use crate::system::{self, SPMC};
use crate::sysreg::{self, isb};
use crate::virtual_timer::VirtualTimer;
use crate::{console, exit, gic, image, normal_world, simd, stage2, traps};
use bulkhead_core::fault::{Fault, FaultKind};
use bulkhead_core::machine::{AccessFault, Permissions};
use bulkhead_core::memory::{Holding, Holdings, MemoryType, OutOfMemory, Owner, PageState, PageTables};
use bulkhead_core::tables::PAGE;
use bulkhead_core::{Address, Exit, Machine, VcpuId};
use bulkhead_ffa::{Message, Regs, function};

/// HCR_EL2 of every partition (Arm ARM D24.2.61): stage 2, interrupts to S-EL2, and traps of what is not switched.
mod hcr {
    pub const VM: u64 = 1 << 0;
    pub const SWIO: u64 = 1 << 1;
    /// Table walks do not read device memory.
    pub const PTW: u64 = 1 << 2;
    pub const FMO: u64 = 1 << 3;
    pub const IMO: u64 = 1 << 4;
    pub const AMO: u64 = 1 << 5;
    /// Virtual FIQ.
    pub const VF: u64 = 1 << 6;
    /// Virtual IRQ.
    pub const VI: u64 = 1 << 7;
    /// Maintenance by EL1 is broadcast, so that a vCPU may move between cores.
    pub const FB: u64 = 1 << 9;
    /// Barriers by EL1 reach the inner shareable domain.
    pub const BSU_INNER: u64 = 1 << 10;
    /// Reads of feature registers trap: what is not switched is not shown.
    pub const TID3: u64 = 1 << 18;
    pub const TSC: u64 = 1 << 19;
    pub const TIDCP: u64 = 1 << 20;
    pub const TACR: u64 = 1 << 21;
    pub const RW: u64 = 1 << 31;
    pub const TLOR: u64 = 1 << 35;
    pub const TERR: u64 = 1 << 36;
    /// Pointer authentication is not trapped: the keys of the vCPU are in the core.
    pub const KEYS: u64 = 1 << 40 | 1 << 41;
    pub const PARTITION: u64 = VM | SWIO | PTW | FMO | IMO | AMO | FB | BSU_INNER | TID3 | TSC | TIDCP | TACR | RW | TLOR | TERR;
}

/// SVC_EL0 of HFGITR_EL2: calls of S-EL0 arrive at S-EL2 at once.
const TRAP_SVC_EL0: u64 = 1 << 52;
/// ICC_IGRPENn_EL1, SCXTNUM_EL1 and SCXTNUM_EL0 of HFGRTR_EL2 and HFGWTR_EL2. The bits of TPIDR2_EL0, SMPRI_EL1 and of later
/// extensions trap while they are 0.
const TRAP_REGISTERS: u64 = 1 << 23 | 1 << 30 | 1 << 31;
/// MDCR_EL2: debug, PMU, profiling and trace registers trap.
const TRAP_DEBUG: u64 = 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19;
/// CNTHCTL_EL2: EL1 and EL0 read the physical counter; its timer traps.
const PHYSICAL_COUNTER: u64 = 1;
/// EL1TVT of CNTHCTL_EL2 (FEAT_ECV): the virtual timer traps too.
const TRAP_VIRTUAL_TIMER: u64 = 1 << 13;
/// How often partitions' timers interrupt a core, at the most.
const ALARMS_PER_SECOND: u64 = 20_000;
/// General-purpose register that a vCPU's index is in when it starts.
const ENTRY_INDEX: usize = 4;
/// PSTATE at entry of a partition at S-EL0.
const PSTATE_EL0: u64 = 0x3c0;
/// SCTLR_EL1 of S-EL0 partitions: MMU, caches, stack alignment checks; EL0 may use WFI, WFE, DC ZVA, CTR_EL0 and cache maintenance.
const SCTLR_S_EL0: u64 = SCTLR_RESET | 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26;
/// CPACR_EL1 that lets EL0 use FP/SIMD.
const FP_AT_EL0: u64 = 3 << 20;
/// CNTKCTL_EL1 that lets EL0 read the counters.
const COUNTERS_AT_EL0: u64 = 3;

/// The context of the vCPU that a holder is.
fn context_of<'a>(holder: Holder) -> Option<&'a mut VcpuContext> {
    holder.is_vcpu().then(|| context(holder.vcpu()))
}

/// This core.
pub struct Cpu {
    core: usize,
    held: Holders,
    /// Whose roots, traps and number were loaded last. They stay while the normal world has the core: EL3 brings them back.
    roots: Holder,
    /// The same, where the vCPU uses no keys and the CPU's virtual timer traps.
    usual: Holder,
    /// The normal world's registers.
    world: World,
    /// The normal world's priority mask, since it lost the core.
    world_mask: u64,
    /// The normal world's interrupts are held back.
    held_back: bool,
    time_limit_reached: bool,
    /// When the time limit is reached, and when a timer of a partition is due; `u64::MAX`: never.
    time_limit: u64,
    alarm: u64,
    /// What the vCPU stopped for that [`Machine::enter`] ran, where that was not for a call.
    stop: RawExit,
    /// EL1's virtual timer.
    virtual_timer: VirtualTimer,
    /// The CPU has FEAT_FGT.
    fine_grained_traps: bool,
}

/// The normal world's registers, as far as they are not in the core.
struct World {
    lower: Lower,
    keys: Keys,
}

impl Cpu {
    /// Sets this core's traps and interrupt interface up; the MMU is on.
    pub fn start(core: usize) -> Self {
        if sysreg::id_aa64mmfr1_el1::read() >> 40 & 0xf != 0 {
            sysreg::hcrx_el2::write(0);
        }
        let fine_grained_traps = sysreg::id_aa64mmfr0_el1::read() >> 56 & 0xf != 0;
        if fine_grained_traps {
            sysreg::hfgrtr_el2::write(TRAP_REGISTERS);
            sysreg::hfgwtr_el2::write(TRAP_REGISTERS);
            sysreg::hfgitr_el2::write(0);
            sysreg::hdfgrtr_el2::write(0);
            sysreg::hdfgwtr_el2::write(0);
        }
        sysreg::hstr_el2::write(0);
        // HPMN stays what it is: all counters are the normal world's.
        sysreg::mdcr_el2::write(sysreg::mdcr_el2::read() & 0x1f | TRAP_DEBUG);
        sysreg::cptr_el2::write(simd::TRAP_ALL);
        let virtual_timer = VirtualTimer::new();
        sysreg::cnthctl_el2::write(if virtual_timer.traps { PHYSICAL_COUNTER | TRAP_VIRTUAL_TIMER } else { PHYSICAL_COUNTER });
        sysreg::cntvoff_el2::write(0);
        sysreg::cnthps_ctl_el2::write(0);
        sysreg::vpidr_el2::write(sysreg::midr_el1::read());
        let range = (sysreg::id_aa64mmfr0_el1::read() & 0xf).min(2);
        // From level 1, 4 KiB, write-back inner-shareable walks.
        let control = u64::from(64 - stage2::address_bits()) | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | range << 16 | 1 << 31;
        // NSA: the non-secure IPA space leads to non-secure memory; its tables, like the secure ones, are secure (NSW 0).
        sysreg::vtcr_el2::write(control | 1 << 30);
        sysreg::vstcr_el2::write(control & 0x8000_c0ff);
        isb();
        gic::start_core(core);
        Self {
            core,
            held: Holders::NORMAL_WORLD,
            roots: Holder::NOBODY,
            usual: Holder::NOBODY,
            world: World { lower: Lower::ZERO, keys: Keys::ZERO },
            world_mask: gic::priority_mask(),
            held_back: false,
            time_limit_reached: false,
            time_limit: u64::MAX,
            alarm: u64::MAX,
            stop: RawExit::SYNCHRONOUS,
            virtual_timer,
            fine_grained_traps,
        }
    }

    /// Brings a vCPU's registers, tables and traps onto this core: those that are not there already. They are in force by the
    /// exception return (SCTLR_EL2.EOS).
    #[inline(never)]
    fn switch_to(&mut self, vcpu: VcpuId, context: &VcpuContext) {
        let holder = Holder::of(vcpu);
        if self.held.of(Group::Common) != holder {
            self.release_common();
            context.lower.common.load();
            context.lower.exception.load();
            self.virtual_timer.load(vcpu);
            self.held.set(Group::Common, holder);
        }
        if self.held.of(Group::El1) != holder && !context.s_el0 {
            self.release_el1();
            context.lower.el1.load();
            self.held.set(Group::El1, holder);
        }
        if self.held.of(Group::Keys) != holder && context.hcr & hcr::KEYS != 0 {
            self.release_keys();
            context.keys.load();
            self.held.set(Group::Keys, holder);
        }
        if self.roots != holder {
            sysreg::vsttbr_el2::write(context.vsttbr);
            sysreg::vttbr_el2::write(context.vttbr);
            // Without these traps, an SVC takes the way over the EL1 vectors (`entry.s`).
            if self.fine_grained_traps {
                sysreg::hfgitr_el2::write(if context.s_el0 { TRAP_SVC_EL0 } else { 0 });
            }
            // RES1, and the execution context's number as affinity.
            sysreg::vmpidr_el2::write(1 << 31 | u64::from(vcpu.index));
            self.roots = holder;
        }
        sysreg::hcr_el2::write(context.hcr | context.lines);
        sysreg::cptr_el2::write(if self.held.of(Group::Simd) == holder { simd::TRAP_SCALABLE } else { simd::TRAP_ALL });
        self.usual = if self.virtual_timer.traps && context.hcr & hcr::KEYS == 0 { holder } else { Holder::NOBODY };
    }

    /// [`Self::switch_to`] where the core holds nothing but the normal world's registers, its tables and traps are the vCPU's
    /// from the last time, and the normal world's timer can stay as it is. Otherwise `false`, and nothing is done.
    #[inline(always)]
    fn switch_from_normal_world(&mut self, context: &VcpuContext) -> bool {
        let usual = self.held == Holders::NORMAL_WORLD && self.usual == context.holders.of(Group::Common);
        if !usual || !self.virtual_timer.may_stay() {
            return false;
        }
        if context.rests_at_el0 {
            self.world.lower.save_for_el0();
            context.lower.common.load();
        } else if context.s_el0 {
            return false;
        } else {
            self.world.lower.save();
            context.lower.load();
        }
        self.world_mask = gic::priority_mask();
        self.held = context.holders;
        sysreg::hcr_el2::write(context.hcr);
        // CPTR_EL2 is TRAP_ALL whenever the normal world's FP/SIMD registers are in the core (`simd::load_world`).
        true
    }

    /// The way back from [`Self::switch_from_normal_world`], after a call, if all is still as it left it; otherwise `false`, and
    /// nothing is done.
    #[inline(always)]
    fn switch_to_normal_world(&mut self, context: &mut VcpuContext) -> bool {
        if self.held != context.holders || self.virtual_timer.has_changed_world() {
            return false;
        }
        if context.s_el0 {
            // It has called from EL0 by a trap to S-EL2: no exception has gone to EL1 since it was entered.
            context.lower.common.save_el0();
            self.world.lower.common.load();
        } else {
            if gic::interface_was_changed() || gic::priority_mask() != self.world_mask {
                return false;
            }
            context.lower.save();
            self.world.lower.load();
        }
        self.held = Holders::NORMAL_WORLD;
        true
    }

    /// [`Machine::enter`] where more is to be done, or less: the vCPU's registers are here.
    #[inline(never)]
    fn enter_unusually(&mut self, context: &mut VcpuContext) -> bool {
        let vcpu = context.holders.of(Group::Common).vcpu();
        context.lines = 0;
        let stop = self.run_once(vcpu, context);
        self.stop = stop.unwrap_or(RawExit::SYNCHRONOUS);
        stop.is_none()
    }

    /// Keeps why a vCPU stopped; `false`.
    #[inline(never)]
    fn note_stop(&mut self, context: &mut VcpuContext, stop: RawExit, esr: u64) -> bool {
        context.note_syndrome(esr);
        // It was entered with both lines down, whatever an earlier run left here; it may go on before they are set anew.
        context.lines = 0;
        self.stop = stop;
        false
    }

    /// Runs a vCPU until it stops, whatever the core holds: for a call, or what is returned; its syndrome is in the context then.
    fn run_once(&mut self, vcpu: VcpuId, context: &mut VcpuContext) -> Option<RawExit> {
        self.switch_to(vcpu, context);
        let (stop, esr) = context::enter(context);
        if self.virtual_timer.changed(vcpu) {
            SPMC.set_alarm(self);
        }
        if stop == RawExit::SYNCHRONOUS && exit::is_call(context, esr) {
            return None;
        }
        context.note_syndrome(esr);
        Some(stop)
    }

    /// Runs a vCPU on until there is something to tell of; `stop` is what it has stopped for already.
    fn run_on(&mut self, vcpu: VcpuId, mut stop: Option<RawExit>) -> Exit {
        let mut retries = 0;
        loop {
            let context = context(vcpu);
            let Some(stop) = stop.take().or_else(|| self.run_once(vcpu, context)) else { return Exit::Call };
            if let Some(exit) = self.judge(vcpu, context, stop, &mut retries) {
                return exit;
            }
        }
    }

    fn release_common(&mut self) {
        let holder = self.held.of(Group::Common);
        if holder == Holder::NORMAL_WORLD {
            self.world.lower.common.save();
            self.world.lower.exception.save();
            self.virtual_timer.save_world();
            if !self.held_back {
                self.world_mask = gic::priority_mask();
            }
        } else if let Some(context) = context_of(holder) {
            context.rests_at_el0 = context.is_at_el0();
            if context.rests_at_el0 {
                context.lower.common.save_el0();
            } else {
                context.lower.common.save();
                context.lower.exception.save();
            }
        }
        self.held.set(Group::Common, Holder::NOBODY);
    }

    fn release_el1(&mut self) {
        let holder = self.held.of(Group::El1);
        if holder == Holder::NORMAL_WORLD {
            self.world.lower.el1.save();
        } else if let Some(context) = context_of(holder) {
            context.lower.el1.save();
            self.take_interface_back();
        }
        self.held.set(Group::El1, Holder::NOBODY);
    }

    fn release_keys(&mut self) {
        let holder = self.held.of(Group::Keys);
        if holder == Holder::NORMAL_WORLD {
            self.world.keys.save();
        } else if let Some(context) = context_of(holder) {
            context.keys.save();
        }
        self.held.set(Group::Keys, Holder::NOBODY);
    }

    /// Sets the SPMC's timer to what is due next.
    fn set_timer(&self) {
        let next = self.time_limit.min(self.alarm);
        sysreg::cnthps_cval_el2::write(next);
        sysreg::cnthps_ctl_el2::write(u64::from(next != u64::MAX));
        isb();
    }

    /// Undoes what a partition may have done to the interrupt interface.
    fn take_interface_back(&self) {
        gic::take_interface_back();
        let mask = if self.held_back { gic::holding_back(self.world_mask) } else { self.world_mask };
        if gic::priority_mask() != mask {
            gic::set_priority_mask(mask);
        }
    }

    fn release_simd(&mut self) {
        let holder = self.held.of(Group::Simd);
        if holder == Holder::NORMAL_WORLD {
            simd::save_world(self.core);
        } else if let Some(context) = context_of(holder) {
            simd::save(&mut context.simd);
        }
        self.held.set(Group::Simd, Holder::NOBODY);
    }

    /// A partition's first FP instruction since somebody else's registers were loaded.
    fn take_simd(&mut self, vcpu: VcpuId) {
        self.release_simd();
        simd::load(&context(vcpu).simd);
        self.held.set(Group::Simd, Holder::of(vcpu));
    }

    /// What a vCPU stopped for, other than a call; `None` when it just goes on. `retries` counts its accesses that were tried again.
    #[inline(never)]
    fn judge(&mut self, vcpu: VcpuId, context: &mut VcpuContext, stop: RawExit, retries: &mut u32) -> Option<Exit> {
        match stop {
            RawExit::SYNCHRONOUS => match exit::decode(context) {
                exit::Decoded::Exit(Exit::Fault(fault)) => {
                    let unmapped = exit::unmapped_page(context);
                    // If it is mapped, another core was just changing the tables, and nothing is wrong with the access; or the page is in
                    // the other address space only, and the access would fault for ever.
                    let again = *retries < MAX_RETRIES && unmapped.is_some_and(|page| stage2::is_mapped(vcpu.partition, page));
                    *retries += 1;
                    return (!again).then_some(Exit::Fault(fault));
                }
                exit::Decoded::Exit(exit) => return Some(exit),
                exit::Decoded::Emulated => {}
                exit::Decoded::NeedsSimd => self.take_simd(vcpu),
                exit::Decoded::NeedsKeys => context.hcr |= hcr::KEYS,
            },
            RawExit::IRQ => return Some(Exit::SecureInterrupt),
            // EL3's own, which it handles at once (DEN0077A v1.2 section 9.2).
            RawExit::FIQ if gic::has_group_0() => context::smc(&mut Regs::new(&[u64::from(function::EL3_INTR_HANDLE)])),
            // With nothing to acknowledge, the core logic looks at the timers.
            RawExit::FIQ if self.virtual_timer.fired(vcpu) => return Some(Exit::SecureInterrupt),
            RawExit::FIQ => return Some(Exit::NormalWorldInterrupt),
            // SError.
            _ => return Some(Self::fault(vcpu, FaultKind::SystemError)),
        }
        None
    }

    fn fault(vcpu: VcpuId, kind: FaultKind) -> Exit {
        let context = context(vcpu);
        let esr = if kind == FaultKind::Exception { context.esr } else { 0 };
        Exit::Fault(Fault { kind, pc: context.pc, esr, address: None })
    }
}

/// How often a partition's access is tried again, in one run, because its page is mapped after all: other cores change tables for a
/// moment only.
const MAX_RETRIES: u32 = 1000;

impl Machine for Cpu {
    fn core(&self) -> usize {
        self.core
    }

    fn run(&mut self, vcpu: VcpuId) -> Exit {
        self.run_on(vcpu, None)
    }

    fn regs(&mut self, vcpu: VcpuId) -> &mut Regs {
        &mut context(vcpu).regs
    }

    type Context = context::Handle;

    #[inline(always)]
    fn context(&self, vcpu: VcpuId) -> context::Handle {
        context::Handle::of(vcpu)
    }

    #[inline(always)]
    fn regs_in(&mut self, context: context::Handle) -> &mut Regs {
        &mut context.get().regs
    }

    #[inline(always)]
    fn last_message(&mut self, context: context::Handle) -> Message {
        context.get().regs.message()
    }

    #[inline(always)]
    fn enter(&mut self, context: context::Handle) -> bool {
        let context = context.get();
        if !self.switch_from_normal_world(context) {
            return self.enter_unusually(context);
        }
        let (stop, esr) = context::enter(context);
        stop == RawExit::SYNCHRONOUS && exit::is_call(context, esr) || self.note_stop(context, stop, esr)
    }

    fn enter_again(&mut self, context: context::Handle) -> bool {
        self.enter_unusually(context.get())
    }

    fn why_stopped(&mut self, vcpu: VcpuId) -> Exit {
        // The usual reason, where no timer of the vCPU can have fired as well.
        if self.stop == RawExit::FIQ && self.virtual_timer.traps && !gic::has_group_0() {
            return Exit::NormalWorldInterrupt;
        }
        self.run_on(vcpu, Some(self.stop))
    }

    #[inline(always)]
    fn leave(&mut self, context: context::Handle) {
        if !self.switch_to_normal_world(context.get()) {
            self.leave_to_normal_world();
        }
    }

    fn reset_vcpu(&mut self, vcpu: VcpuId, entry: u64, x0: u64) {
        for group in [Group::Common, Group::El1, Group::Keys, Group::Simd] {
            if self.held.of(group) == Holder::of(vcpu) {
                self.held.set(group, Holder::NOBODY);
            }
        }
        let s_el0 = system::is_s_el0(vcpu.partition);
        let context = context(vcpu);
        *context = VcpuContext::ZERO;
        context.pc = entry;
        context.pstate = if s_el0 { PSTATE_EL0 } else { PSTATE_EL1H };
        context.hcr = hcr::PARTITION;
        context.s_el0 = s_el0;
        context.rests_at_el0 = s_el0;
        context.call = exit::usual_call(s_el0);
        context.holders = Holders::while_runs(vcpu, s_el0);
        context.distributor = SPMC.partition(vcpu.partition).is_some_and(|(_, config)| config.distributor);
        let roots = stage2::roots(vcpu.partition);
        if let Some(roots) = roots {
            context.vsttbr = roots.secure.table;
            context.vttbr = roots.non_secure.table | u64::from(roots.vmid) << 48;
        }
        // Hafnium's partitions expect the vCPU's index there, and hang without it.
        context.regs.0[ENTRY_INDEX] = u64::from(vcpu.index);
        let register = if vcpu.index == 0 { system::boot_register(vcpu.partition) } else { 0 };
        context.regs.0[register] = x0;
        let common = &mut context.lower.common;
        *common.register(CommonRegister::Sctlr) = SCTLR_RESET;
        if s_el0 {
            *common.register(CommonRegister::Sctlr) = SCTLR_S_EL0;
            *common.register(CommonRegister::Cpacr) = FP_AT_EL0;
            *common.register(CommonRegister::Ttbr0) = roots.and_then(|r| r.stage1).map_or(0, |root| root.table);
            *common.register(CommonRegister::Tcr) = stage2::tcr();
            *common.register(CommonRegister::Mair) = stage2::MAIR;
            *common.register(CommonRegister::Vbar) = image::forward_vectors();
            *common.register(CommonRegister::Cntkctl) = COUNTERS_AT_EL0;
        }
    }

    fn park(&mut self, vcpu: VcpuId) {
        let holder = Holder::of(vcpu);
        if self.held.of(Group::Common) == holder {
            self.release_common();
        }
        if self.held.of(Group::El1) == holder {
            self.release_el1();
        }
        if self.held.of(Group::Keys) == holder {
            self.release_keys();
        }
        if self.held.of(Group::Simd) == holder {
            self.release_simd();
        }
    }

    fn leave_to_normal_world(&mut self) {
        if self.held.of(Group::Common) != Holder::NORMAL_WORLD {
            self.release_common();
            self.world.lower.common.load();
            self.world.lower.exception.load();
            self.virtual_timer.load_world();
            self.held.set(Group::Common, Holder::NORMAL_WORLD);
        }
        if self.held.of(Group::El1) != Holder::NORMAL_WORLD {
            self.release_el1();
            self.world.lower.el1.load();
            self.held.set(Group::El1, Holder::NORMAL_WORLD);
        }
        if self.held.of(Group::Keys) != Holder::NORMAL_WORLD {
            self.release_keys();
            self.world.keys.load();
            self.held.set(Group::Keys, Holder::NORMAL_WORLD);
        }
        if self.held.of(Group::Simd) != Holder::NORMAL_WORLD {
            self.release_simd();
            simd::load_world(self.core);
            self.held.set(Group::Simd, Holder::NORMAL_WORLD);
        }
    }

    fn set_virtual_lines(&mut self, vcpu: VcpuId, irq: bool, fiq: bool) {
        let line = |up: bool, bit: u64| if up { bit } else { 0 };
        context(vcpu).lines = line(irq, hcr::VI) | line(fiq, hcr::VF);
    }

    fn mask_normal_world_interrupts(&mut self, mask: bool) -> bool {
        let before = core::mem::replace(&mut self.held_back, mask);
        if mask && !before {
            if self.held.of(Group::Common) == Holder::NORMAL_WORLD {
                self.world_mask = gic::priority_mask();
            }
            gic::set_priority_mask(gic::holding_back(self.world_mask));
        } else if !mask && before {
            gic::set_priority_mask(self.world_mask);
        }
        before
    }

    fn read(&mut self, from: Address, out: &mut [u8]) -> Result<(), AccessFault> {
        let reachable = system::is_reachable(from, out.len() as u64);
        (reachable && context::copy_from_guest(from.pa, out)).then_some(()).ok_or(AccessFault)
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), AccessFault> {
        let reachable = system::is_reachable(to, data.len() as u64);
        (reachable && context::copy_to_guest(to.pa, data)).then_some(()).ok_or(AccessFault)
    }

    fn acknowledge_interrupt(&mut self) -> Option<u32> {
        let interrupt = gic::acknowledge()?;
        if interrupt == crate::platform::SECURE_EL2_TIMER {
            let now = self.ticks();
            self.time_limit_reached |= now >= self.time_limit;
            if now >= self.time_limit {
                self.time_limit = u64::MAX;
            }
            if now >= self.alarm {
                self.alarm = u64::MAX;
            }
            self.set_timer();
            gic::deactivate(self.core, interrupt);
            return None;
        }
        if interrupt == gic::CROSS_CORE {
            gic::deactivate(self.core, interrupt);
            return None;
        }
        Some(interrupt)
    }

    fn deactivate_interrupt(&mut self, interrupt: u32) {
        gic::deactivate(self.core, interrupt);
    }

    fn enable_interrupt(&mut self, interrupt: u32, enable: bool) {
        gic::enable(self.core, interrupt, enable);
    }

    fn route_interrupt(&mut self, interrupt: u32, core: usize) -> bool {
        gic::route(interrupt, core)
    }

    fn set_interrupt_security(&mut self, interrupt: u32, secure: bool) {
        gic::set_security(self.core, interrupt, secure);
    }

    fn set_general(&mut self, vcpu: VcpuId, register: u8, value: u64) {
        traps::set_general(context(vcpu), usize::from(register), value);
    }

    fn ticks(&self) -> u64 {
        isb();
        sysreg::cntpct_el0::read()
    }

    fn set_alarm(&mut self, deadline: Option<u64>) {
        // Whoever was interrupted makes some progress before the next alarm.
        let earliest = sysreg::cntpct_el0::read() + sysreg::cntfrq_el0::read() / ALARMS_PER_SECOND;
        let alarm = deadline.map_or(u64::MAX, |deadline| deadline.max(earliest));
        if self.alarm != alarm {
            self.alarm = alarm;
            self.set_timer();
        }
    }

    fn interrupt_core(&mut self, core: usize) {
        gic::interrupt_core(core);
    }

    fn time_limit_reached(&mut self) -> bool {
        self.time_limit_reached
    }

    fn time_limit_fault(&mut self, vcpu: VcpuId) -> Fault {
        Fault { kind: FaultKind::TimeLimit, pc: context(vcpu).pc, esr: 0, address: None }
    }

    fn set_time_limit(&mut self, milliseconds: Option<u32>) {
        self.time_limit_reached = false;
        let ticks = |ms| u64::from(ms) * (sysreg::cntfrq_el0::read() / 1000);
        self.time_limit = milliseconds.map_or(u64::MAX, |ms| sysreg::cntpct_el0::read() + ticks(ms));
        self.set_timer();
    }

    fn stop_time_limit(&mut self) -> u64 {
        let left = match core::mem::replace(&mut self.time_limit, u64::MAX) {
            u64::MAX => 0,
            // 0 stands for no limit.
            limit => limit.saturating_sub(sysreg::cntpct_el0::read()).max(1),
        };
        self.set_timer();
        left
    }

    fn resume_time_limit(&mut self, left: u64) {
        self.time_limit_reached = false;
        self.time_limit = if left == 0 { u64::MAX } else { sysreg::cntpct_el0::read() + left };
        self.set_timer();
    }

    fn milliseconds(&self) -> Option<u64> {
        Some(sysreg::cntpct_el0::read() / (sysreg::cntfrq_el0::read() / 1000).max(1))
    }

    fn raise_schedule_receiver(&mut self) {
        gic::raise_schedule_receiver();
    }

    fn permissions(&mut self, partition: u8, page: u64) -> Option<Permissions> {
        self.holding(Owner::Partition(partition), page).filter(|h| h.secure && h.state == PageState::Owned).map(|h| h.permissions)
    }

    fn may_set_permissions(&mut self, partition: u8, page: u64) -> bool {
        let own = |h: Holding| h.secure && h.state == PageState::Owned && h.memory_type == MemoryType::Normal;
        // What the manifest gives beside the partition's own memory, it gives with the access that it says.
        system::is_memory_of(partition, page) && self.holding(Owner::Partition(partition), page).is_some_and(own)
    }

    fn set_permissions(&mut self, partition: u8, page: u64, pages: u64, permissions: Permissions) -> Result<(), OutOfMemory> {
        stage2::set_permissions(partition, page, pages, permissions)
    }

    fn report_fault(&mut self, vcpu: VcpuId, fault: &Fault) {
        system::report_fault(vcpu, fault);
    }

    fn quiesce(&mut self, partition: u8) {
        stage2::cut_off(partition);
        if let Some((_, config)) = SPMC.partition(partition) {
            for interrupt in &config.interrupts {
                gic::enable(self.core, *interrupt, false);
            }
        }
    }

    fn print(&mut self, partition: Option<u8>, line: &str) {
        match partition {
            Some(partition) => console::line(system::name(partition), format_args!("{line}")),
            None => console::line("bulkhead", format_args!("{line}")),
        }
    }
}

/// Zeroes to copy from.
static ZEROES: [u8; 256] = [0; 256];

impl PageTables for Cpu {
    fn holdings(&mut self, owner: Owner, work: &mut dyn FnMut(&mut dyn Holdings)) {
        match owner {
            Owner::Partition(partition) => stage2::holdings(partition, work),
            Owner::NormalWorld => normal_world::holdings(work),
        }
    }

    fn zero(&mut self, start: Address, pages: u64) -> Result<(), AccessFault> {
        for at in (start.pa..start.pa + pages * PAGE).step_by(ZEROES.len()) {
            self.write(Address { pa: at, ..start }, &ZEROES)?;
        }
        physical::clean(start.pa, pages * PAGE);
        Ok(())
    }
}

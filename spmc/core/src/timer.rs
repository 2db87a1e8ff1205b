//! The timers of a vCPU: EL1 virtual and EL1 physical, whose registers trap (Arm ARM D12.2).
//!
//! Both count the physical counter, as partitions have no counter offset. A timer whose condition is met raises its private
//! interrupt, 27 or 30; a partition that has enabled the virtual interrupt 3 gets that one from the physical timer in
//! place of 30. The alarm of a core, the SPMC's own timer, is set for the earliest timer of the vCPUs that belong to it.

use crate::machine::Machine;
use crate::messaging::vcpu_on;
use crate::spmc::Spmc;
use crate::vcpu::VcpuId;
use crate::virtual_interrupts::{FIRST_TIMER, Set, TIMER, VirtualInterrupts};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The EL1 virtual timer, CNTV_*.
    Virtual = 0,
    /// The EL1 physical timer, CNTP_*.
    Physical = 1,
}

/// A timer's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerRegister {
    /// TVAL: what is left, 32 bits with a sign.
    Value,
    /// CTL.
    Control,
    /// CVAL.
    Compare,
}

/// CTL: enable, mask, condition met.
const ENABLE: u32 = 1;
const MASK: u32 = 2;
const MET: u32 = 4;

/// A timer's state.
pub struct Timer {
    control: AtomicU32,
    compare: AtomicU64,
    /// When its interrupt is due; 0: not any more, or never.
    due: AtomicU64,
}

impl Timer {
    /// Off.
    pub const fn new() -> Self {
        Self { control: AtomicU32::new(0), compare: AtomicU64::new(0), due: AtomicU64::new(0) }
    }

    pub(crate) fn reset(&self) {
        self.control.store(0, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
    }

    fn read(&self, register: TimerRegister, now: u64) -> u64 {
        let compare = self.compare.load(Ordering::Relaxed);
        match register {
            TimerRegister::Value => compare.wrapping_sub(now) & 0xffff_ffff,
            TimerRegister::Control => {
                let control = self.control.load(Ordering::Relaxed);
                u64::from(if control & ENABLE != 0 && now >= compare { control | MET } else { control })
            }
            TimerRegister::Compare => compare,
        }
    }

    fn write(&self, register: TimerRegister, value: u64, now: u64) {
        match register {
            TimerRegister::Value => self.compare.store(now.wrapping_add(value as u32 as i32 as u64), Ordering::Relaxed),
            TimerRegister::Control => self.control.store(value as u32 & (ENABLE | MASK), Ordering::Relaxed),
            TimerRegister::Compare => self.compare.store(value, Ordering::Relaxed),
        }
        self.arm();
    }

    /// Its interrupt is due when its condition is met, now or later.
    pub(crate) fn arm(&self) {
        let armed = self.control.load(Ordering::Relaxed) & (ENABLE | MASK) == ENABLE;
        // Never 0, which means that nothing is due; a moment in the far past will do as well.
        self.due.store(if armed { self.compare.load(Ordering::Relaxed).max(1) } else { 0 }, Ordering::Release);
    }

    fn is_due(&self, now: u64) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    fn due(&self) -> Option<u64> {
        Some(self.due.load(Ordering::Acquire)).filter(|due| *due != 0)
    }
}

impl VirtualInterrupts {
    fn timer_slot(&self, which: usize) -> u32 {
        if which == Which::Physical as usize && self.is_in(Set::Enabled, TIMER) { TIMER } else { FIRST_TIMER + which as u32 }
    }

    /// Posts the interrupts of the timers whose conditions are met; whether there were any.
    pub(crate) fn expire_timers(&self, now: u64) -> bool {
        let mut any = false;
        for (which, timer) in self.timers.iter().enumerate() {
            if timer.is_due(now) {
                timer.due.store(0, Ordering::Relaxed);
                self.post(self.timer_slot(which));
                any = true;
            }
        }
        any
    }

    /// Whether a timer will raise its interrupt sooner or later.
    pub(crate) fn has_timer(&self) -> bool {
        self.timers.iter().any(|timer| timer.due.load(Ordering::Relaxed) != 0)
    }

    /// The handler of a timer's interrupt has ended: if the condition is still met, it is raised again.
    pub(crate) fn rearm_timer(&self, slot: u32) {
        for (which, timer) in self.timers.iter().enumerate() {
            if slot == FIRST_TIMER + which as u32 || slot == TIMER && which == Which::Physical as usize {
                timer.arm();
            }
        }
    }
}

impl Spmc {
    /// An access of a running vCPU to a timer's register: what is read.
    pub(crate) fn timer_access<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, which: Which, register: TimerRegister, write: Option<u64>) -> u64 {
        let interrupts = self.interrupts(vcpu);
        let timer = &interrupts.timers[which as usize];
        let now = machine.ticks();
        let Some(value) = write else { return timer.read(register, now) };
        timer.write(register, value, now);
        // A level: where the condition is not met any more, what was raised and not taken goes.
        if !timer.is_due(now) {
            interrupts.clear(interrupts.timer_slot(which as usize));
        }
        interrupts.expire_timers(now);
        self.set_alarm(machine);
        0
    }

    /// The SPMC's own timer has fired, or may have: posts what is due to the vCPUs of this core.
    pub(crate) fn expire_timers<M: Machine>(&self, machine: &mut M) {
        let (now, core) = (machine.ticks(), machine.core());
        for (index, partition, config) in self.partitions() {
            let vcpu = VcpuId { partition: index, index: vcpu_on(config, core) };
            if partition.vcpus[usize::from(vcpu.index)].interrupts.expire_timers(now) {
                self.make_seen(machine, vcpu);
                self.want_core(vcpu, core);
            }
        }
        self.set_alarm(machine);
    }

    /// CTL and CVAL of a vCPU's virtual timer, for a machine on which their accesses do not trap.
    pub fn virtual_timer(&self, vcpu: VcpuId) -> (u64, u64) {
        let timer = &self.interrupts(vcpu).timers[Which::Virtual as usize];
        (u64::from(timer.control.load(Ordering::Relaxed)), timer.compare.load(Ordering::Relaxed))
    }

    /// What a vCPU wrote to these while it ran.
    pub fn set_virtual_timer(&self, vcpu: VcpuId, control: u64, compare: u64) {
        let timer = &self.interrupts(vcpu).timers[Which::Virtual as usize];
        timer.control.store(control as u32, Ordering::Relaxed);
        timer.compare.store(compare, Ordering::Relaxed);
        timer.arm();
    }

    /// Sets this core's alarm for the earliest timer of the vCPUs that belong to it.
    pub fn set_alarm<M: Machine>(&self, machine: &mut M) {
        let core = machine.core();
        let earliest = self
            .partitions()
            .filter(|(_, partition, _)| !partition.has_failed())
            .flat_map(|(_, partition, config)| &partition.vcpus[usize::from(vcpu_on(config, core))].interrupts.timers)
            .filter_map(Timer::due)
            .min();
        machine.set_alarm(earliest);
    }
}

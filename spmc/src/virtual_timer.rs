//! EL1's virtual timer on this core: the normal world's, and, on a CPU where its registers do not trap, a partition's.
//!
//! With FEAT_ECV partitions' timers are the core logic's alone, and the normal world's stays as it is, so that its tick comes
//! while a partition runs. Without it the registers are switched; what a partition wrote is looked at when it stops, and its
//! timer's interrupt, which is the normal world's by configuration, arrives as FIQ.

use crate::system::SPMC;
use crate::sysreg::{self, isb};
use bulkhead_core::VcpuId;

/// CNTV_CTL_EL0: enabled, not masked, condition met.
const ENABLE: u64 = 1;
const MASK: u64 = 2;
const FIRED: u64 = 5;

/// This core's.
pub struct VirtualTimer {
    /// Its registers trap (FEAT_ECV).
    pub traps: bool,
    /// The normal world's registers, where they were changed.
    world: Option<(u64, u64)>,
    /// What a partition had when it stopped last, or was given.
    partition: (u64, u64),
}

impl VirtualTimer {
    /// As the CPU can.
    pub fn new() -> Self {
        Self { traps: sysreg::id_aa64mmfr0_el1::read() >> 60 != 0, world: None, partition: (0, 0) }
    }

    /// Whether the normal world's timer can stay as it is while a partition runs, if its registers trap.
    #[inline(always)]
    pub fn may_stay(&self) -> bool {
        sysreg::cntv_ctl_el0::read() & 7 != FIRED
    }

    /// Whether [`Self::load_world`] has anything to do.
    #[inline(always)]
    pub fn has_changed_world(&self) -> bool {
        self.world.is_some()
    }

    /// The normal world has lost the core.
    pub fn save_world(&mut self) {
        let control = sysreg::cntv_ctl_el0::read();
        if self.traps {
            // It has fired before a partition ran, or by a counter offset that the normal world does not have: it would
            // never let a partition run.
            if control & 7 == FIRED {
                self.world = Some((control, sysreg::cntv_cval_el0::read()));
                sysreg::cntv_ctl_el0::write(control | MASK);
            }
            return;
        }
        self.world = Some((control, sysreg::cntv_cval_el0::read()));
        sysreg::cntv_ctl_el0::write(0);
    }

    /// The normal world gets the core.
    pub fn load_world(&mut self) {
        if let Some((control, compare)) = self.world.take() {
            sysreg::cntv_cval_el0::write(compare);
            sysreg::cntv_ctl_el0::write(control & (ENABLE | MASK));
        }
    }

    /// A vCPU gets the core.
    pub fn load(&mut self, vcpu: VcpuId) {
        if !self.traps {
            self.partition = SPMC.virtual_timer(vcpu);
            sysreg::cntv_cval_el0::write(self.partition.1);
            sysreg::cntv_ctl_el0::write(self.partition.0);
        }
    }

    /// A vCPU has stopped: takes over what it wrote to its timer; whether it did.
    pub fn changed(&mut self, vcpu: VcpuId) -> bool {
        if self.traps {
            return false;
        }
        let now = (sysreg::cntv_ctl_el0::read() & (ENABLE | MASK), sysreg::cntv_cval_el0::read());
        let changed = now != self.partition;
        if changed {
            self.partition = now;
            SPMC.set_virtual_timer(vcpu, now.0, now.1);
        }
        changed
    }

    /// After an FIQ: whether it was the timer of the vCPU that ran, which is silent from now on until the partition sets it
    /// anew. It sees the mask bit that this takes.
    pub fn fired(&mut self, vcpu: VcpuId) -> bool {
        let fired = !self.traps && sysreg::cntv_ctl_el0::read() & 7 == FIRED;
        if fired {
            SPMC.set_virtual_timer(vcpu, self.partition.0, self.partition.1);
            self.partition.0 |= MASK;
            sysreg::cntv_ctl_el0::write(self.partition.0);
            isb();
        }
        fired
    }
}

//! Partitions from their first instruction to their end (DEN0077A v1.2 sections 5.5, 8.3 and 15.4): initialisation in boot
//! order, execution contexts of secondary cores, the SPMD's framework messages, and what is left of a failed partition.
//!
//! Invariant: an execution context leaves [`RunState::Off`] only here, by an initialisation that ends in FFA_MSG_WAIT.

use crate::calls::{Call, From};
use crate::chain::deliver;
use crate::machine::Machine;
use crate::messaging::vcpu_on;
use crate::partition::{PartitionConfig, PowerMessages};
use crate::spmc::{Spmc, UNKNOWN};
use crate::tables::PAGE;
use crate::vcpu::{Caller, Model, RunState, Vcpu, VcpuId};
use crate::PartitionIndex;
use arrayvec::ArrayString;
use bulkhead_ffa::{EndpointId, Message, Regs, Status, function, message};
use core::fmt::Write;
use crate::sync::atomic::Ordering;

/// Framework messages, w2 of a direct request or response: the type in bits 7..0 and bit 31.
pub(crate) mod framework {
    /// A framework message at all.
    pub const MESSAGE: u32 = 1 << 31;
    /// Power management request: w3 holds the PSCI function.
    pub const POWER_REQUEST: u32 = 0;
    /// A core has come back from a suspend.
    pub const WARM_BOOT: u32 = 1;
    /// Power management response: w3 holds the PSCI status.
    pub const POWER_RESPONSE: u32 = 2;
    /// A virtual machine was created: its identity in w5, a handle in w3 and w4. The answer's type is one more.
    pub const VM_CREATED: u32 = 4;
    /// A virtual machine was destroyed.
    pub const VM_DESTROYED: u32 = 6;
    /// The normal world called FFA_VERSION: w3 holds the version asked for.
    pub const VERSION_REQUEST: u32 = 8;
    /// What FFA_VERSION answers, in w3.
    pub const VERSION_RESPONSE: u32 = 9;
}

/// PSCI (DEN0022): function and status numbers.
mod psci {
    pub const CPU_SUSPEND_32: u32 = 0x8400_0001;
    pub const CPU_SUSPEND_64: u32 = 0xc400_0001;
    pub const CPU_OFF: u32 = 0x8400_0002;
    pub const SUCCESS: u64 = 0;
    pub const DENIED: u64 = 0xffff_fffd;
    pub const NOT_SUPPORTED: u64 = 0xffff_ffff;
}

/// Characters of a line that reports a partition's start.
const LINE: usize = 120;

impl Spmc {
    /// Initialises all partitions on the boot core, in boot order. Returns how many failed.
    pub fn initialise<M: Machine>(&self, machine: &mut M) -> u8 {
        let mut failed = 0;
        for index in self.boot_order() {
            let Some((partition, config)) = self.partition(index) else { continue };
            let vcpu = VcpuId { partition: index, index: vcpu_on(config, machine.core()) };
            let began = machine.milliseconds();
            let up = self.start(machine, vcpu, config.entry, config.boot_argument);
            let mut line = ArrayString::<LINE>::new();
            // The line is long enough for every value; a shortened one would still be right.
            let _ = write!(line, "partition {} ", config.id);
            if up {
                self.enable_messages(machine, vcpu);
                let _ = write!(line, "up: FF-A {} spoken", partition.endpoint.spoken.version());
                if let (Some(began), Some(now)) = (began, machine.milliseconds()) {
                    let _ = write!(line, ", {} ms", now.saturating_sub(began));
                }
            } else {
                failed += 1;
                let _ = line.write_str("failed to initialise, and is left out");
            }
            machine.print(None, &line);
        }
        failed
    }

    /// A secondary core has come up: starts the execution contexts that partitions have for it.
    pub fn core_on<M: Machine>(&self, machine: &mut M) {
        let core = machine.core();
        for (index, partition, config) in self.partitions() {
            let entry = partition.secondary_entry.load(Ordering::Acquire);
            if !has_vcpu_for(config, core) || entry == 0 || partition.has_failed() {
                continue;
            }
            let vcpu = VcpuId { partition: index, index: core as u8 };
            // The argument is ours to choose: the context's own number.
            if !self.start(machine, vcpu, entry, core as u64) && !partition.has_failed() {
                let mut line = ArrayString::<LINE>::new();
                let _ = write!(line, "partition {} keeps vCPU {core} as it was when the core went off", config.id);
                machine.print(None, &line);
            }
        }
        // Also those of partitions with one vCPU, which were set on another core.
        self.set_alarm(machine);
    }

    /// Runs an execution context from reset to its FFA_MSG_WAIT; whether it got there.
    fn start<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, entry: u64, argument: u64) -> bool {
        let (partition, state) = self.vcpu(vcpu);
        if state.claim(RunState::Off).is_err() {
            return false;
        }
        self.converse(vcpu, Caller::Boot, Model::Init);
        if let Some(config) = partition.config() {
            partition.vcpus[usize::from(vcpu.index)].interrupts.reset(config);
        }
        machine.reset_vcpu(vcpu, entry, argument);
        self.run_chain(machine, vcpu);
        !partition.has_failed()
    }

    /// Answers a framework message of the SPMD.
    pub(crate) fn spmd_message<M: Machine>(&self, machine: &mut M, call: &Call) -> Regs {
        let kind = call.regs.w(2);
        let (response, value) = match kind & !framework::MESSAGE {
            framework::VERSION_REQUEST => (framework::VERSION_RESPONSE, self.negotiate(From::NormalWorld, call.regs.w(3))),
            framework::POWER_REQUEST if call.regs.w(3) == psci::CPU_OFF => {
                self.core_off(machine);
                (framework::POWER_RESPONSE, psci::SUCCESS)
            }
            framework::POWER_REQUEST if matches!(call.regs.w(3), psci::CPU_SUSPEND_32 | psci::CPU_SUSPEND_64) => {
                (framework::POWER_RESPONSE, self.tell_of_sleep(machine, call, |messages| messages.suspend))
            }
            framework::WARM_BOOT => (framework::POWER_RESPONSE, self.tell_of_sleep(machine, call, |messages| messages.resume)),
            // TF-A 2.12 sends CPU_OFF and the version. Only a direct response ends the SPMD's call, so that an unknown one gets it too.
            _ => (framework::POWER_RESPONSE, psci::NOT_SUPPORTED),
        };
        let (sender, receiver) = call.sender_receiver();
        let ends = u64::from(receiver.0) << 16 | u64::from(sender.0);
        Regs::new(&[u64::from(function::MSG_SEND_DIRECT_RESP_32), ends, u64::from(framework::MESSAGE | response), value])
    }

    /// This core goes off: partitions that asked for it are told, and their execution contexts end. Nothing that a
    /// partition answers keeps the core up.
    fn core_off<M: Machine>(&self, machine: &mut M) {
        let core = machine.core();
        for (index, partition, config) in self.partitions() {
            if !has_vcpu_for(config, core) || partition.has_failed() {
                continue;
            }
            let vcpu = VcpuId { partition: index, index: core as u8 };
            let (_, state) = self.vcpu(vcpu);
            // One that is in the middle of a request stays so: FFA_RUN goes on with it when the core is back.
            if state.claim(RunState::Waiting).is_err() {
                continue;
            }
            if config.power_messages.off {
                self.tell(machine, vcpu, config, framework::POWER_REQUEST, psci::CPU_OFF);
                if partition.has_failed() || state.claim(RunState::Waiting).is_err() {
                    continue;
                }
            }
            machine.park(vcpu);
            state.publish(RunState::Off);
        }
    }

    /// This core is suspended, or was: partitions that asked for it are told, as far as they wait here. Returns the PSCI
    /// status: one of them may deny a suspend (section 18.2.4).
    fn tell_of_sleep<M: Machine>(&self, machine: &mut M, call: &Call, wanted: impl Fn(PowerMessages) -> bool) -> u64 {
        let core = machine.core();
        let mut status = psci::SUCCESS;
        for (index, _, config) in self.partitions() {
            let vcpu = VcpuId { partition: index, index: core as u8 };
            let concerned = has_vcpu_for(config, core) && wanted(config.power_messages);
            if concerned && self.vcpu(vcpu).1.claim(RunState::Waiting).is_ok() {
                let kind = call.regs.w(2) & !framework::MESSAGE;
                let answer = self.tell(machine, vcpu, config, kind, call.regs.w(3));
                if answer.function() != function::MSG_SEND_DIRECT_RESP_32 || u64::from(answer.w(3)) != psci::SUCCESS {
                    status = psci::DENIED;
                }
            }
        }
        status
    }

    /// Runs a claimed vCPU through a power management message; returns what it answers.
    fn tell<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, config: &PartitionConfig, kind: u32, value: u32) -> Regs {
        self.converse(vcpu, Caller::Framework, Model::Framework);
        let ends = u64::from(EndpointId::SPMC.0) << 16 | u64::from(config.id.0);
        let kind = u64::from(framework::MESSAGE | kind);
        deliver(machine, vcpu, 0, Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), ends, kind, u64::from(value)]));
        self.run_chain(machine, vcpu)
    }

    /// FFA_SECONDARY_EP_REGISTER.
    pub(crate) fn secondary_entry_register<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let From::Partition(vcpu) = call.from else { return Err(UNKNOWN) };
        let (partition, state) = self.vcpu(vcpu);
        if partition.config().is_none_or(|config| config.vcpus < 2) {
            return Err(UNKNOWN);
        }
        if state.model() != Model::Init || partition.initialised.load(Ordering::Acquire) {
            return Err(Status::Denied);
        }
        let entry = if function::is_64_bit(call.function()) { call.regs.0[1] } else { u64::from(call.regs.w(1)) };
        // x2 to x7 should be zero, but OP-TEE leaves them as they were.
        let page = machine.permissions(vcpu.partition, entry & !(PAGE - 1));
        if entry % 4 != 0 || !page.is_some_and(|page| page.execute) {
            return Err(Status::InvalidParameters);
        }
        partition.secondary_entry.store(entry, Ordering::Release);
        Ok(message::success(&[]))
    }

    /// Takes back everything that a failed partition had a hold on.
    pub(crate) fn clean_up_after<M: Machine>(&self, machine: &mut M, partition: PartitionIndex) {
        machine.quiesce(partition);
        self.finish_line(machine, partition);
        self.notifications_after_failure(partition);
        if let Some((state, _)) = self.partition(partition) {
            state.endpoint.mailbox.lock().unmap();
        }
        self.adopt_orphans(partition);
        self.memory_after_failure(machine, partition);
    }

    /// vCPUs that yielded to one of the failed partition's, or that its interrupt took the core from: from now on the normal
    /// world can resume them. Their answers still go to the failed one, that is, nowhere.
    fn adopt_orphans(&self, failed: PartitionIndex) {
        let Some((_, config)) = self.partition(failed) else { return };
        for (index, partition, _) in self.partitions().filter(|(index, ..)| *index != failed) {
            for (n, state) in partition.vcpus.iter().enumerate() {
                let this = VcpuId { partition: index, index: n as u8 };
                // One that its caller is still blocked on gets its end from there.
                let awaited = |by: &Vcpu| by.state() == RunState::Blocked && by.callee() == Some(this);
                let orphan = || matches!(state.caller(), Caller::Partition(vcpu) if vcpu.partition == failed && !awaited(self.vcpu(vcpu).1));
                if !orphan() {
                    continue;
                }
                let tail = self.tail_of_chain(this);
                let (_, tail_state) = self.vcpu(tail);
                // Whoever holds the tail holds the chain.
                let Some(was) = [RunState::Yielded, RunState::Preempted].into_iter().find(|was| tail_state.claim(*was).is_ok()) else { continue };
                if orphan() {
                    state.adopt(Caller::NormalWorld(config.id));
                }
                tail_state.publish(was);
            }
        }
    }
}

/// Whether a partition has a vCPU for this core alone.
fn has_vcpu_for(config: &PartitionConfig, core: usize) -> bool {
    config.vcpus > 1 && core < usize::from(config.vcpus)
}

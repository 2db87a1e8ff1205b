//! An SPMC with partitions and a normal world, for whole conversations in a few lines.

use super::{Actor, Fake, Guest, Part, Script, World};
use crate::machine::{Address, Machine, Permissions};
use crate::memory::Owner;
use crate::partition::{Methods, NormalWorldInterrupts, PowerMessages, Service, VmMessages};
use crate::spmc::Spmc;
use crate::tables::PAGE;
use crate::vcpu::{Caller, RunState, VcpuId};
use crate::{PartitionConfig, PartitionIndex};
use arrayvec::ArrayVec;
use bulkhead_ffa::{EndpointId, Regs, Status, Uuid, Version, function};
use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard};

/// The pages that [`Bench::new`] gives the normal world: two of them for its RX/TX buffers, others free.
pub const NORMAL_MEMORY: u64 = 0x4000_0000;
/// The pages of partition n start at `SECURE_MEMORY + n * PARTITION_MEMORY`.
pub const SECURE_MEMORY: u64 = 0x0e20_0000;
/// Bytes from one partition's memory to the next one's.
pub const PARTITION_MEMORY: u64 = 0x10_0000;
/// Pages of each of them.
pub const PAGES: u64 = 16;
/// All that a partition may do with a page.
pub const ALL: Permissions = Permissions { read: true, write: true, execute: true };

/// An SPMC on the fake machine, as the normal world of one core sees it.
#[derive(Clone)]
pub struct Bench {
    /// The SPMC under test.
    pub spmc: Arc<Spmc>,
    /// The core that the methods act on.
    pub machine: Fake,
    /// Calls take the general path, also those for which there is a faster one.
    pub general: bool,
    /// Not with a guest: what it holds must not keep its own thread alive.
    ends: Option<Arc<Ends>>,
}

/// Ends all guests when the test drops its last [`Bench`].
struct Ends(Arc<Mutex<World>>);

impl Drop for Ends {
    fn drop(&mut self) {
        let mut world = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for vcpu in world.vcpus.iter_mut().flatten() {
            // Its script waits for an entry, and sees that there will be none.
            vcpu.body = None;
        }
    }
}

/// What the manifest of a partition at S-EL1 might say: one vCPU, all messaging methods, notifications.
pub fn s_el1(id: u16) -> PartitionConfig {
    let methods = Methods(Methods::DIRECT_RECEIVE | Methods::DIRECT_SEND | Methods::DIRECT2_RECEIVE | Methods::DIRECT2_SEND);
    PartitionConfig {
        id: EndpointId(id),
        services: ArrayVec::from_iter([Service { uuid: uuid(id), methods }]),
        methods,
        vcpus: 1,
        s_el0: false,
        notifications: true,
        power_messages: PowerMessages::default(),
        vm_messages: VmMessages::default(),
        version: Version::V1_2,
        normal_world_interrupts: NormalWorldInterrupts::Signaled,
        holds_other_secure: false,
        interrupts: ArrayVec::new(),
        priorities: [0; 32],
        routed: 0,
        distributor: false,
        entry: 0x1000,
        boot_argument: 0x2000,
        init_time_limit_ms: 100,
    }
}

/// The same at S-EL0.
pub fn s_el0(id: u16) -> PartitionConfig {
    PartitionConfig { s_el0: true, ..s_el1(id) }
}

/// The service of partition `id`: all bytes differ.
pub fn uuid(id: u16) -> Uuid {
    Uuid(std::array::from_fn(|n| ((n as u8 + 1) * 0x0f) ^ id as u8))
}

impl Bench {
    /// What a guest on core `machine` gets.
    pub(super) fn for_guest(spmc: Arc<Spmc>, machine: Fake) -> Self {
        Self { spmc, machine, general: false, ends: None }
    }

    /// An SPMC without partitions; the normal world has memory and speaks `version`.
    pub fn new(version: Version) -> Self {
        let parts = || (Arc::new(Spmc::new()), Arc::default());
        // They are made on a stack first, for which the tasks of loom have too little.
        let (spmc, world) = if cfg!(feature = "loom") { std::thread::spawn(parts).join().expect("nothing else happens there") } else { parts() };
        let machine = Fake { world, core: 0, latest: None, stopped: None, apart: false };
        let data = Permissions { execute: false, ..ALL };
        machine.world().give(Owner::NormalWorld, NORMAL_MEMORY, PAGES, data, false);
        let ends = Some(Arc::new(Ends(machine.world.clone())));
        let mut bench = Self { spmc, machine, general: false, ends };
        let agreed = bench.version(version);
        assert_eq!(agreed, 0x1_0002);
        bench
    }

    /// Adds a partition; `script` is what its first vCPU does.
    pub fn add(&self, config: PartitionConfig, script: impl FnOnce(&mut Guest) + Send + 'static) -> PartitionIndex {
        let index = self.place(config);
        self.script(index, 0, script);
        index
    }

    /// The same with an actor.
    pub fn cast<F: Future<Output = ()> + Send + 'static>(
        &self,
        config: PartitionConfig,
        script: impl FnOnce(Actor) -> F + Send + 'static,
    ) -> PartitionIndex {
        let index = self.place(config);
        self.part(index, 0, script);
        index
    }

    fn place(&self, config: PartitionConfig) -> PartitionIndex {
        let (id, index) = (config.id, self.spmc.count());
        let memory = SECURE_MEMORY + u64::from(index) * PARTITION_MEMORY;
        self.machine.world().give(Owner::Partition(index), memory, PAGES, ALL, true);
        assert_eq!(self.spmc.add(config), Some(index), "there is room for {id}");
        index
    }

    /// What a vCPU does after its next reset.
    pub fn script(&self, partition: PartitionIndex, index: u8, script: impl FnOnce(&mut Guest) + Send + 'static) {
        self.prepare(partition, index, Part::Guest(Box::new(script)));
    }

    /// The same with an actor.
    pub fn part<F: Future<Output = ()> + Send + 'static>(
        &self,
        partition: PartitionIndex,
        index: u8,
        script: impl FnOnce(Actor) -> F + Send + 'static,
    ) {
        self.prepare(partition, index, Part::Actor(Box::new(move |actor| Box::pin(script(actor)))));
    }

    fn prepare(&self, partition: PartitionIndex, index: u8, run: Part) {
        let id = self.spmc.partition(partition).expect("the partition exists").1.id;
        let script = Script { id, spmc: self.spmc.clone(), run };
        self.machine.world().vcpu(VcpuId { partition, index }).scripts.push_back(script);
    }

    /// Initialises all partitions; returns how many failed.
    pub fn boot(&mut self) -> u8 {
        let failed = self.spmc.initialise(&mut self.machine);
        self.machine.end();
        failed
    }

    /// The same SPMC, as core `core` sees it.
    pub fn on(&self, core: usize) -> Self {
        Self { spmc: self.spmc.clone(), machine: self.machine.on(core), general: self.general, ends: self.ends.clone() }
    }

    /// What cores share.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.machine.world()
    }

    /// A call of the normal world.
    pub fn call(&mut self, x: &[u64]) -> Regs {
        self.call_with(Regs::new(x))
    }

    /// A call of the normal world with all registers given.
    pub fn call_with(&mut self, regs: Regs) -> Regs {
        let mut regs = regs;
        self.machine.begin();
        if self.general {
            self.spmc.general_path(&mut self.machine, &mut regs);
        } else {
            self.spmc.handle_normal_world(&mut self.machine, regs.message(), &mut regs, |answer, regs| regs.set_message(answer));
        }
        self.machine.end();
        regs
    }

    /// FFA_VERSION of the normal world, in the form in which the SPMD passes it on.
    pub fn version(&mut self, version: Version) -> u64 {
        let answer = self.call(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), 0xffff_8000, 0x8000_0008, u64::from(version.0)]);
        assert_eq!(answer.0[..3], [u64::from(function::MSG_SEND_DIRECT_RESP_32), 0x8000_ffff, 0x8000_0009]);
        answer.0[3]
    }

    /// A 32-bit direct request of the normal world's endpoint 0 with a payload from x3 on.
    pub fn request(&mut self, receiver: u16, payload: &[u64]) -> Regs {
        let mut regs = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), u64::from(receiver)]);
        regs.0[3..3 + payload.len()].copy_from_slice(payload);
        self.call_with(regs)
    }

    /// FFA_RUN of the normal world.
    pub fn resume(&mut self, partition: u16, vcpu: u16) -> Regs {
        self.call(&[u64::from(function::RUN), u64::from(partition) << 16 | u64::from(vcpu)])
    }

    /// A secure interrupt while the normal world runs.
    pub fn secure_interrupt(&mut self, interrupt: u32) {
        self.raise(interrupt);
        let answer = self.call(&[u64::from(function::INTERRUPT)]);
        assert_eq!(answer, Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)]));
    }

    /// Makes a secure interrupt pending: the next to be acknowledged.
    pub fn raise(&self, interrupt: u32) {
        self.world().pending.push_back(Some(interrupt));
    }

    /// Makes an interrupt of the SPMC's own pending.
    pub fn raise_own(&self) {
        self.world().pending.push_back(None);
    }

    /// An interrupt of the SPMC's own while the normal world runs.
    pub fn own_interrupt(&mut self) {
        self.raise_own();
        let answer = self.call(&[u64::from(function::INTERRUPT)]);
        assert_eq!(answer, Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)]));
    }

    /// A core comes up.
    pub fn core_on(&mut self) {
        self.spmc.core_on(&mut self.machine);
        self.machine.end();
    }

    /// The SPMD says that the core goes off; returns the PSCI status.
    pub fn core_off(&mut self) -> u64 {
        let answer = self.call(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), 0xffff_8000, 0x8000_0000, 0x8400_0002]);
        assert_eq!(answer.0[..3], [u64::from(function::MSG_SEND_DIRECT_RESP_32), 0x8000_ffff, 0x8000_0002]);
        answer.0[3]
    }

    /// Gives the normal world its first page for RX and its second for TX.
    pub fn map_buffers(&mut self) {
        let map = [u64::from(function::RXTX_MAP_64), NORMAL_MEMORY + PAGE, NORMAL_MEMORY, 1];
        assert_eq!(self.call(&map), Regs::success(&[]));
    }

    /// What must hold whenever no partition runs: no lock is taken, no vCPU lost, every chain has somebody who can end it.
    pub fn assert_at_rest(&self) {
        let spmc = &self.spmc;
        assert!(spmc.normal_world.mailbox.is_free() && spmc.vms.iter().all(|vm| vm.mailbox.is_free()));
        assert!(spmc.notifications.try_lock().is_some() && spmc.memory.try_lock().is_some() && spmc.consoles.try_lock().is_some());
        for (index, partition, _) in spmc.partitions() {
            assert!(partition.endpoint.mailbox.is_free());
            for n in 0..partition.vcpus.len() as u8 {
                let id = VcpuId { partition: index, index: n };
                let (_, state) = spmc.vcpu(id);
                match state.state() {
                    RunState::Running => panic!("{id:?} is lost"),
                    RunState::Blocked => {
                        let callee = spmc.vcpu(state.callee().expect("a blocked vCPU has a callee")).1;
                        assert!(matches!(callee.state(), RunState::Blocked | RunState::Preempted), "{id:?} waits for nothing");
                        assert_eq!(callee.caller(), Caller::Partition(id));
                    }
                    RunState::Preempted => assert!(self.has_resumer(id), "nobody can resume {id:?}"),
                    RunState::Off | RunState::Waiting | RunState::Yielded => {}
                }
            }
        }
    }

    /// Whether somebody can let the chain with this tail go on: the normal world, or a partition that its head was left to, by a
    /// request that returned FFA_INTERRUPT, and that may have talked to others since.
    fn has_resumer(&self, tail: VcpuId) -> bool {
        let mut at = tail;
        loop {
            match self.spmc.vcpu(at).1.caller() {
                Caller::NormalWorld(_) => return true,
                Caller::Partition(caller) => {
                    let (partition, state) = self.spmc.vcpu(caller);
                    if state.state() != RunState::Blocked || state.callee() != Some(at) {
                        return !partition.has_failed();
                    }
                    at = caller;
                }
                _ => return false,
            }
        }
    }

    /// Bytes of the normal world's RX buffer as [`Self::map_buffers`] placed it.
    pub fn rx<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.machine.read(Address { pa: NORMAL_MEMORY + offset, secure: false }, &mut bytes).expect("RX is memory");
        bytes
    }
}

/// What an FFA_ERROR looks like.
pub fn error(status: Status) -> Regs {
    Regs::error(status)
}

/// FFA_ERROR with INVALID_PARAMETERS.
pub fn invalid() -> Regs {
    error(Status::InvalidParameters)
}

/// FFA_ERROR with DENIED.
pub fn denied() -> Regs {
    error(Status::Denied)
}

/// FFA_SUCCESS without results.
pub fn ok() -> Regs {
    Regs::success(&[])
}

//! A machine in plain memory, in which whole FF-A conversations run as host tests.
//!
//! A partition's vCPU is a closure on a thread of its own that makes calls through its [`Guest`]; the thread runs only while
//! [`Machine::run`] waits for it, so a test is deterministic. An [`Actor`] is the same without a thread. [`Bench`] is an SPMC with such partitions and a normal world.
//! Invariants of the real machine are checked: no vCPU runs on two cores, and none moves to another core before its
//! state is in memory.

mod actor;
mod bench;
mod guest;

pub use actor::Actor;
pub use bench::*;
pub use guest::Guest;

use crate::fault::{Fault, FaultKind};
use crate::machine::{AccessFault, Address, Exit, Machine, Permissions};
use crate::memory::{Holding, Holdings, MemoryType, OutOfMemory, Owner, PageState, PageTables};
use crate::spmc::Spmc;
use crate::tables::PAGE;
use crate::vcpu::VcpuId;
use crate::{MAX_CORES, MAX_PARTITIONS};
use actor::{Play, Scenario};
use bulkhead_ffa::{EndpointId, Message, Regs, Status, function};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::string::{String, ToString};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::vec::Vec;

/// Something that the SPMC had the machine do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line was printed.
    Print(Option<u8>, String),
    /// The schedule receiver interrupt was raised on this core.
    ScheduleReceiver(usize),
    /// This core went to the normal world.
    Left(usize),
    /// A fault was reported.
    Fault(VcpuId, Fault),
    /// A partition was cut off from devices and interrupts.
    Quiesced(u8),
    /// An interrupt was enabled or disabled.
    Enabled(u32, bool),
    /// An interrupt was deactivated.
    Deactivated(u32),
    /// This core was made to stop for a moment.
    Interrupted(usize),
    /// An interrupt was sent to a core.
    Routed(u32, usize),
    /// An interrupt was made secure or not.
    Security(u32, bool),
    /// The time limit was stopped, and went on with what was left.
    TimeLimitStopped,
    /// See there.
    TimeLimitResumed(u64),
    /// The time limit was set.
    TimeLimit(Option<u32>),
}

/// What a vCPU does from a reset on, and where.
struct Script {
    id: EndpointId,
    spmc: Arc<Spmc>,
    run: Part,
}

/// Who plays it.
enum Part {
    Guest(Box<dyn FnOnce(&mut Guest) + Send>),
    Actor(Scenario),
}

/// What a guest gets when its vCPU runs.
#[derive(Clone, Copy, Default)]
struct Entry {
    regs: Regs,
    core: usize,
    irq: bool,
    fiq: bool,
    held: bool,
}

struct Thread {
    enter: Sender<Entry>,
    exit: Receiver<(Regs, Exit)>,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Lets the guest run until it stops.
    fn run(self, vcpu: VcpuId, entry: Entry) -> (Body, Regs, Exit) {
        let answer = self.enter.send(entry).ok().and_then(|()| self.exit.recv().ok());
        match answer {
            Some((regs, exit)) => (Body::Thread(self), regs, exit),
            None => match self.handle.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => panic!("{vcpu:?} was entered after the end of its script"),
            },
        }
    }
}

/// A guest that has begun.
enum Body {
    Thread(Thread),
    Play(Play),
}

#[derive(Default)]
struct Vcpu {
    regs: Regs,
    irq: bool,
    fiq: bool,
    /// The core that holds part of its state.
    resident: Option<usize>,
    running: bool,
    /// How often it was entered after the end of its partition.
    late: u8,
    /// What it runs after each reset, the next one first.
    scripts: VecDeque<Script>,
    body: Option<Body>,
}

/// Uses of the machine that one call may come to, from the caller's entry to the next entry of a partition or of the normal
/// world; each range of a memory transaction may add four.
const WORK_OF_A_CALL: usize = 128;

/// What the SPMC has done for the call that it is at on one core.
#[derive(Clone, Default)]
struct Work {
    /// It is at one.
    busy: bool,
    uses: usize,
    /// Guest memory that it has read: nothing is read twice, so that nobody can change it in between.
    read: Vec<(Address, usize)>,
}

/// What cores share.
#[derive(Default)]
pub struct World {
    work: [Work; MAX_CORES],
    /// Uses beyond [`WORK_OF_A_CALL`] that a test allows.
    pub more_work: usize,
    vcpus: [[Vcpu; MAX_CORES]; MAX_PARTITIONS],
    memory: BTreeMap<(bool, u64), Vec<u8>>,
    holdings: BTreeMap<(u8, u64), Holding>,
    /// `None`: the SPMC's own.
    pending: VecDeque<Option<u32>>,
    held: [bool; MAX_CORES],
    time: u64,
    /// The physical counter.
    pub ticks: u64,
    /// When each core's own timer fires.
    pub alarms: [Option<u64>; MAX_CORES],
    /// The time limit has been reached.
    pub time_is_up: bool,
    /// No page is left for tables.
    pub tables_spent: bool,
    /// Changes of holdings until one fails half-way for want of a table.
    pub changes_left: Option<u64>,
    /// Blocks that can be parted until there is no table for another; `None`: nobody has any.
    pub parts_left: Option<u64>,
    /// Pages that translations may still lead a holder to, with or without a holding.
    reachable: BTreeSet<(u8, u64)>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
    /// With what each vCPU was entered, oldest first: registers, virtual IRQ and FIQ lines, held interrupts. If wanted.
    pub entries: Option<Vec<(VcpuId, Regs, [bool; 3])>>,
}

/// One core of the machine.
#[derive(Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    core: usize,
    /// The registers that the SPMC works on at present, and whose they are.
    latest: Option<(VcpuId, Regs)>,
    /// Why the vCPU stopped that `enter` ran, where that was not for a call.
    stopped: Option<Exit>,
    /// It is a guest's, or a test's own: what is done with it is no work of a call.
    apart: bool,
}

impl Fake {
    /// What cores share.
    pub fn world(&self) -> MutexGuard<'_, World> {
        elsewhere();
        // A test that failed while it held the world has said so already.
        let mut world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let world_now = &mut *world;
        let work = &mut world_now.work[self.core];
        if work.busy && !self.apart {
            work.uses += 1;
            assert!(work.uses <= WORK_OF_A_CALL + world_now.more_work, "one call uses the machine without end");
        }
        world
    }

    /// The SPMC begins to work for a call.
    pub fn begin(&self) {
        self.world().work[self.core] = Work { busy: true, ..Work::default() };
    }

    /// Whoever called goes on.
    pub fn end(&self) {
        self.world().work[self.core] = Work::default();
    }

    /// The same machine, as core `core` sees it.
    pub fn on(&self, core: usize) -> Self {
        Self { world: self.world.clone(), core, latest: None, stopped: None, apart: false }
    }

    /// Puts the registers at hand where other cores see them.
    fn write_back(&mut self) {
        if let Some((vcpu, regs)) = self.latest.take() {
            self.world().vcpu(vcpu).regs = regs;
        }
    }
}

impl World {
    fn vcpu(&mut self, id: VcpuId) -> &mut Vcpu {
        &mut self.vcpus[usize::from(id.partition)][usize::from(id.index)]
    }

    /// Makes RAM out of `pages` pages, and gives them to `owner`.
    pub fn give(&mut self, owner: Owner, page: u64, pages: u64, permissions: Permissions, secure: bool) {
        for n in 0..pages {
            let page = page + n * PAGE;
            self.memory.insert((secure, page), std::vec![0; PAGE as usize]);
            let holding = Holding { state: PageState::Owned, permissions, secure, memory_type: MemoryType::Normal };
            self.hold((key(owner), page), Some(holding));
        }
    }

    /// Checks that nobody gets a page while another one's exclusive access is not gone on all cores, nor alone what another has.
    fn assert_free(&self, place: (u8, u64), holding: Holding) {
        if holding.state != PageState::Lent {
            for other in (0..MAX_PARTITIONS as u8).chain([u8::MAX]).map(|holder| (holder, place.1)).filter(|other| *other != place && self.reachable.contains(other)) {
                let theirs = self.holdings.get(&other).map(|theirs| theirs.state);
                let together = [Some(holding.state), theirs].iter().all(|state| matches!(state, Some(PageState::Shared | PageState::Borrowed)));
                assert!(together, "{place:x?} gets {holding:?} while {other:x?} has access: {theirs:?}");
            }
        }
    }

    fn hold(&mut self, place: (u8, u64), holding: Option<Holding>) {
        match holding {
            Some(holding) => drop(self.holdings.insert(place, holding)),
            None => drop(self.holdings.remove(&place)),
        }
        // Access that is given works at once; that which is taken is gone after a flush.
        if self.allows(place) {
            self.reachable.insert(place);
        }
    }

    fn allows(&self, place: (u8, u64)) -> bool {
        self.holdings.get(&place).is_some_and(|holding| holding.state != PageState::Lent)
    }

    /// All holdings, by holder and page; the normal world comes last.
    pub fn holdings(&self) -> &BTreeMap<(u8, u64), Holding> {
        &self.holdings
    }

    /// Checks that no translation leads where the tables do not.
    pub fn assert_flushed(&self) {
        let stale: Vec<_> = self.reachable.iter().filter(|place| !self.allows(**place)).collect();
        assert!(stale.is_empty(), "access outlives its holding: {stale:x?}");
    }

    /// Makes the bus refuse a page.
    pub fn remove_memory(&mut self, page: u64, secure: bool) {
        self.memory.remove(&(secure, page));
    }

    /// Changes what `owner` has at `page`.
    pub fn change(&mut self, owner: Owner, page: u64, change: impl FnOnce(&mut Holding)) {
        change(self.holdings.get_mut(&(key(owner), page)).expect("the page is the owner's"));
    }

    /// The lines that were printed, as `partition: text` or, the SPMC's own, `text`.
    pub fn printed(&self) -> Vec<String> {
        let line = |event: &Event| match event {
            Event::Print(None, line) => Some(line.clone()),
            Event::Print(Some(partition), line) => Some(std::format!("{partition}: {line}")),
            _ => None,
        };
        self.events.iter().filter_map(line).collect()
    }

    /// Whether the vCPU's virtual IRQ line was up when it was last set.
    pub fn virtual_irq(&mut self, vcpu: VcpuId) -> bool {
        self.vcpu(vcpu).irq
    }

    /// Whether this happened.
    pub fn saw(&self, event: &Event) -> bool {
        self.events.contains(event)
    }
}

/// Other cores may get on meanwhile.
fn elsewhere() {
    #[cfg(feature = "shuttle")]
    shuttle::thread::sleep(std::time::Duration::ZERO);
}

/// What `id` answers to the direct request `request`, with a payload from x3 (or, for REQ2, x4) on.
fn response(id: EndpointId, request: &Regs, payload: &[u64]) -> Regs {
    let answer = match request.function() {
        function::MSG_SEND_DIRECT_REQ_32 => function::MSG_SEND_DIRECT_RESP_32,
        function::MSG_SEND_DIRECT_REQ_64 => function::MSG_SEND_DIRECT_RESP_64,
        function::MSG_SEND_DIRECT_REQ2 => function::MSG_SEND_DIRECT_RESP2,
        other => panic!("{other:#x} is not a direct request"),
    };
    let mut regs = Regs::new(&[u64::from(answer), u64::from(id.0) << 16 | u64::from(request.w(1) >> 16)]);
    let first = if answer == function::MSG_SEND_DIRECT_RESP2 { 4 } else { 3 };
    regs.0[first..first + payload.len()].copy_from_slice(payload);
    regs
}

fn key(owner: Owner) -> u8 {
    match owner {
        Owner::NormalWorld => u8::MAX,
        Owner::Partition(index) => index,
    }
}

/// What one holder has.
struct Tables<'a> {
    machine: &'a Fake,
    holder: u8,
}

impl Holdings for Tables<'_> {
    fn at(&mut self, page: u64, pages: u64) -> (Option<Holding>, u64) {
        let world = self.machine.world();
        let at = |n: u64| world.holdings.get(&(self.holder, page + n * PAGE)).copied();
        let first = at(0);
        // Real tables count no further than one of them reaches.
        let same = (1..pages.min(7)).take_while(|n| at(*n) == first).count() as u64;
        (first, 1 + same)
    }

    fn add(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), Status> {
        if (0..pages).any(|n| self.machine.world().holdings.contains_key(&(self.holder, page + n * PAGE))) {
            return Err(Status::Denied);
        }
        let result = self.set(page, pages, holding);
        if result.is_err() {
            self.clear(page, pages, holding.secure);
        }
        Ok(result?)
    }

    fn set(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), OutOfMemory> {
        let mut world = self.machine.world();
        // A page that its holder has, and that is exclusively its own again, was so before: that needs no table.
        let counts = holding.state != PageState::Owned || !world.holdings.contains_key(&(self.holder, page));
        let fails = counts && world.changes_left == Some(0);
        if counts {
            world.changes_left = world.changes_left.and_then(|left| left.checked_sub(1));
        }
        for n in 0..if fails { pages / 2 } else { pages } {
            let place = (self.holder, page + n * PAGE);
            if world.tables_spent && !world.holdings.contains_key(&place) {
                return Err(OutOfMemory);
            }
            world.assert_free(place, holding);
            world.hold(place, Some(holding));
        }
        if fails { Err(OutOfMemory) } else { Ok(()) }
    }

    fn clear(&mut self, page: u64, pages: u64, secure: bool) {
        let mut world = self.machine.world();
        for n in 0..pages {
            let place = (self.holder, page + n * PAGE);
            let there = world.holdings.get(&place);
            assert!(there.is_none_or(|held| held.secure == secure && held.state != PageState::Owned), "{place:x?}: {there:?} is not to be cleared");
            world.hold(place, None);
        }
    }

    fn is_joined(&self) -> bool {
        self.machine.world().parts_left.is_some()
    }

    fn part(&mut self, _: u64, _: u64, _: bool) -> Result<(), OutOfMemory> {
        let mut world = self.machine.world();
        let left = world.parts_left.and_then(|left| left.checked_sub(1));
        world.parts_left = left.or(world.parts_left);
        left.map(|_| ()).ok_or(OutOfMemory)
    }

    fn take_back(&mut self, page: u64, pages: u64) {
        let mut world = self.machine.world();
        for n in 0..pages {
            let place = (self.holder, page + n * PAGE);
            if let Some(held) = world.holdings.get(&place).copied() {
                let owned = Holding { state: PageState::Owned, ..held };
                world.assert_free(place, owned);
                world.hold(place, Some(owned));
            }
        }
    }

    fn flush(&mut self) {
        let mut world = self.machine.world();
        let world = &mut *world;
        let holdings = &world.holdings;
        let allowed = |place: &(u8, u64)| holdings.get(place).is_some_and(|holding: &Holding| holding.state != PageState::Lent);
        world.reachable.retain(|place| place.0 != self.holder || allowed(place));
    }
}

impl PageTables for Fake {
    fn holdings(&mut self, owner: Owner, work: &mut dyn FnMut(&mut dyn Holdings)) {
        work(&mut Tables { machine: self, holder: key(owner) });
    }

    fn zero(&mut self, start: Address, pages: u64) -> Result<(), AccessFault> {
        for n in 0..pages {
            self.write(Address { pa: start.pa + n * PAGE, ..start }, &[0; PAGE as usize])?;
        }
        Ok(())
    }
}

impl Machine for Fake {
    fn core(&self) -> usize {
        self.core
    }

    fn run(&mut self, vcpu: VcpuId) -> Exit {
        self.write_back();
        self.end();
        let (body, entry) = {
            let mut world = self.world();
            let held = world.held[self.core];
            let ended = world.saw(&Event::Quiesced(vcpu.partition));
            let state = world.vcpu(vcpu);
            // A core may be just about to enter it when another one ends the partition, but not twice.
            state.late += u8::from(ended);
            assert!(state.late < 2, "{vcpu:?} runs on after the end of its partition");
            assert!(!state.running, "{vcpu:?} runs on two cores");
            assert!(state.resident.is_none_or(|core| core == self.core), "{vcpu:?} moved before its state was in memory");
            state.running = true;
            let entry = (vcpu, state.regs, [state.irq, state.fiq, held]);
            state.resident = Some(self.core);
            let body = state.body.take().expect("only a vCPU that was reset runs");
            let entered = Entry { regs: state.regs, core: self.core, irq: state.irq, fiq: state.fiq, held };
            if let Some(entries) = world.entries.as_mut() {
                entries.push(entry);
            }
            (body, entered)
        };
        elsewhere();
        let (body, regs, exit) = match body {
            Body::Thread(thread) => thread.run(vcpu, entry),
            Body::Play(mut play) => {
                let (regs, exit) = play.run(entry);
                (Body::Play(play), regs, exit)
            }
        };
        elsewhere();
        self.begin();
        let mut world = self.world();
        let state = world.vcpu(vcpu);
        state.running = false;
        state.regs = regs;
        state.body = Some(body);
        exit
    }

    fn regs(&mut self, vcpu: VcpuId) -> &mut Regs {
        if self.latest.is_none_or(|(other, _)| other != vcpu) {
            self.write_back();
            let regs = self.world().vcpu(vcpu).regs;
            self.latest = Some((vcpu, regs));
        }
        &mut self.latest.as_mut().expect("just set").1
    }

    type Context = VcpuId;

    fn context(&self, vcpu: VcpuId) -> VcpuId {
        vcpu
    }

    fn regs_in(&mut self, context: VcpuId) -> &mut Regs {
        self.regs(context)
    }

    fn last_message(&mut self, context: VcpuId) -> Message {
        // Nothing of it stays at hand, to be put over what another core writes.
        self.write_back();
        self.world().vcpu(context).regs.message()
    }

    fn enter(&mut self, vcpu: VcpuId) -> bool {
        self.set_virtual_lines(vcpu, false, false);
        let exit = self.run(vcpu);
        self.stopped = Some(exit).filter(|exit| *exit != Exit::Call);
        self.stopped.is_none()
    }

    fn enter_again(&mut self, vcpu: VcpuId) -> bool {
        self.enter(vcpu)
    }

    fn why_stopped(&mut self, _: VcpuId) -> Exit {
        self.stopped.take().expect("a vCPU that has just stopped")
    }

    fn leave(&mut self, _: VcpuId) {
        self.leave_to_normal_world();
    }

    fn reset_vcpu(&mut self, vcpu: VcpuId, entry: u64, x0: u64) {
        self.write_back();
        let core = self.core;
        let world = self.world.clone();
        let mut this = self.world();
        let state = this.vcpu(vcpu);
        state.regs = Regs::new(&[x0]);
        state.resident = Some(core);
        let Some(script) = state.scripts.pop_front() else { panic!("{vcpu:?} has no script for this reset") };
        let bench = Bench::for_guest(script.spmc, Fake { world, core, latest: None, stopped: None, apart: true });
        let run = match script.run {
            Part::Actor(scenario) => {
                state.body = Some(Body::Play(Play::new(scenario, script.id, entry, bench)));
                return;
            }
            Part::Guest(run) => run,
        };
        let (enter, entries) = channel::<Entry>();
        let (exits, exit) = channel();
        let handle = std::thread::spawn(move || {
            let Ok(first) = entries.recv() else { return };
            let mut guest = Guest { enter: entries, exit: exits, last: first, entry, id: script.id, bench };
            run(&mut guest);
            // What has nothing more to say waits; nobody may have anything to say to it.
            let message = guest.wait();
            panic!("{} got {message:x?} after the end of its script", guest.id);
        });
        state.body = Some(Body::Thread(Thread { enter, exit, handle }));
    }

    fn park(&mut self, vcpu: VcpuId) {
        self.write_back();
        self.world().vcpu(vcpu).resident = None;
    }

    fn leave_to_normal_world(&mut self) {
        self.write_back();
        let core = self.core;
        let mut world = self.world();
        for state in world.vcpus.iter_mut().flatten() {
            if state.resident == Some(core) {
                state.resident = None;
            }
        }
        world.events.push(Event::Left(core));
    }

    fn set_virtual_lines(&mut self, vcpu: VcpuId, irq: bool, fiq: bool) {
        let mut world = self.world();
        let vcpu = world.vcpu(vcpu);
        (vcpu.irq, vcpu.fiq) = (irq, fiq);
    }

    fn mask_normal_world_interrupts(&mut self, mask: bool) -> bool {
        let core = self.core;
        std::mem::replace(&mut self.world().held[core], mask)
    }

    fn read(&mut self, from: Address, out: &mut [u8]) -> Result<(), AccessFault> {
        let mut world = self.world();
        let work = &mut world.work[self.core];
        if work.busy && !self.apart {
            let overlaps = |(at, length): &(Address, usize)| at.secure == from.secure && at.pa < from.pa + out.len() as u64 && from.pa < at.pa + *length as u64;
            assert!(!work.read.iter().any(overlaps), "{from:x?} is read twice in one call");
            work.read.push((from, out.len()));
        }
        for (n, byte) in out.iter_mut().enumerate() {
            let pa = from.pa + n as u64;
            *byte = world.memory.get(&(from.secure, pa & !(PAGE - 1))).ok_or(AccessFault)?[(pa % PAGE) as usize];
        }
        Ok(())
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), AccessFault> {
        let mut world = self.world();
        for (n, byte) in data.iter().enumerate() {
            let pa = to.pa + n as u64;
            world.memory.get_mut(&(to.secure, pa & !(PAGE - 1))).ok_or(AccessFault)?[(pa % PAGE) as usize] = *byte;
        }
        Ok(())
    }

    fn acknowledge_interrupt(&mut self) -> Option<u32> {
        self.world().pending.pop_front().flatten()
    }

    fn deactivate_interrupt(&mut self, interrupt: u32) {
        self.world().events.push(Event::Deactivated(interrupt));
    }

    fn enable_interrupt(&mut self, interrupt: u32, enable: bool) {
        self.world().events.push(Event::Enabled(interrupt, enable));
    }

    fn route_interrupt(&mut self, interrupt: u32, core: usize) -> bool {
        self.world().events.push(Event::Routed(interrupt, core));
        true
    }

    fn set_interrupt_security(&mut self, interrupt: u32, secure: bool) {
        self.world().events.push(Event::Security(interrupt, secure));
    }

    fn set_general(&mut self, vcpu: VcpuId, register: u8, value: u64) {
        self.regs(vcpu).0[usize::from(register)] = value;
    }

    fn ticks(&self) -> u64 {
        self.world().ticks
    }

    fn set_alarm(&mut self, deadline: Option<u64>) {
        let core = self.core;
        self.world().alarms[core] = deadline;
    }

    fn interrupt_core(&mut self, core: usize) {
        assert_ne!(core, self.core, "a core does not interrupt itself");
        self.world().events.push(Event::Interrupted(core));
    }

    fn time_limit_reached(&mut self) -> bool {
        self.world().time_is_up
    }

    fn time_limit_fault(&mut self, _vcpu: VcpuId) -> Fault {
        Fault { kind: FaultKind::TimeLimit, pc: 0x2000, esr: 0, address: None }
    }

    fn set_time_limit(&mut self, milliseconds: Option<u32>) {
        let mut world = self.world();
        world.time_is_up = false;
        world.events.push(Event::TimeLimit(milliseconds));
    }

    fn stop_time_limit(&mut self) -> u64 {
        let mut world = self.world();
        world.events.push(Event::TimeLimitStopped);
        // Another value each time.
        1000 + world.events.iter().filter(|event| **event == Event::TimeLimitStopped).count() as u64
    }

    fn resume_time_limit(&mut self, left: u64) {
        self.world().events.push(Event::TimeLimitResumed(left));
    }

    fn milliseconds(&self) -> Option<u64> {
        let mut world = self.world();
        world.time += 1;
        Some(world.time)
    }

    fn raise_schedule_receiver(&mut self) {
        let core = self.core;
        self.world().events.push(Event::ScheduleReceiver(core));
    }

    fn permissions(&mut self, partition: u8, page: u64) -> Option<Permissions> {
        self.holding(Owner::Partition(partition), page).map(|holding| holding.permissions)
    }

    fn may_set_permissions(&mut self, partition: u8, page: u64) -> bool {
        self.holding(Owner::Partition(partition), page).is_some_and(|holding| holding.memory_type == MemoryType::Normal)
    }

    fn set_permissions(&mut self, partition: u8, page: u64, pages: u64, permissions: Permissions) -> Result<(), OutOfMemory> {
        let mut world = self.world();
        if world.tables_spent {
            return Err(OutOfMemory);
        }
        for n in 0..pages {
            world.change(Owner::Partition(partition), page + n * PAGE, |holding| holding.permissions = permissions);
        }
        Ok(())
    }

    fn report_fault(&mut self, vcpu: VcpuId, fault: &Fault) {
        self.world().events.push(Event::Fault(vcpu, *fault));
    }

    fn quiesce(&mut self, partition: u8) {
        self.world().events.push(Event::Quiesced(partition));
    }

    fn print(&mut self, partition: Option<u8>, line: &str) {
        self.world().events.push(Event::Print(partition, line.to_string()));
    }
}

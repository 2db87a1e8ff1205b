//! Who runs, and what everybody gets to see (DEN0077A v1.2 chapters 7, 8, 14 and 15): direct requests, their answers, FFA_RUN,
//! FFA_YIELD, FFA_MSG_WAIT, preemption and failures, in chains of four partitions on two cores.
//!
//! The partitions are actors: whenever one is entered, it asks the model whether that was to happen, and what to do next.

use super::{Wrong, cases};
use crate::PartitionConfig;
use crate::fake::{Actor, Bench, PARTITION_MEMORY, SECURE_MEMORY, s_el1, uuid};
use crate::machine::Exit;
use crate::partition::Methods;
use bulkhead_ffa::{Regs, Status, Version, function};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// Partitions by number; the third has a vCPU for each of two cores, the fourth only receives, and not REQ2.
const IDS: [u16; 4] = [0x8001, 0x8002, 0x8003, 0x8004];
const EACH_CORE: usize = 2;
const RECEIVER: usize = 3;

/// A partition's number, and the vCPU's.
type Vcpu = (usize, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Direct32,
    Direct64,
    Direct2,
}

impl Kind {
    fn request(self) -> u64 {
        u64::from(match self {
            Self::Direct32 => function::MSG_SEND_DIRECT_REQ_32,
            Self::Direct64 => function::MSG_SEND_DIRECT_REQ_64,
            Self::Direct2 => function::MSG_SEND_DIRECT_REQ2,
        })
    }

    fn response(self) -> u64 {
        u64::from(match self {
            Self::Direct32 => function::MSG_SEND_DIRECT_RESP_32,
            Self::Direct64 => function::MSG_SEND_DIRECT_RESP_64,
            Self::Direct2 => function::MSG_SEND_DIRECT_RESP2,
        })
    }

    /// A message with `seed` in its payload, as it is sent and as it arrives.
    fn message(self, id: u64, ends: u64, service: [u64; 2], seed: u64) -> (Regs, Regs) {
        let mut sent = Regs::new(&[id, ends]);
        for n in 2..18 {
            sent.0[n] = seed.rotate_left(n as u32) | 1 << 40;
        }
        let mut arrives = sent;
        if self == Self::Direct2 {
            // x2 and x3 name the service.
            (sent.0[2], sent.0[3]) = (service[0], service[1]);
            arrives = sent;
        } else {
            sent.0[2] = 0;
            arrives.0[2] = 0;
            arrives.0[8..].fill(0);
            if self == Self::Direct32 {
                arrives.0.iter_mut().for_each(|x| *x &= 0xffff_ffff);
            }
        }
        (sent, arrives)
    }
}

/// What a partition does in its turn.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers a request, or waits where there is none.
    Finish,
    Wait,
    Respond { kind: Kind, to: Option<u16>, seed: u64 },
    Request { kind: Kind, to: u16, seed: u64 },
    Run { id: u16, vcpu: u16 },
    Yield,
    Error { code: u32 },
    Preempted,
    Crash,
}

/// What the normal world does next, on which core; then what the partitions do meanwhile.
#[derive(Clone, Debug)]
struct Event {
    core: usize,
    call: Call,
    acts: Vec<Act>,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Request { kind: Kind, from: u16, to: u16, reserved: u64, service: u8, seed: u64 },
    Run { id: u16, vcpu: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Blocked(Vcpu),
    Preempted,
    Yielded,
    /// Its partition has failed.
    Over,
}

/// Who gets a vCPU's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    World(u16),
    Partition(Vcpu),
    /// A failed partition, with this identity: the normal world may let the vCPU go on, and gets ABORTED at its end.
    Failed(u16),
}

#[derive(Clone, Copy, Debug)]
struct Conversation {
    state: State,
    caller: Caller,
    /// The direct request that is processed.
    request: Option<Kind>,
    /// The registers when it stopped.
    regs: Regs,
}

struct Model {
    vcpus: BTreeMap<Vcpu, Conversation>,
    failed: [bool; IDS.len()],
    core: usize,
    running: Option<Vcpu>,
    /// What the vCPU that runs, or at the end the normal world, has to find in its first registers, and how many.
    expected: (Regs, usize),
    acts: VecDeque<Act>,
}

fn of(id: u16) -> Option<usize> {
    IDS.iter().position(|own| *own == id)
}

fn on(partition: usize, core: usize) -> Vcpu {
    (partition, if partition == EACH_CORE { core } else { 0 })
}

fn is_pinned_elsewhere(vcpu: Vcpu, core: usize) -> bool {
    vcpu.0 == EACH_CORE && vcpu.1 != core
}

fn info(vcpu: Vcpu) -> u64 {
    u64::from(IDS[vcpu.0]) << 16 | vcpu.1 as u64
}

fn error(status: Status) -> (Regs, usize) {
    (Regs::error(status), 8)
}

impl Model {
    fn new() -> Self {
        let idle = Conversation { state: State::Waiting, caller: Caller::World(0), request: None, regs: Regs::default() };
        let vcpus = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0)].map(|vcpu| (vcpu, idle)).into();
        Self { vcpus, failed: [false; IDS.len()], core: 0, running: None, expected: (Regs::default(), 0), acts: VecDeque::new() }
    }

    fn at(&mut self, vcpu: Vcpu) -> &mut Conversation {
        self.vcpus.get_mut(&vcpu).expect("it exists")
    }

    /// Lets a vCPU run on with these registers; one whose partition has failed ends instead.
    fn give(&mut self, vcpu: Vcpu, expected: (Regs, usize)) {
        if self.failed[vcpu.0] {
            self.at(vcpu).state = State::Over;
            let caller = self.at(vcpu).caller;
            return self.answer(caller, error(Status::Aborted));
        }
        self.at(vcpu).state = State::Running;
        (self.running, self.expected) = (Some(vcpu), expected);
    }

    /// The end of a conversation reaches whoever waits for it.
    fn answer(&mut self, caller: Caller, reply: (Regs, usize)) {
        match caller {
            Caller::Partition(vcpu) => self.give(vcpu, reply),
            Caller::World(_) => (self.running, self.expected) = (None, reply),
            Caller::Failed(_) => (self.running, self.expected) = (None, error(Status::Aborted)),
        }
    }

    /// What is wrong with a direct request, whoever makes it.
    fn request(&self, wrong: &mut Wrong, kind: Kind, to: u16, service: u8, by: Option<Vcpu>) {
        let Some(receiver) = of(to) else {
            wrong.when(true, Status::InvalidParameters);
            return;
        };
        // 0 names no service, 1 the receiver's.
        wrong.when(kind == Kind::Direct2 && service > 1, Status::InvalidParameters);
        wrong.when(kind == Kind::Direct2 && receiver == RECEIVER, Status::Denied);
        let target = self.vcpus[&on(receiver, self.core)];
        // One that was only run and waits for who asks now will never be ready: that is no matter of time.
        let cycle = target.request.is_none() && by.is_some_and(|by| self.waits_for(target.state, by));
        let waits = target.state == State::Waiting;
        let why_not = if cycle { Status::Denied } else { Status::Busy };
        wrong.when(self.failed[receiver], Status::Aborted).when(!waits && !self.failed[receiver], why_not);
    }

    fn waits_for(&self, mut state: State, callee: Vcpu) -> bool {
        while let State::Blocked(next) = state {
            if next == callee {
                return true;
            }
            state = self.vcpus[&next].state;
        }
        false
    }

    fn begin(&mut self, kind: Kind, to: u16, caller: Caller, arrives: Regs) {
        let target = on(of(to).expect("it was found"), self.core);
        *self.at(target) = Conversation { state: State::Running, caller, request: Some(kind), regs: arrives };
        (self.running, self.expected) = (Some(target), (arrives, if kind == Kind::Direct2 { 18 } else { 8 }));
    }

    /// The normal world's call: what it is and what is wrong with it. If nothing is, somebody runs.
    fn call(&mut self, call: Call) -> (Regs, Wrong) {
        let mut wrong = Wrong::default();
        match call {
            Call::Request { kind, from, to, reserved, service, seed } => {
                let uuid = match service {
                    0 => [0, 0],
                    1 => uuid(to).doublewords(),
                    _ => uuid(to ^ 1).doublewords(),
                };
                let ends = u64::from(from) << 16 | u64::from(to);
                let (mut sent, arrives) = kind.message(kind.request(), ends, uuid, seed);
                if kind != Kind::Direct2 {
                    sent.0[2] = reserved;
                    wrong.when(reserved != 0, Status::InvalidParameters);
                }
                wrong.when(from & 0x8000 != 0, Status::InvalidParameters);
                self.request(&mut wrong, kind, to, service, None);
                if wrong.0.is_empty() {
                    self.begin(kind, to, Caller::World(from), arrives);
                }
                (sent, wrong)
            }
            Call::Run { id, vcpu } => {
                let regs = Regs::new(&[u64::from(function::RUN), u64::from(id) << 16 | u64::from(vcpu)]);
                self.resume(&mut wrong, id, vcpu);
                (regs, wrong)
            }
        }
    }

    /// FFA_RUN of the normal world.
    fn resume(&mut self, wrong: &mut Wrong, id: u16, index: u16) {
        let Some(head) = of(id).map(|partition| (partition, usize::from(index))).filter(|vcpu| self.vcpus.contains_key(vcpu)) else {
            wrong.when(true, Status::InvalidParameters);
            return;
        };
        let pinned_elsewhere = |vcpu: Vcpu| is_pinned_elsewhere(vcpu, self.core);
        let Conversation { state, caller, regs, .. } = self.vcpus[&head];
        wrong.when(pinned_elsewhere(head), Status::InvalidParameters);
        let over = matches!(state, State::Over) || state == State::Waiting && self.failed[head.0];
        let theirs = matches!(state, State::Blocked(_) | State::Preempted | State::Yielded) && matches!(caller, Caller::Partition(_));
        wrong.when(over, Status::Aborted).when(theirs, Status::Denied).when(theirs && self.failed[head.0], Status::Aborted);
        let mut tail = head;
        while let State::Blocked(callee) = self.vcpus[&tail].state {
            tail = callee;
        }
        // A chain goes on where all of it may run.
        let mut at = head;
        let mut elsewhere = pinned_elsewhere(at);
        while let State::Blocked(callee) = self.vcpus[&at].state {
            at = callee;
            elsewhere |= pinned_elsewhere(at);
        }
        wrong.when(elsewhere, Status::Denied);
        if !wrong.0.is_empty() {
            return;
        }
        match state {
            State::Waiting => {
                *self.at(head) = Conversation { state: State::Running, caller: Caller::World(0), request: None, regs };
                (self.running, self.expected) = (Some(head), (Regs::new(&[u64::from(function::RUN), info(head)]), 8));
            }
            State::Yielded => self.give(head, (Regs::success(&[]), 8)),
            _ => {
                let seen = self.vcpus[&tail].regs;
                self.give(tail, (seen, 18));
            }
        }
    }

    /// A vCPU was entered: checks that it was to be, and says what it does, which has its effect in the model at once.
    fn entered(&mut self, vcpu: Vcpu, core: usize, regs: Regs) -> Turn {
        assert_eq!(self.running, Some(vcpu), "{vcpu:?} runs out of turn");
        assert_eq!(core, self.core);
        assert!(vcpu.0 != EACH_CORE || vcpu.1 == core, "{vcpu:?} is pinned to its core");
        let (expected, count) = self.expected;
        assert_eq!(regs.0[..count], expected.0[..count], "{vcpu:?} finds the wrong registers: {regs:x?}, not {expected:x?}");
        self.at(vcpu).regs = regs;
        let act = self.acts.pop_front().unwrap_or(Act::Finish);
        let Conversation { caller, request, .. } = self.vcpus[&vcpu];
        let requester = match caller {
            Caller::World(id) | Caller::Failed(id) => id,
            Caller::Partition(caller) => IDS[caller.0],
        };
        match act {
            Act::Finish if request.is_none() => self.act(vcpu, Act::Wait),
            Act::Finish => {
                let kind = request.expect("there is one");
                self.act(vcpu, Act::Respond { kind, to: Some(requester), seed: 0x1234_5678_9abc })
            }
            Act::Respond { kind, to, seed } => self.act(vcpu, Act::Respond { kind, to: Some(to.unwrap_or(requester)), seed }),
            Act::Crash => {
                self.fail(vcpu);
                Turn::Crash
            }
            Act::Preempted => {
                self.at(vcpu).state = State::Preempted;
                let mut head = vcpu;
                while let Caller::Partition(caller) = self.vcpus[&head].caller {
                    head = caller;
                }
                (self.running, self.expected) = (None, (Regs::new(&[u64::from(function::INTERRUPT), info(head)]), 8));
                Turn::Stop
            }
            _ => self.act(vcpu, act),
        }
    }

    fn act(&mut self, vcpu: Vcpu, act: Act) -> Turn {
        let own = u64::from(IDS[vcpu.0]) << 16;
        let Conversation { caller, request, .. } = self.vcpus[&vcpu];
        let requester = match caller {
            Caller::World(id) | Caller::Failed(id) => id,
            Caller::Partition(caller) => IDS[caller.0],
        };
        let mut wrong = Wrong::default();
        let call = match act {
            Act::Wait => {
                wrong.when(request.is_some(), Status::Denied);
                if wrong.0.is_empty() {
                    self.at(vcpu).state = State::Waiting;
                    self.answer(caller, (Regs::new(&[u64::from(function::MSG_WAIT)]), 8));
                }
                Regs::new(&[u64::from(function::MSG_WAIT)])
            }
            Act::Respond { kind, to, seed } => {
                let to = to.unwrap_or(requester);
                let (sent, arrives) = kind.message(kind.response(), own | u64::from(to), [0, 0], seed);
                let itself = to == IDS[vcpu.0];
                wrong.when(request != Some(kind), Status::Denied);
                wrong.when(to != requester, if itself { Status::InvalidParameters } else { Status::Denied });
                if wrong.0.is_empty() {
                    self.at(vcpu).state = State::Waiting;
                    self.answer(caller, (arrives, if kind == Kind::Direct2 { 18 } else { 8 }));
                }
                sent
            }
            Act::Request { kind, to, seed } => {
                let (sent, arrives) = kind.message(kind.request(), own | u64::from(to), [0, 0], seed);
                wrong.when(of(to) == Some(vcpu.0), Status::InvalidParameters).when(vcpu.0 == RECEIVER, Status::Denied);
                // Partitions ask nothing of the normal world; the specification leaves open by which error.
                wrong.when(to == 0, Status::Denied);
                self.request(&mut wrong, kind, to, 0, Some(vcpu));
                if wrong.0.is_empty() {
                    self.at(vcpu).state = State::Blocked(on(of(to).expect("it was found"), self.core));
                    self.begin(kind, to, Caller::Partition(vcpu), arrives);
                }
                sent
            }
            Act::Run { id, vcpu: index } => {
                let target = of(id).map(|partition| (partition, usize::from(index))).filter(|vcpu| self.vcpus.contains_key(vcpu));
                let found = target.map(|target| self.vcpus[&target]);
                let resumable = found.is_some_and(|found| found.state == State::Yielded && found.caller == Caller::Partition(vcpu));
                wrong.when(target.is_none(), Status::InvalidParameters);
                wrong.when(target.is_some_and(|target| self.failed[target.0]), Status::Aborted);
                wrong.when(target.is_some() && !resumable || id == 0, Status::Denied);
                wrong.when(target.is_some_and(|target| is_pinned_elsewhere(target, self.core)), Status::InvalidParameters);
                if let Some(target) = target
                    && wrong.0.is_empty()
                {
                    self.at(vcpu).state = State::Blocked(target);
                    self.give(target, (Regs::success(&[]), 8));
                }
                Regs::new(&[u64::from(function::RUN), u64::from(id) << 16 | u64::from(index)])
            }
            Act::Yield => {
                self.at(vcpu).state = State::Yielded;
                let reply = (Regs::new(&[u64::from(function::YIELD), info(vcpu)]), 8);
                match caller {
                    Caller::Partition(caller) => self.give(caller, reply),
                    _ => (self.running, self.expected) = (None, reply),
                }
                Regs::new(&[u64::from(function::YIELD)])
            }
            Act::Error { code } => {
                wrong.when(request.is_none(), Status::Denied);
                if wrong.0.is_empty() {
                    self.at(vcpu).state = State::Waiting;
                    self.answer(caller, (Regs::new(&[u64::from(function::ERROR), 0, u64::from(code)]), 8));
                }
                Regs::new(&[u64::from(function::ERROR), 0, u64::from(code)])
            }
            other => unreachable!("{other:?} is no call"),
        };
        Turn::of(call, wrong)
    }

    fn fail(&mut self, vcpu: Vcpu) {
        self.failed[vcpu.0] = true;
        for conversation in self.vcpus.values_mut() {
            if conversation.state == State::Yielded && matches!(conversation.caller, Caller::Partition(caller) if caller.0 == vcpu.0) {
                conversation.caller = Caller::Failed(IDS[vcpu.0]);
            }
        }
        self.at(vcpu).state = State::Over;
        let caller = self.at(vcpu).caller;
        self.answer(caller, error(Status::Aborted));
    }
}

/// What an actor does with its turn.
enum Turn {
    Call(Regs),
    /// A call that has one of these errors.
    Refused(Regs, Wrong),
    Stop,
    Crash,
}

impl Turn {
    fn of(call: Regs, wrong: Wrong) -> Self {
        if wrong.0.is_empty() { Self::Call(call) } else { Self::Refused(call, wrong) }
    }
}

type Shared = Arc<Mutex<Model>>;

fn look(model: &Shared) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn play(mut actor: Actor, vcpu: Vcpu, model: Shared) {
    let mut regs = actor.wait().await;
    loop {
        let turn = look(&model).entered(vcpu, actor.core(), regs);
        match turn {
            Turn::Call(call) => regs = actor.call(&call.0).await,
            Turn::Refused(call, wrong) => {
                regs = actor.call(&call.0).await;
                let status = regs.as_error();
                assert!(status.is_some_and(|status| wrong.0.contains(&status)), "{vcpu:?}: {call:x?} ended in {status:?}, wrong with it: {:?}", wrong.0);
                look(&model).expected = (regs, 8);
            }
            Turn::Stop => {
                actor.stop(Exit::NormalWorldInterrupt).await;
                regs = actor.regs();
            }
            Turn::Crash => actor.crash().await,
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Direct32), Just(Kind::Direct64), Just(Kind::Direct2)]
}

fn id() -> impl Strategy<Value = u16> {
    prop_oneof![40 => (0..IDS.len()).prop_map(|n| IDS[n]), 1 => Just(0x8005), 1 => Just(0)]
}

fn act() -> impl Strategy<Value = Act> {
    let seed = || any::<u64>();
    prop_oneof![
        10 => Just(Act::Finish),
        2 => Just(Act::Wait),
        2 => (kind(), proptest::option::of(id()), seed()).prop_map(|(kind, to, seed)| Act::Respond { kind, to, seed }),
        10 => (kind(), id(), seed()).prop_map(|(kind, to, seed)| Act::Request { kind, to, seed }),
        4 => (id(), 0u16..3).prop_map(|(id, vcpu)| Act::Run { id, vcpu }),
        4 => Just(Act::Yield),
        2 => any::<u32>().prop_map(|code| Act::Error { code }),
        6 => Just(Act::Preempted),
        1 => Just(Act::Crash),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let reserved = prop_oneof![30 => Just(0u64), 1 => Just(1)];
    let from = prop_oneof![10 => 0u16..3, 1 => Just(0x8002)];
    let service = prop_oneof![3 => 0u8..2, 1 => Just(2)];
    let request = (kind(), from, id(), reserved, service, any::<u64>())
        .prop_map(|(kind, from, to, reserved, service, seed)| Call::Request { kind, from, to, reserved, service, seed });
    let run = (id(), prop_oneof![3 => Just(0u16), 2 => Just(1), 1 => Just(2)]).prop_map(|(id, vcpu)| Call::Run { id, vcpu });
    (0usize..2, prop_oneof![request, run], proptest::collection::vec(act(), 0..12)).prop_map(|(core, call, acts)| Event { core, call, acts })
}

fn system(model: &Shared) -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    for (n, id) in IDS.into_iter().enumerate() {
        let all = s_el1(id);
        let methods = if n == RECEIVER { Methods(Methods::DIRECT_RECEIVE) } else { all.methods };
        let config = PartitionConfig { s_el0: n == 1, vcpus: if n == EACH_CORE { 2 } else { 1 }, methods, ..all };
        let shared = model.clone();
        let index = bench.cast(config, move |mut actor| async move {
            if n == EACH_CORE {
                let entry = SECURE_MEMORY + n as u64 * PARTITION_MEMORY;
                assert!(actor.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), entry]).await.as_error().is_none());
            }
            play(actor, (n, 0), shared).await;
        });
        if n == EACH_CORE {
            let shared = model.clone();
            bench.part(index, 1, move |actor| play(actor, (n, 1), shared));
        }
    }
    assert_eq!(bench.boot(), 0);
    bench.on(1).core_on();
    bench
}

proptest! {
    #![proptest_config(cases(600))]
    #[test]
    fn conversations_agree_with_the_model(events in proptest::collection::vec(event(), 1..40)) {
        let model: Shared = Arc::new(Mutex::new(Model::new()));
        let bench = system(&model);
        for Event { core, call, acts } in events {
            let (regs, wrong) = {
                let mut model = look(&model);
                (model.core, model.acts) = (core, acts.into());
                model.call(call)
            };
            let answer = bench.on(core).call_with(regs);
            let mut model = look(&model);
            if wrong.0.is_empty() {
                prop_assert_eq!(model.running, None, "somebody has not finished");
                let (expected, count) = model.expected;
                prop_assert_eq!(&answer.0[..count], &expected.0[..count], "the answer to {:x?}", call);
            } else {
                wrong.judge(&answer, call)?;
            }
            model.acts.clear();
            drop(model);
            bench.assert_at_rest();
        }
    }
}

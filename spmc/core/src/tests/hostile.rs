//! Whatever the normal world and the partitions put into their registers: nothing panics, no lock stays taken, no vCPU is
//! lost, and answers have nothing in them that does not belong there.

use crate::PartitionConfig;
use crate::fake::*;
use crate::distributor::Place;
use crate::interface::Interface;
use crate::machine::{Access, Address, Exit, Machine, Register};
use crate::partition::{Methods, NormalWorldInterrupts, PowerMessages, VmMessages};
use crate::timer::{TimerRegister, Which};
use arrayvec::ArrayVec;
use bulkhead_ffa::{Regs, Version, function};
use proptest::prelude::*;
use std::vec::Vec;

/// What a partition does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Call(Regs),
    /// Writes into its TX buffer.
    Write(Contents),
    /// With a payload that begins so.
    Answer(u64),
    Stop(Exit),
    /// An access to an emulated register.
    Reach(Access),
    /// The counter goes on, and the SPMC's timer may fire.
    Wait(u64),
    Raise(u32),
    Crash,
}

/// What happens in the normal world next, on which core.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Call(Regs),
    Write(Contents),
    Interrupt(u32),
    CoreOn,
    CoreOff,
}

/// What lies in a TX buffer: a message or a memory descriptor with some bytes changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents {
    /// A message or relinquish descriptor; else memory of one range for one borrower.
    short: bool,
    from: u16,
    to: u16,
    page: u64,
    damage: [(usize, u8); 2],
}

impl Contents {
    /// Bytes of a memory descriptor.
    const LENGTH: u64 = 96;

    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = if self.short {
            message(self.from, self.to)
        } else {
            let mut bytes = Vec::new();
            bytes.extend(self.from.to_le_bytes());
            bytes.extend(0x2fu16.to_le_bytes());
            bytes.extend([0; 20]);
            [16u32, 1, 48, 0, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.extend(self.to.to_le_bytes());
            bytes.extend([2, 0]);
            [64u32, 0, 0, 1, 1, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.extend(self.page.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
            assert_eq!(bytes.len() as u64, Self::LENGTH);
            bytes
        };
        for (at, value) in self.damage {
            // Beyond the end there is nothing to damage.
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes
    }
}

fn contents() -> BoxedStrategy<Contents> {
    let id = || prop_oneof![6 => 0x8001u16..0x8004, 2 => Just(0u16), 1 => any::<u16>()];
    let page = (prop_oneof![Just(NORMAL_MEMORY), Just(SECURE_MEMORY), Just(SECURE_MEMORY + PARTITION_MEMORY)], 2u64..PAGES).prop_map(|(page, n)| page + n * 0x1000);
    let damage = || prop_oneof![3 => Just((usize::MAX, 0)), 1 => (0usize..100, any::<u8>())];
    (any::<bool>(), id(), id(), page, [damage(), damage()]).prop_map(|(short, from, to, page, damage)| Contents { short, from, to, page, damage }).boxed()
}

fn identifier() -> BoxedStrategy<u64> {
    let known = (0x60u64..0x91, prop_oneof![Just(0x8400_0000u64), Just(0xc400_0000)]).prop_map(|(n, base)| base | n);
    prop_oneof![20 => known, 1 => any::<u64>(), 1 => 0xff00u64..0xff10, 1 => 0x8400_0060u64..0x8401_0090].boxed()
}

fn ends() -> BoxedStrategy<u64> {
    let id = prop_oneof![4 => 0x8000u64..0x8005, 2 => 0u64..5, 1 => 0u64..0x1_0000];
    (id.clone(), id).prop_map(|(a, b)| a << 16 | b).boxed()
}

fn value() -> BoxedStrategy<u64> {
    let page = prop_oneof![Just(NORMAL_MEMORY), Just(SECURE_MEMORY), Just(SECURE_MEMORY + PARTITION_MEMORY)];
    prop_oneof![
        6 => Just(0u64),
        3 => 0u64..48,
        2 => (page, 0u64..PAGES + 1).prop_map(|(page, n)| page + n * 0x1000),
        1 => identifier(),
        1 => ends(),
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ].boxed()
}

fn registers() -> BoxedStrategy<Regs> {
    let first = prop_oneof![3 => ends(), 2 => value()];
    (identifier(), first, proptest::array::uniform16(value())).prop_map(|(id, first, rest)| {
        let mut regs = Regs::new(&[id, first]);
        regs.0[2..].copy_from_slice(&rest);
        regs
    }).boxed()
}

/// Calls that are right, so that conversations get deep.
fn request() -> BoxedStrategy<Regs> {
    let id = prop_oneof![Just(function::MSG_SEND_DIRECT_REQ_32), Just(function::MSG_SEND_DIRECT_REQ_64), Just(function::MSG_SEND_DIRECT_REQ2)];
    let run = (0u64..4, 0u64..2).prop_map(|(n, vcpu)| Regs::new(&[u64::from(function::RUN), (0x8001 + n) << 16 | vcpu]));
    let request = (id, 0u64..3).prop_map(|(id, n)| Regs::new(&[u64::from(id), 0x8001 + n]));
    let message = Just(Regs::new(&[u64::from(function::MSG_SEND2)]));
    let vm = (0u64..3, prop_oneof![Just(4u64), Just(6)]);
    let vm = vm.prop_map(|(n, kind)| Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), 0x8001 + n, 1 << 31 | kind, 0, 0, 1]));
    prop_oneof![4 => request, 4 => run, 1 => message, 2 => memory(), 1 => vm].boxed()
}

/// Memory calls that fit what [`Contents`] may be.
fn memory() -> BoxedStrategy<Regs> {
    let id = prop_oneof![Just(function::MEM_SHARE_32), Just(function::MEM_LEND_64), Just(function::MEM_DONATE_32), Just(function::MEM_RETRIEVE_REQ_32), Just(function::MEM_RELINQUISH)];
    id.prop_map(|id| if id == function::MEM_RELINQUISH { Regs::new(&[u64::from(id)]) } else { Regs::new(&[u64::from(id), Contents::LENGTH, Contents::LENGTH]) }).boxed()
}

fn interrupt() -> BoxedStrategy<u32> {
    prop_oneof![Just(40), Just(41), Just(42), Just(99)].boxed()
}

fn access() -> BoxedStrategy<Access> {
    let timer = (prop_oneof![Just(Which::Virtual), Just(Which::Physical)], prop_oneof![Just(TimerRegister::Value), Just(TimerRegister::Control), Just(TimerRegister::Compare)])
        .prop_map(|(which, register)| Register::Timer(which, register));
    let interface = prop_oneof![Just((4u64, 6u64, 0u64)), (8u64..13, 0u64..8).prop_map(|(crm, op2)| (12, crm, op2))]
        .prop_map(|(crn, crm, op2)| Register::Interface(Interface::decode(crn, crm, op2).expect("one of these")));
    let bytes = prop_oneof![Just(1u8), Just(2), Just(4), Just(8)];
    let offset = prop_oneof![4 => (0u32..0x1000, Just(0)), 2 => (0x6000u32..0x8000, Just(0)), 2 => (0u32..0x1000, Just(0x1_0000)), 1 => (0u32..0x2_0000, Just(0))];
    let distributor = (proptest::option::of(0u8..8), offset, bytes)
        .prop_map(|(redistributor, (offset, base), bytes)| Register::Distributor(Place { redistributor, offset: offset + base, bytes }));
    let value = prop_oneof![2 => 0u64..64, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(1 << 40 | 3 << 24)];
    (prop_oneof![2 => timer, 4 => interface, 2 => distributor], proptest::option::weighted(0.7, value), 0u8..18)
        .prop_map(|(register, write, target)| Access { register, write, target })
        .boxed()
}

pub(super) fn act() -> BoxedStrategy<Act> {
    prop_oneof![
        4 => contents().prop_map(Act::Write),
        4 => memory().prop_map(Act::Call),
        8 => registers().prop_map(Act::Call),
        6 => any::<u64>().prop_map(Act::Answer),
        4 => (0x8001u64..0x8004, 0x8001u64..0x8004).prop_map(|(a, b)| Act::Call(Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), a << 16 | b]))),
        2 => Just(Act::Call(Regs::new(&[u64::from(function::YIELD)]))),
        2 => Just(Act::Call(Regs::new(&[u64::from(function::MSG_SEND2)]))),
        3 => Just(Act::Stop(Exit::NormalWorldInterrupt)),
        2 => Just(Act::Stop(Exit::SecureInterrupt)),
        2 => interrupt().prop_map(Act::Raise),
        6 => access().prop_map(Act::Reach),
        2 => (0u64..100).prop_map(Act::Wait),
        1 => Just(Act::Crash),
    ].boxed()
}

pub(super) fn event() -> BoxedStrategy<Event> {
    prop_oneof![
        4 => registers().prop_map(Event::Call),
        10 => request().prop_map(Event::Call),
        3 => contents().prop_map(Event::Write),
        2 => interrupt().prop_map(Event::Interrupt),
        1 => Just(Event::CoreOn),
        1 => Just(Event::CoreOff),
    ].boxed()
}

fn is_request(regs: &Regs) -> bool {
    matches!(regs.function(), function::MSG_SEND_DIRECT_REQ_32 | function::MSG_SEND_DIRECT_REQ_64 | function::MSG_SEND_DIRECT_REQ2) && regs.w(2) >> 31 == 0
}

/// Does what it is told, then answers what it is asked; always ends its turn somehow.
fn play(guest: &mut Guest, acts: Vec<Act>) {
    let mut acts = acts.into_iter();
    let mut open: Option<Regs> = None;
    let mut refused = 0;
    loop {
        let answering = match acts.next() {
            Some(Act::Call(regs)) => {
                let answer = guest.call(&regs.0);
                if matches!(answer.function(), function::ERROR | function::SUCCESS_32) {
                    check_answer(&regs, &answer);
                }
                false
            }
            Some(Act::Stop(exit)) => {
                guest.stop(exit);
                continue;
            }
            Some(Act::Reach(access)) => {
                guest.emulated(Exit::Register(access));
                continue;
            }
            Some(Act::Wait(ticks)) => {
                guest.bench.world().ticks += ticks;
                guest.bench.raise_own();
                guest.stop(Exit::SecureInterrupt);
                continue;
            }
            Some(Act::Write(contents)) => {
                let tx = Address { pa: SECURE_MEMORY + u64::from(guest.id.0 - 0x8001) * PARTITION_MEMORY, secure: true };
                guest.bench.machine.write(tx, &contents.bytes()).unwrap();
                continue;
            }
            Some(Act::Raise(interrupt)) => {
                guest.bench.raise(interrupt);
                continue;
            }
            Some(Act::Crash) => guest.crash(),
            act @ (Some(Act::Answer(_)) | None) => {
                let payload = if let Some(Act::Answer(first)) = act { first } else { 0 };
                match (&open, refused) {
                    (_, 3..) => guest.crash(),
                    (Some(request), 0) => {
                        let long = request.function() == function::MSG_SEND_DIRECT_REQ2;
                        let payload: Vec<u64> = (0..if long { 14 } else { 5 }).map(|n| payload.rotate_left(n)).collect();
                        guest.respond(request, &payload)
                    }
                    (_, 2) => guest.call(&[u64::from(function::ERROR), 0, 0xffff_fffe]),
                    _ => guest.wait(),
                };
                true
            }
        };
        let entered = guest.regs();
        if is_request(&entered) {
            open = Some(entered);
            refused = 0;
        } else if matches!(entered.function(), function::RUN | function::INTERRUPT) {
            open = None;
            refused = 0;
        } else if answering {
            refused += 1;
        }
    }
}

/// Answers carry only what their kind defines.
pub(super) fn check_answer(call: &Regs, answer: &Regs) {
    let zero = |range: core::ops::Range<usize>| assert!(answer.0[range].iter().all(|x| *x == 0), "{answer:x?} to {call:x?}");
    match answer.function() {
        function::ERROR => {
            zero(1..2);
            zero(3..8);
        }
        function::SUCCESS_32 | function::SUCCESS_64 => zero(1..2),
        function::INTERRUPT => zero(2..8),
        function::YIELD => zero(4..8),
        function::MSG_WAIT | function::NORMAL_WORLD_RESUME => zero(1..8),
        function::MSG_SEND_DIRECT_RESP_32 => {
            if call.w(2) == 0 {
                zero(2..3);
            }
            assert!(answer.0[..8].iter().all(|x| x >> 32 == 0));
        }
        function::MSG_SEND_DIRECT_RESP_64 => zero(2..3),
        function::MSG_SEND_DIRECT_RESP2 => zero(2..4),
        function::MEM_RETRIEVE_RESP | function::MEM_FRAG_RX | function::MEM_FRAG_TX => {}
        _ => assert_eq!(call.function(), function::VERSION, "{answer:x?} to {call:x?}"),
    }
    if !matches!(answer.function(), function::MSG_SEND_DIRECT_RESP2 | function::SUCCESS_64) {
        assert_eq!(answer.0[8..], call.0[8..], "they are the caller's");
    }
}

/// The header of an indirect message without payload.
fn message(from: u16, to: u16) -> Vec<u8> {
    [0, 0, 40, u32::from(from) << 16 | u32::from(to), 0].into_iter().flat_map(u32::to_le_bytes).collect()
}

pub(super) fn is_from_the_spmd(regs: &Regs) -> bool {
    regs.function() == function::MSG_SEND_DIRECT_REQ_32 && regs.w(1) >> 16 == 0xffff || regs.function() == function::INTERRUPT
}

/// Three partitions of all kinds with `acts` to play, six lists of them; enough scripts for `calls` calls.
pub(super) fn stage(acts: Vec<Vec<Act>>, actions: [u8; 3], calls: usize) -> Bench {
    let mut acts = acts.into_iter();
    let mut bench = Bench::new(Version::V1_2);
    bench.map_buffers();
    bench.machine.write(Address { pa: NORMAL_MEMORY + 0x1000, secure: false }, &message(0, 0x8001)).unwrap();
    for (n, action) in actions.into_iter().enumerate() {
        let normal_world_interrupts = match action {
            0 => NormalWorldInterrupts::Queued,
            1 => NormalWorldInterrupts::ManagedExit { irq: n == 1 },
            _ => NormalWorldInterrupts::Signaled,
        };
        let interrupts = ArrayVec::from_iter([40 + n as u32]);
        let vcpus = if n == 0 { 2 } else { 1 };
        let methods = Methods(s_el1(0).methods.0 | Methods::INDIRECT);
        let power_messages = PowerMessages { off: true, suspend: true, resume: true };
        let vm_messages = VmMessages { created: true, destroyed: n == 0 };
        let config = PartitionConfig { methods, s_el0: n == 2, vcpus, power_messages, vm_messages, normal_world_interrupts, interrupts, ..s_el1(0x8001 + n as u16) };
        let mine = acts.next().unwrap_or_default();
        let index = bench.add(config, move |guest| {
            // A message lies ready for the next partition, or for the normal world.
            let tx = Address { pa: SECURE_MEMORY + n as u64 * PARTITION_MEMORY, secure: true };
            guest.bench.machine.write(tx, &message(0x8001 + n as u16, [0x8002, 0x8003, 0][n])).unwrap();
            guest.call(&[u64::from(function::RXTX_MAP_64), tx.pa, tx.pa + 0x1000, 1]);
            guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]);
            guest.call(&[0xff03, 40 + n as u64, 1]);
            guest.wait();
            play(guest, mine);
        });
        for script in acts.by_ref().take(if n == 0 { 3 } else { 0 }).chain(core::iter::repeat_n(Vec::new(), calls)) {
            let again = script.clone();
            bench.script(index, 0, move |guest| play(guest, again));
            bench.script(index, 1, move |guest| play(guest, script));
        }
    }
    bench
}

proptest! {
    #![proptest_config(crate::models::cases(200))]
    #[test]
    fn no_registers_harm_the_spmc(
        acts in proptest::collection::vec(proptest::collection::vec(act(), 0..30), 6),
        events in proptest::collection::vec((event(), 0usize..2), 1..60),
        actions in proptest::array::uniform3(0u8..3),
    ) {
        let mut bench = stage(acts, actions, events.len());
        bench.boot();
        bench.assert_at_rest();
        for (event, core) in events {
            let mut bench = bench.on(core);
            match event {
                Event::Call(regs) if is_from_the_spmd(&regs) => {}
                Event::Call(regs) => check_answer(&regs, &bench.call_with(regs)),
                Event::Write(contents) => bench.machine.write(Address { pa: NORMAL_MEMORY + 0x1000, secure: false }, &contents.bytes()).unwrap(),
                Event::Interrupt(interrupt) => bench.secure_interrupt(interrupt),
                Event::CoreOff => prop_assert_eq!(bench.core_off(), 0),
                Event::CoreOn => bench.core_on(),
            }
            bench.assert_at_rest();
        }
    }
}

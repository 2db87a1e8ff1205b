//! The fast path against the general one: whatever is in the registers, both give the normal world the same answers, enter
//! partitions with the same registers, and leave everything in the same state.

use super::hostile::{Act, Event, act, event, is_from_the_spmd, stage};
use crate::fake::*;
use crate::fast::Tried;
use crate::{PartitionConfig, Spmc};
use crate::machine::{Address, Exit, Machine};
use crate::partition::Methods;
use arrayvec::ArrayVec;
use bulkhead_ffa::{EndpointId, Regs, Status, Version, function};
use proptest::prelude::*;
use std::vec::Vec;

/// A call for which there is a fast path, or nearly so: registers that it passes on are full of bits.
fn usual() -> BoxedStrategy<Event> {
    let id = prop_oneof![
        Just(function::MSG_SEND_DIRECT_REQ_32),
        Just(function::MSG_SEND_DIRECT_REQ_64),
        Just(function::MSG_SEND_DIRECT_REQ2),
        Just(function::MSG_SEND_DIRECT_REQ_32 | 1 << 16)
    ];
    let sender = prop_oneof![8 => Just(0u64), 2 => 1u64..0x8000, 1 => Just(0x8000)];
    let dirt = prop_oneof![12 => Just(0u64), 1 => Just(1), 1 => Just(1 << 32), 1 => any::<u64>()];
    let service = (0x8001u16..0x8004).prop_map(|n| uuid(n).doublewords());
    let service = prop_oneof![4 => Just([0, 0]), 4 => service, 1 => any::<[u64; 2]>()];
    let request = (id, sender, 0x8001u64..0x8004, dirt.clone(), service, any::<[u64; 14]>()).prop_map(|(id, sender, receiver, dirt, service, payload)| {
        let mut regs = Regs::new(&[u64::from(id), sender << 16 | receiver]);
        regs.0[4..].copy_from_slice(&payload);
        if id == function::MSG_SEND_DIRECT_REQ2 {
            regs.0[2..4].copy_from_slice(&service);
        } else {
            regs.0[2..4].copy_from_slice(&[dirt, payload[0].rotate_left(7)]);
        }
        regs
    });
    let run = (0x8001u64..0x8004, 0u64..3, dirt, any::<[u64; 16]>()).prop_map(|(id, vcpu, dirt, rest)| {
        let mut regs = Regs::new(&[u64::from(function::RUN), id << 16 | vcpu | dirt << 32]);
        regs.0[2..].copy_from_slice(&rest);
        regs
    });
    prop_oneof![3 => request, 2 => run].prop_map(Event::Call).boxed()
}

/// What a partition does: mostly answer, often nearly rightly.
fn simple_act() -> BoxedStrategy<Act> {
    let call = |x: &[u64]| Act::Call(Regs::new(x));
    let wait = (0u64..20).prop_map(move |dirt| call(&[u64::from(function::MSG_WAIT), 0, 0, if dirt == 5 { 1 } else { 0 }]));
    let nested = (0x8001u64..0x8004, 0x8001u64..0x8004).prop_map(move |(a, b)| call(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), a << 16 | b]));
    let id = prop_oneof![
        Just(function::MSG_SEND_DIRECT_RESP_32),
        Just(function::MSG_SEND_DIRECT_RESP_64),
        Just(function::MSG_SEND_DIRECT_RESP2),
        Just(function::MSG_SEND_DIRECT_RESP_64 | 1 << 16)
    ];
    let dirt = prop_oneof![2 => Just(0u64), 1 => Just(1), 1 => Just(1 << 32)];
    let requester = prop_oneof![4 => Just(0u64), 1 => Just(1), 2 => Just(0xffff_ffff_0000_0000)];
    let response = (id, 0x8001u64..0x8004, requester, dirt.clone(), dirt, any::<[u64; 14]>()).prop_map(|(id, own, requester, x2, x3, rest)| {
        let mut regs = Regs::new(&[u64::from(id), own << 16 | requester, x2, x3]);
        regs.0[4..].copy_from_slice(&rest);
        Act::Call(regs)
    });
    prop_oneof![
        10 => any::<u64>().prop_map(Act::Answer),
        4 => response,
        3 => wait,
        2 => nested,
        3 => Just(Act::Stop(Exit::NormalWorldInterrupt)),
        1 => Just(Act::Stop(Exit::SecureInterrupt)),
        2 => (40u32..43).prop_map(Act::Raise),
        2 => act()
    ]
    .boxed()
}

/// Fills the RX buffer of the first partition, if it is empty.
fn indirect() -> BoxedStrategy<Event> {
    Just(Event::Call(Regs::new(&[u64::from(function::MSG_SEND2)]))).boxed()
}

fn states(bench: &Bench) -> Vec<crate::RunState> {
    bench.spmc.partitions().flat_map(|(_, partition, _)| partition.vcpus.iter().map(|vcpu| vcpu.state()).collect::<Vec<_>>()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn both_paths_give_the_same(
        acts in proptest::collection::vec(proptest::collection::vec(simple_act(), 0..30), 6),
        events in proptest::collection::vec((prop_oneof![8 => usual(), 1 => indirect(), 1 => event()], 0usize..2), 1..60),
        actions in proptest::array::uniform3(prop_oneof![1 => 0u8..2, 3 => Just(2u8)]),
    ) {
        let mut both = [false, true].map(|general| {
            let mut bench = stage(acts.clone(), actions, events.len());
            bench.general = general;
            bench.world().entries = Some(Vec::new());
            bench.boot();
            bench
        });
        for (event, core) in events {
            let answers = both.each_mut().map(|bench| {
                let mut bench = bench.on(core);
                match event {
                    Event::Call(regs) if is_from_the_spmd(&regs) => Regs::default(),
                    Event::Call(regs) => bench.call_with(regs),
                    Event::Write(contents) => {
                        let tx = crate::machine::Address { pa: NORMAL_MEMORY + 0x1000, secure: false };
                        crate::machine::Machine::write(&mut bench.machine, tx, &contents.bytes()).expect("TX is memory");
                        Regs::default()
                    }
                    Event::Interrupt(interrupt) => {
                        bench.secure_interrupt(interrupt);
                        Regs::default()
                    }
                    Event::CoreOff => Regs::new(&[bench.core_off()]),
                    Event::CoreOn => {
                        bench.core_on();
                        Regs::default()
                    }
                }
            });
            prop_assert_eq!(answers[0], answers[1], "{:x?}", event);
            prop_assert_eq!(states(&both[0]), states(&both[1]));
            let entries = both.each_ref().map(|bench| bench.world().entries.replace(Vec::new()));
            prop_assert_eq!(&entries[0], &entries[1], "{:x?}", event);
        }
        // Leaving twice is as good as once.
        let events = both.each_ref().map(|bench| bench.world().events.iter().filter(|e| !matches!(e, crate::fake::Event::Left(_))).cloned().collect::<Vec<_>>());
        prop_assert_eq!(&events[0], &events[1]);
    }
}

/// Whether the fast path takes the call in `regs`; if so the answer is there afterwards.
fn takes(spmc: &Spmc, machine: &mut Fake, regs: &mut Regs) -> bool {
    let x = regs.message();
    match if regs.function() == function::RUN { spmc.fast_run(machine, x, regs) } else { spmc.fast_request(machine, x, regs) } {
        Tried::Answered(answer) => regs.set_message(answer),
        Tried::Put => {}
        Tried::Unusual => return false,
    }
    true
}

/// The words that the fast path looks at are those of partitions in the order of the table; it takes the call then.
#[test]
fn a_plain_request_takes_the_fast_path() {
    let mut bench = Bench::new(Version::V1_2);
    for id in [0x8001, 0x8007] {
        bench.add(s_el1(id), |guest| {
            let mut entered = guest.wait();
            loop {
                entered = if entered.function() == function::RUN { guest.wait() } else { guest.respond(&entered, &[]) };
            }
        });
    }
    bench.boot();
    // The first call of all settles the version: that is not usual.
    assert_eq!(bench.request(0x8001, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
    let mut machine = bench.machine.clone();
    let mut first = |receiver: u64| {
        let mut regs = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), receiver]);
        let taken = takes(&bench.spmc, &mut machine, &mut regs);
        (taken, regs.function())
    };
    let mut run = Regs::new(&[u64::from(function::RUN), 0x8001_0000]);
    assert!(takes(&bench.spmc, &mut bench.machine.clone(), &mut run));
    assert_eq!(run, Regs::new(&[u64::from(function::MSG_WAIT)]));
    assert_eq!(first(0x8001), (true, function::MSG_SEND_DIRECT_RESP_64));
    assert_eq!(first(0x8007), (false, function::MSG_SEND_DIRECT_REQ_64));
    let index = bench.spmc.find(EndpointId(0x8001)).unwrap().0;
    assert!(bench.spmc.partition(index).unwrap().0.fail());
    assert_eq!(bench.request(0x8001, &[]).as_error(), Some(Status::Aborted));
    let mut regs = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), 0x8001]);
    assert!(!takes(&bench.spmc, &mut bench.machine, &mut regs), "nothing is usual about a partition that has failed");
}

/// StMM packs identities as signed numbers. w1 is 32 bits wide in a 64-bit message as well.
#[test]
fn the_upper_half_of_an_answers_identities_is_nobodys() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el0(0x8001), |guest| {
        let mut entered = guest.wait();
        loop {
            let answer = u64::from(entered.function() + 1);
            entered = guest.call(&[answer, 0xffff_ffff_8001_0000, 0, 7]);
        }
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
    let mut regs = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), 0x8001]);
    let message = regs.message();
    match bench.spmc.fast_request(&mut bench.machine.clone(), message, &mut regs) {
        Tried::Answered(answer) => assert_eq!(answer[..4], [u64::from(function::MSG_SEND_DIRECT_RESP_64), 0x8001_0000, 0, 7]),
        _ => panic!("the general path had to help"),
    }
}

/// An S-EL0 partition, which has no line for what comes with a message.
#[test]
fn a_wait_on_the_fast_path_gives_the_rx_buffer_back() {
    let mut bench = Bench::new(Version::V1_2);
    bench.map_buffers();
    let methods = Methods(Methods::INDIRECT);
    bench.add(PartitionConfig { methods, ..s_el0(0x8001) }, |guest| {
        guest.call(&[u64::from(function::RXTX_MAP_64), SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]);
        loop {
            guest.wait();
        }
    });
    bench.boot();
    let header: Vec<u8> = [0u32, 0, 40, 0x8001, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    bench.machine.write(Address { pa: NORMAL_MEMORY + 0x1000, secure: false }, &header).unwrap();
    let send = [u64::from(function::MSG_SEND2)];
    assert_eq!(bench.call(&send), Regs::success(&[]));
    assert_eq!(bench.call(&send).as_error(), Some(Status::Busy));
    let mut run = Regs::new(&[u64::from(function::RUN), 0x8001_0000]);
    assert!(takes(&bench.spmc, &mut bench.machine.clone(), &mut run));
    assert_eq!(bench.call(&send), Regs::success(&[]));
}

/// EDK2's StandaloneMM computes the identities in a signed number, whose sign bit the secure world's are.
#[test]
fn an_answer_whose_identities_are_sign_extended_is_usual() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        guest.wait();
        guest.call(&[u64::from(function::MSG_SEND_DIRECT_RESP_64), 0xffff_ffff_8001_0000, 0, 5]);
    });
    bench.boot();
    bench.call(&[u64::from(function::ID_GET)]);
    let mut request = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), 0x8001]);
    match bench.spmc.fast_request(&mut bench.machine.clone(), request.message(), &mut request) {
        Tried::Answered(answer) => assert_eq!(answer[..4], [u64::from(function::MSG_SEND_DIRECT_RESP_64), 0x8001_0000, 0, 5]),
        _ => panic!("the general path took it"),
    }
}

#[test]
fn an_interrupt_that_came_on_another_core_meanwhile_is_served_after_the_answer() {
    const LINE: u32 = 40;
    let mut bench = Bench::new(Version::V1_2);
    let interrupts = ArrayVec::from_iter([LINE]);
    bench.add(PartitionConfig { interrupts, ..s_el1(0x8001) }, |guest| {
        assert_eq!(guest.call(&[0xff03, u64::from(LINE), 1, 0]).0[0], 0);
        guest.wait();
        let request = guest.regs();
        // Posted, as this vCPU runs.
        guest.bench.on(1).secure_interrupt(LINE);
        let next = guest.respond(&request, &[]);
        assert_eq!(next.function(), function::INTERRUPT);
        assert_eq!(guest.interrupt(), u64::from(LINE));
        guest.call(&[0xff08, u64::from(LINE), u64::from(LINE)]);
        guest.wait();
    });
    bench.boot();
    bench.call(&[u64::from(function::ID_GET)]);
    let mut request = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), 0x8001]);
    assert!(takes(&bench.spmc, &mut bench.machine.clone(), &mut request));
    assert_eq!(request.function(), function::MSG_SEND_DIRECT_RESP_64);
    assert!(bench.world().saw(&crate::fake::Event::Deactivated(LINE)));
}

//! Cores that really run at the same time: every answer is its requester's own, and nothing is lost.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::{Address, Exit, Machine};
use crate::partition::Methods;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::vec::Vec;

const CORES: usize = 4;
const ROUNDS: u64 = 1000;
const RUN: u64 = function::RUN as u64;

/// Answers with what it got, after being preempted now and then.
fn echo(guest: &mut Guest) {
    let mut request = guest.wait();
    for n in 0u64.. {
        if n.is_multiple_of(3) {
            guest.stop(Exit::NormalWorldInterrupt);
        }
        let payload = request.0[3];
        request = guest.respond(&request, &[payload]);
    }
}

/// Passes each request on to 0x8001, as often as that is busy.
fn relay(guest: &mut Guest) {
    let mut request = guest.wait();
    loop {
        let answer = guest.request(0x8001, &[request.0[3]]);
        let payload = if answer == error(Status::Busy) { u64::MAX >> 32 } else { answer.0[3] };
        request = guest.respond(&request, &[payload]);
    }
}

/// A request as Linux makes it: FFA_RUN for as long as it is interrupted. `None` when the partition is busy.
fn ask(bench: &mut Bench, receiver: u16, payload: u64) -> Option<u64> {
    let mut answer = bench.request(receiver, &[payload]);
    while answer.function() == function::INTERRUPT {
        answer = bench.call(&[RUN, answer.0[1]]);
    }
    if answer.as_error().is_some() {
        assert_eq!(answer.as_error(), Some(Status::Busy));
        return None;
    }
    assert_eq!(answer.function(), function::MSG_SEND_DIRECT_RESP_32);
    Some(answer.0[3])
}

#[test]
fn each_requester_gets_its_own_answer() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), echo);
    bench.add(s_el1(0x8002), relay);
    let each = bench.add(PartitionConfig { vcpus: CORES as u8, ..s_el1(0x8003) }, |guest| {
        let entry = SECURE_MEMORY + 2 * PARTITION_MEMORY;
        assert!(guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), entry]).as_error().is_none());
        relay(guest);
    });
    for core in 1..CORES {
        bench.script(each, core as u8, relay);
    }
    assert_eq!(bench.boot(), 0);
    let served: u64 = std::thread::scope(|scope| {
        let core = |n: usize| {
            let mut core = bench.on(n);
            scope.spawn(move || {
                if n != 0 {
                    core.core_on();
                }
                let mut served = 0;
                for round in 0..ROUNDS {
                    let payload = (n as u64) << 16 | round;
                    for receiver in [0x8001, 0x8002, 0x8003] {
                        match ask(&mut core, receiver, payload) {
                            // What it passed the request on to was busy.
                            Some(0xffff_ffff) if receiver != 0x8001 => {}
                            Some(answer) => {
                                assert_eq!(answer, payload);
                                served += 1;
                            }
                            None => assert_ne!(receiver, 0x8003, "each core has a vCPU of its own there"),
                        }
                    }
                }
                served
            })
        };
        let threads: [_; CORES] = core::array::from_fn(core);
        threads.map(|thread| thread.join().expect("no core finds fault")).into_iter().sum()
    });
    assert!(served > ROUNDS, "{served} requests were served at all");
    assert_eq!(ask(&mut bench, 0x8001, 1), Some(1), "and nothing is stuck");
    assert_eq!(ask(&mut bench, 0x8002, 2), Some(2));
    assert_eq!(ask(&mut bench, 0x8003, 3), Some(3));
}

/// Sends indirect messages round a ring, reading whatever came in before each; how many went out.
fn send_round(bench: &mut Bench, call: &mut dyn FnMut(&mut Bench, &[u64]) -> Regs, at: Address, own: u16, next: u16) -> u64 {
    let mut sent = 0;
    for round in 0..ROUNDS {
        let ends = u32::from(own) << 16 | u32::from(next);
        let header: Vec<u8> = [0, 0, 40, ends, 8].into_iter().flat_map(u32::to_le_bytes).chain([0; 20]).chain(round.to_le_bytes()).collect();
        bench.machine.write(at, &header).unwrap();
        let answer = call(bench, &[u64::from(function::MSG_SEND2)]);
        assert!(matches!(answer.as_error(), None | Some(Status::Busy)), "{answer:x?}");
        sent += u64::from(answer.as_error().is_none());
        let released = call(bench, &[u64::from(function::RX_RELEASE)]);
        assert!(matches!(released.as_error(), None | Some(Status::Denied)));
    }
    sent
}

#[test]
fn messages_in_a_ring_lock_nobody_out() {
    let mut bench = Bench::new(Version::V1_2);
    for (n, next) in [(0u16, 0x8002u16), (1, 0)] {
        let methods = Methods(s_el1(0).methods.0 | Methods::INDIRECT);
        bench.add(PartitionConfig { methods, ..s_el1(0x8001 + n) }, move |guest| {
            let tx = Address { pa: SECURE_MEMORY + u64::from(n) * PARTITION_MEMORY, secure: true };
            assert!(guest.call(&[u64::from(function::RXTX_MAP_64), tx.pa, tx.pa + 0x1000, 1]).as_error().is_none());
            let request = guest.wait();
            let mut bench = guest.bench.clone();
            let sent = send_round(&mut bench, &mut |_, x| guest.call(x), tx, 0x8001 + n, next);
            guest.respond(&request, &[sent]);
        });
    }
    assert_eq!(bench.boot(), 0);
    bench.map_buffers();
    std::thread::scope(|scope| {
        for (core, id) in [(1, 0x8001), (2, 0x8002)] {
            let mut core = bench.on(core);
            scope.spawn(move || assert!(core.request(id, &[]).0[3] > 0, "{id:#x} got a message out"));
        }
        let tx = Address { pa: NORMAL_MEMORY + 0x1000, secure: false };
        assert!(send_round(&mut bench, &mut |bench, x| bench.call(x), tx, 0, 0x8001) > 0);
    });
}

#[test]
fn a_sender_that_waits_for_its_receiver_holds_no_buffer_that_comes_later_in_the_order() {
    let mut bench = Bench::new(Version::V1_2);
    let methods = Methods(s_el1(0).methods.0 | Methods::INDIRECT);
    bench.add(PartitionConfig { methods, ..s_el1(0x8001) }, |guest| {
        guest.call(&[u64::from(function::RXTX_MAP_64), SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]);
    });
    assert_eq!(bench.boot(), 0);
    bench.map_buffers();
    let header: Vec<u8> = [0, 0, 40, 0x8001, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    bench.machine.write(Address { pa: NORMAL_MEMORY + 0x1000, secure: false }, &header).unwrap();
    let spmc = bench.spmc.clone();
    let receiver = spmc.partition(0).unwrap().0.endpoint.mailbox.lock();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| bench.call(&[u64::from(function::MSG_SEND2)]));
        std::thread::sleep(std::time::Duration::from_millis(100));
        let free = spmc.normal_world.mailbox.is_free();
        drop(receiver);
        assert!(sender.join().unwrap().as_error().is_none());
        assert!(free, "a partition that sends to the normal world meanwhile could not go on");
    });
}

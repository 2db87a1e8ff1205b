//! Cores that really run at the same time: every answer is its requester's own, and nothing is lost.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::Exit;
use bulkhead_ffa::{Status, Version, function};

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

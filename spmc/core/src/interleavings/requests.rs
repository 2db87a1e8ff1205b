//! Direct requests, FFA_RUN, failures and cores that come and go, all at once.

use super::explore::{explore, explore_times, together};
use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::Exit;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// A request with this payload ends the partition that gets it.
const CRASH: u64 = 0xdead;
/// The callee of a relay was busy.
const BUSY: u64 = 0xb5b5;
/// The callee of a relay had failed.
const ABORTED: u64 = 0xabab;

/// Answers with what it got, or crashes; is preempted `stops` times in each request.
async fn echo(mut actor: Actor, stops: u64) {
    let mut request = actor.wait().await;
    loop {
        if matches!(request.function(), function::RUN | function::INTERRUPT) {
            request = actor.wait().await;
            continue;
        }
        for _ in 0..stops {
            actor.stop(Exit::NormalWorldInterrupt).await;
        }
        if request.0[3] == CRASH {
            actor.crash().await;
        }
        request = actor.respond(&request, &[request.0[3]]).await;
    }
}

/// Passes each request on to 0x8001.
async fn relay(mut actor: Actor) {
    let mut request = actor.wait().await;
    loop {
        if matches!(request.function(), function::RUN | function::INTERRUPT) {
            request = actor.wait().await;
            continue;
        }
        let answer = actor.request(0x8001, &[request.0[3]]).await;
        let payload = match answer.as_error() {
            None => answer.0[3],
            Some(Status::Busy) => BUSY,
            Some(Status::Aborted) => ABORTED,
            Some(other) => panic!("{other:?}"),
        };
        request = actor.respond(&request, &[payload]).await;
    }
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answer(u64),
    Error(Status),
    Interrupted,
    Waits,
}

fn outcome(regs: &Regs) -> Outcome {
    match (regs.as_error(), regs.function()) {
        (Some(status), _) => Outcome::Error(status),
        (None, function::MSG_SEND_DIRECT_RESP_32) => Outcome::Answer(regs.0[3]),
        (None, function::INTERRUPT) => Outcome::Interrupted,
        (None, function::MSG_WAIT) => Outcome::Waits,
        other => panic!("{other:x?}"),
    }
}

/// A request with FFA_RUN for as long as it is interrupted.
fn ask(core: &mut Bench, receiver: u16, payload: u64) -> Outcome {
    let mut answer = core.request(receiver, &[payload]);
    while answer.function() == function::INTERRUPT {
        answer = core.call(&[u64::from(function::RUN), answer.0[1]]);
    }
    outcome(&answer)
}

/// 0x8001 echoes, 0x8002 relays to it with one vCPU, 0x8003 with one for each of `cores`.
fn system(stops: u64, cores: u8) -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    bench.cast(s_el1(0x8001), move |actor| echo(actor, stops));
    bench.cast(s_el1(0x8002), relay);
    let each = bench.cast(PartitionConfig { vcpus: cores, ..s_el1(0x8003) }, |mut actor| async move {
        let entry = SECURE_MEMORY + 2 * PARTITION_MEMORY;
        let registered = actor.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), entry]).await;
        assert!(registered.as_error().is_none());
        relay(actor).await;
    });
    for core in 1..cores {
        bench.part(each, core, relay);
    }
    assert_eq!(bench.boot(), 0);
    bench
}

#[test]
fn each_requester_gets_its_own_answer() {
    explore(|| {
        let mut bench = system(1, 3);
        let core = |n: u64| -> Box<dyn FnOnce(Bench) + Send> {
            Box::new(move |mut core| {
                if n != 0 {
                    core.core_on();
                }
                for receiver in [0x8001, 0x8002, 0x8003] {
                    match ask(&mut core, receiver, n) {
                        Outcome::Answer(BUSY) if receiver != 0x8001 => {}
                        Outcome::Error(Status::Busy) if receiver != 0x8003 => {}
                        other => assert_eq!(other, Outcome::Answer(n), "{receiver:#x} to core {n}"),
                    }
                }
            })
        };
        together(&bench, vec![core(0), core(1), core(2)]);
        bench.assert_at_rest();
        for receiver in [0x8001, 0x8002, 0x8003] {
            assert_eq!(ask(&mut bench, receiver, 77), Outcome::Answer(77), "nothing is stuck");
        }
    });
}

#[test]
fn one_core_resumes_a_preempted_chain_and_one_gets_its_answer() {
    explore(|| {
        let mut bench = system(2, 2);
        assert_eq!(bench.request(0x8002, &[5]).function(), function::INTERRUPT);
        let core = || -> Box<dyn FnOnce(Bench) -> Vec<Outcome> + Send> {
            Box::new(|mut core| {
                let mut all = Vec::new();
                // The head can be resumed, its callee can not.
                assert!(matches!(outcome(&core.resume(0x8001, 0)), Outcome::Error(Status::Denied | Status::Busy) | Outcome::Waits));
                while all.len() < 8 && !matches!(all.last(), Some(Outcome::Answer(_) | Outcome::Waits)) {
                    all.push(outcome(&core.resume(0x8002, 0)));
                }
                all
            })
        };
        let all = together(&bench, vec![core(), core(), core()]).concat();
        let answers: Vec<_> = all.iter().filter(|outcome| matches!(outcome, Outcome::Answer(_))).collect();
        assert!(answers.len() <= 1, "{all:?}");
        assert!(answers.iter().all(|answer| **answer == Outcome::Answer(5)));
        assert!(all.iter().all(|o| matches!(o, Outcome::Answer(_) | Outcome::Waits | Outcome::Interrupted | Outcome::Error(Status::Busy))), "{all:?}");
        bench.assert_at_rest();
        if answers.is_empty() {
            let mut last = outcome(&bench.resume(0x8002, 0));
            while last == Outcome::Interrupted {
                last = outcome(&bench.resume(0x8002, 0));
            }
            assert_eq!(last, Outcome::Answer(5), "the answer is not lost");
        }
        assert_eq!(ask(&mut bench, 0x8002, 6), Outcome::Answer(6));
    });
}

#[test]
fn a_tail_is_resumed_by_its_own_head_only() {
    explore_times(8, || {
        let mut bench = system(1, 2);
        assert_eq!(bench.request(0x8002, &[5]).function(), function::INTERRUPT);
        // Ends the chain and begins another one with the same tail, while the other core looks for the tail of the first.
        let ends: Box<dyn FnOnce(Bench) -> Vec<Outcome> + Send> =
            Box::new(|mut core| vec![outcome(&core.resume(0x8002, 0)), outcome(&core.request(0x8001, &[6]))]);
        let resumes: Box<dyn FnOnce(Bench) -> Vec<Outcome> + Send> = Box::new(|mut core| vec![outcome(&core.resume(0x8002, 0))]);
        let all = together(&bench, vec![ends, resumes]);
        assert!(matches!(all[1][0], Outcome::Answer(5) | Outcome::Error(Status::Busy) | Outcome::Waits), "{all:?}");
        assert!(matches!(all[0][1], Outcome::Interrupted | Outcome::Error(Status::Busy)), "{all:?}");
        if all[0][1] == Outcome::Interrupted {
            assert_eq!(outcome(&bench.resume(0x8001, 0)), Outcome::Answer(6), "it was not resumed by somebody else");
        }
        bench.assert_at_rest();
    });
}

#[test]
fn a_yielded_partition_goes_on_once() {
    explore(|| {
        let mut bench = Bench::new(Version::V1_2);
        bench.cast(s_el1(0x8001), |mut actor| async move {
            let request = actor.wait().await;
            let resumed = actor.call(&[u64::from(function::YIELD)]).await;
            assert_eq!(resumed.function(), function::SUCCESS_32);
            let mut next = actor.respond(&request, &[9]).await;
            loop {
                assert_eq!(next.function(), function::RUN, "it is resumed once");
                next = actor.wait().await;
            }
        });
        assert_eq!(bench.boot(), 0);
        assert_eq!(bench.request(0x8001, &[]).function(), function::YIELD);
        let core = || -> Box<dyn FnOnce(Bench) -> Regs + Send> { Box::new(|mut core| core.resume(0x8001, 0)) };
        let all = together(&bench, vec![core(), core(), core()]);
        let answers = all.iter().filter(|regs| regs.function() == function::MSG_SEND_DIRECT_RESP_32 && regs.0[3] == 9).count();
        let others = all.iter().filter(|regs| regs.as_error() == Some(Status::Busy) || regs.function() == function::MSG_WAIT).count();
        assert_eq!((answers, others), (1, 2), "{all:x?}");
        bench.assert_at_rest();
    });
}

#[test]
fn a_failure_reaches_everyone_who_waits_for_it() {
    explore(|| {
        let mut bench = system(0, 3);
        let core = |n: u64, receiver: u16, payload: u64| -> Box<dyn FnOnce(Bench) -> Outcome + Send> {
            Box::new(move |mut core| {
                if n != 0 {
                    core.core_on();
                }
                ask(&mut core, receiver, payload)
            })
        };
        let all = together(&bench, vec![core(0, 0x8001, CRASH), core(1, 0x8003, 1), core(2, 0x8002, 2)]);
        assert!(matches!(all[0], Outcome::Error(Status::Aborted | Status::Busy)), "{all:?}");
        for (n, own) in [(1, 1), (2, 2)] {
            assert!([own, BUSY, ABORTED].map(Outcome::Answer).contains(&all[n]), "{all:?}");
        }
        bench.assert_at_rest();
        let failed = all[0] == Outcome::Error(Status::Aborted);
        let (direct, relayed) = if failed { (Outcome::Error(Status::Aborted), ABORTED) } else { (Outcome::Answer(3), 3) };
        assert_eq!(ask(&mut bench, 0x8001, 3), direct);
        assert_eq!(ask(&mut bench, 0x8002, 3), Outcome::Answer(relayed), "its callers live");
        assert_eq!(ask(&mut bench.on(1), 0x8003, 3), Outcome::Answer(relayed));
    });
}

#[test]
fn a_failure_ends_the_partition_on_all_cores() {
    explore(|| {
        let mut bench = Bench::new(Version::V1_2);
        let index = bench.cast(PartitionConfig { vcpus: 3, ..s_el1(0x8001) }, |mut actor| async move {
            actor.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]).await;
            echo(actor, 1).await;
        });
        for core in 1..3 {
            bench.part(index, core, |actor| echo(actor, 1));
        }
        assert_eq!(bench.boot(), 0);
        let core = |n: u64, payload: u64| -> Box<dyn FnOnce(Bench) -> Outcome + Send> {
            Box::new(move |mut core| {
                if n != 0 {
                    core.core_on();
                }
                ask(&mut core, 0x8001, payload)
            })
        };
        let all = together(&bench, vec![core(0, CRASH), core(1, 1), core(2, 2)]);
        assert_eq!(all[0], Outcome::Error(Status::Aborted));
        for n in 1..3u64 {
            let end = all[n as usize];
            // The last: its core came up when the partition had failed.
            assert!(matches!(end, Outcome::Error(Status::Aborted)) || end == Outcome::Answer(n), "{all:?}");
        }
        bench.assert_at_rest();
        for n in 0..3 {
            assert_eq!(ask(&mut bench.on(n), 0x8001, 1), Outcome::Error(Status::Aborted));
        }
        let faults = bench.world().events.iter().filter(|event| matches!(event, Event::Fault(..))).count();
        assert_eq!(faults, 1, "it is reported once");
    });
}

#[test]
fn cores_that_come_and_go_lose_nothing() {
    explore(|| {
        let bench = system(1, 3);
        for _ in 0..3 {
            for core in 1..3 {
                bench.part(2, core, relay);
            }
        }
        let goes = |n: u64| -> Box<dyn FnOnce(Bench) + Send> {
            Box::new(move |mut core| {
                for _ in 0..2 {
                    core.core_on();
                    let answer = ask(&mut core, 0x8003, n);
                    assert!([n, BUSY].map(Outcome::Answer).contains(&answer), "{answer:?}");
                    assert_eq!(core.core_off(), 0);
                    assert_eq!(ask(&mut core, 0x8003, n), Outcome::Error(Status::Denied), "it has no execution context here now");
                }
                core.core_on();
            })
        };
        let stays: Box<dyn FnOnce(Bench) + Send> = Box::new(|mut core| {
            for receiver in [0x8002, 0x8003] {
                assert!(matches!(ask(&mut core, receiver, 9), Outcome::Answer(9 | BUSY)));
            }
        });
        together(&bench, vec![stays, goes(1), goes(2)]);
        bench.assert_at_rest();
        for n in 0..3 {
            assert_eq!(ask(&mut bench.on(n), 0x8003, 4), Outcome::Answer(4));
        }
    });
}

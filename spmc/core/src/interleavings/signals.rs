//! Notifications, indirect messages, console lines and secure interrupts, from several cores to one receiver.

use super::explore::{explore, explore_times, together};
use crate::PartitionConfig;
use crate::calls::{Call, From};
use crate::fake::*;
use crate::machine::{Address, Machine};
use crate::partition::Methods;
use crate::tables::PAGE;
use crate::vcpu::VcpuId;
use arrayvec::ArrayVec;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

type Core<T> = Box<dyn FnOnce(Bench) -> T + Send>;

/// A call of vCPU `index` of partition `n`, or of the normal world.
fn call(bench: &mut Bench, from: From, x: &[u64]) -> Regs {
    bench.spmc.common_call(&mut bench.machine, &Call { from, regs: &Regs::new(x) }).map_or_else(Regs::error, Regs::of)
}

fn vcpu(partition: u8, index: u8) -> From {
    From::Partition(VcpuId { partition, index })
}

fn id_of(from: From) -> u64 {
    match from {
        From::NormalWorld => 0,
        From::Partition(vcpu) => 0x8001 + u64::from(vcpu.partition),
    }
}

/// Three partitions with two vCPUs each that take notifications and messages; everyone has buffers.
fn system() -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    for n in 0..3 {
        let methods = Methods(s_el1(0).methods.0 | Methods::INDIRECT);
        bench.cast(PartitionConfig { vcpus: 2, methods, ..s_el1(0x8001 + n) }, |_| async {});
    }
    bench.map_buffers();
    for n in 0..3 {
        map(&mut bench, vcpu(n, 0));
    }
    bench
}

/// Where an endpoint's TX is; RX is the page after it.
fn tx(from: From) -> Address {
    match from {
        From::NormalWorld => Address { pa: NORMAL_MEMORY + PAGE, secure: false },
        From::Partition(vcpu) => Address { pa: SECURE_MEMORY + u64::from(vcpu.partition) * PARTITION_MEMORY, secure: true },
    }
}

fn rx(from: From) -> Address {
    match from {
        From::NormalWorld => Address { pa: NORMAL_MEMORY, secure: false },
        From::Partition(_) => Address { pa: tx(from).pa + PAGE, secure: true },
    }
}

fn map(bench: &mut Bench, from: From) {
    let answer = call(bench, from, &[u64::from(function::RXTX_MAP_64), tx(from).pa, rx(from).pa, 1]);
    assert_eq!(answer, Regs::success(&[]));
}

fn bind(bench: &mut Bench, receiver: From, sender: u64, bits: u64) -> Regs {
    call(bench, receiver, &[u64::from(function::NOTIFICATION_BIND), sender << 16 | id_of(receiver), 0, bits])
}

fn set(bench: &mut Bench, sender: From, receiver: u64, bits: u64) -> Regs {
    call(bench, sender, &[u64::from(function::NOTIFICATION_SET), id_of(sender) << 16 | receiver, 0, bits])
}

/// Collects what partitions have set.
fn get(bench: &mut Bench, receiver: From) -> u64 {
    let answer = call(bench, receiver, &[u64::from(function::NOTIFICATION_GET), id_of(receiver), 1]);
    assert_eq!(answer.function(), function::SUCCESS_32);
    answer.0[2]
}

/// A receiver of the normal world, for which partition 1 may set bit 0.
fn with_bitmap(bench: &mut Bench) {
    assert_eq!(bench.call(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 1]), Regs::success(&[]));
    assert_eq!(bind(bench, From::NormalWorld, 0x8002, 1), Regs::success(&[]));
}

#[test]
fn no_notification_is_lost() {
    const ROUNDS: usize = 3;
    explore(|| {
        let mut bench = system();
        let receiver = vcpu(0, 0);
        assert_eq!(bind(&mut bench, receiver, 0x8002, 1), Regs::success(&[]));
        // Sets that have begun, and those that have ended.
        let sets = Arc::new(Mutex::new((0, 0)));
        let setter: Core<()> = {
            let sets = sets.clone();
            Box::new(move |mut bench| {
                for _ in 0..ROUNDS {
                    sets.lock().unwrap().0 += 1;
                    assert_eq!(set(&mut bench, vcpu(1, 0), 0x8001, 1), Regs::success(&[]));
                    sets.lock().unwrap().1 += 1;
                }
            })
        };
        let collect = move |bench: &mut Bench, sets: &Mutex<(usize, usize)>, collected: &mut usize| {
            let ended = sets.lock().unwrap().1;
            if get(bench, receiver) == 1 {
                *collected = sets.lock().unwrap().0;
            } else {
                assert!(ended <= *collected, "a notification that was set is gone");
            }
        };
        let getter: Core<usize> = {
            let sets = sets.clone();
            Box::new(move |mut bench| {
                let mut collected = 0;
                for _ in 0..ROUNDS {
                    collect(&mut bench, &sets, &mut collected);
                }
                collected
            })
        };
        // INFO_GET beside them takes nothing away.
        let informed: Core<usize> = Box::new(|mut bench| {
            let answers = [0; ROUNDS].map(|_| bench.call(&[u64::from(function::NOTIFICATION_INFO_GET_64)]).as_error());
            assert!(answers.iter().all(|status| matches!(status, None | Some(Status::NoData))));
            answers.iter().filter(|status| status.is_none()).count()
        });
        let setter: Core<usize> = Box::new(move |bench| {
            setter(bench);
            0
        });
        let [_, mut collected, told] = together(&bench, vec![setter, getter, informed])[..] else { panic!("three cores") };
        assert!(told <= ROUNDS, "each is told once");
        collect(&mut bench, &sets, &mut collected);
        assert_eq!(get(&mut bench, receiver), 0);
    });
}

#[test]
fn a_notification_is_set_or_unbound() {
    explore(|| {
        let mut bench = system();
        assert_eq!(bind(&mut bench, vcpu(0, 0), 0x8002, 1), Regs::success(&[]));
        with_bitmap(&mut bench);
        let sets: Core<[bool; 2]> = Box::new(|mut bench| [0x8001, 0].map(|to| set(&mut bench, vcpu(1, 0), to, 1).as_error().is_none()));
        let unbinds: Core<[bool; 2]> = Box::new(|mut bench| {
            let unbound = call(&mut bench, vcpu(0, 0), &[u64::from(function::NOTIFICATION_UNBIND), 0x8002_8001, 0, 1]);
            let destroyed = bench.call(&[u64::from(function::NOTIFICATION_BITMAP_DESTROY), 0]);
            [unbound, destroyed].map(|answer| answer.as_error().is_none())
        });
        let [set, gone] = together(&bench, vec![sets, unbinds])[..] else { panic!("two cores") };
        for n in 0..2 {
            assert!(set[n] != gone[n], "set: {set:?}, gone: {gone:?}");
        }
    });
}

#[test]
fn a_notification_has_one_sender() {
    explore(|| {
        let mut bench = system();
        let core = |sender: u64, index: u8| -> Core<bool> { Box::new(move |mut bench| bind(&mut bench, vcpu(0, index), sender, 3).as_error().is_none()) };
        let won = together(&bench, vec![core(0x8002, 0), core(0x8003, 1)]);
        assert!(won[0] != won[1], "{won:?}");
        for n in 0..2 {
            let answer = set(&mut bench, vcpu(1 + n, 0), 0x8001, 2);
            assert_eq!(answer.as_error(), (!won[usize::from(n)]).then_some(Status::Denied));
        }
    });
}

/// Bytes of a message's payload: more than are copied at a time.
const PAYLOAD: usize = 600;

fn message(from: From, to: u64) -> Vec<u8> {
    let words = [0, 0, 40, (id_of(from) << 16 | to) as u32, PAYLOAD as u32];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.resize(40, 0);
    bytes.resize(40 + PAYLOAD, id_of(from) as u8 + 1);
    bytes
}

fn read(bench: &mut Bench, at: Address) -> Vec<u8> {
    let mut bytes = vec![0; 40 + PAYLOAD];
    bench.machine.read(at, &mut bytes).unwrap();
    bytes
}

/// Takes the message that the framework tells of, if there is one; it must be whole, and stay so until it is released.
fn take(bench: &mut Bench, receiver: From) -> usize {
    let told = call(bench, receiver, &[u64::from(function::NOTIFICATION_GET), id_of(receiver), 0xc]);
    if told.0[6] | told.0[7] == 0 {
        return 0;
    }
    let found = read(bench, rx(receiver));
    let senders = [From::NormalWorld, vcpu(0, 0), vcpu(1, 0)];
    assert!(senders.iter().any(|sender| found == message(*sender, id_of(receiver))), "it is nobody's message");
    shuttle::thread::yield_now();
    assert_eq!(read(bench, rx(receiver)), found, "it was overwritten");
    assert_eq!(call(bench, receiver, &[u64::from(function::RX_RELEASE)]), Regs::success(&[]));
    1
}

#[test]
fn messages_arrive_whole_and_once() {
    explore(|| {
        let mut bench = system();
        let sender = |from: From| -> Core<usize> {
            Box::new(move |mut bench| {
                let mut sent = 0;
                bench.machine.write(tx(from), &message(from, 0x8003)).unwrap();
                for _ in 0..3 {
                    match call(&mut bench, from, &[u64::from(function::MSG_SEND2)]).as_error() {
                        None => sent += 1,
                        Some(status) => assert_eq!(status, Status::Busy),
                    }
                }
                sent
            })
        };
        let receiver: Core<usize> = Box::new(|mut bench| (0..4).map(|_| take(&mut bench, vcpu(2, 0))).sum());
        let [a, b, received] = together(&bench, vec![sender(From::NormalWorld), sender(vcpu(0, 0)), receiver])[..] else { panic!("three cores") };
        let last = take(&mut bench, vcpu(2, 0));
        assert_eq!(a + b, received + last, "each that was sent came, once");
        assert!(a + b > 0);
    });
}

#[test]
fn messages_both_ways_lock_nobody_out() {
    explore(|| {
        let bench = system();
        let core = |from: From, to: u64| -> Core<()> {
            Box::new(move |mut bench| {
                bench.machine.write(tx(from), &message(from, to)).unwrap();
                for _ in 0..2 {
                    let answer = call(&mut bench, from, &[u64::from(function::MSG_SEND2)]);
                    assert!(matches!(answer.as_error(), None | Some(Status::Busy)));
                    let _ = call(&mut bench, from, &[u64::from(function::RX_RELEASE)]);
                }
            })
        };
        together(&bench, vec![core(From::NormalWorld, 0x8001), core(vcpu(0, 0), 0x8002), core(vcpu(1, 0), 0)]);
        bench.assert_at_rest();
    });
}

#[test]
fn nothing_is_written_into_buffers_that_were_unmapped() {
    explore(|| {
        let bench = system();
        let sender: Core<()> = Box::new(|mut bench| {
            bench.machine.write(tx(vcpu(0, 0)), &message(vcpu(0, 0), 0x8003)).unwrap();
            for _ in 0..3 {
                let answer = call(&mut bench, vcpu(0, 0), &[u64::from(function::MSG_SEND2)]);
                assert!(matches!(answer.as_error(), None | Some(Status::Busy)), "{answer:x?}");
            }
        });
        let receiver: Core<()> = Box::new(|mut bench| {
            let own = vcpu(2, 0);
            for _ in 0..2 {
                assert_eq!(call(&mut bench, own, &[u64::from(function::RXTX_UNMAP)]), Regs::success(&[]));
                let pattern = vec![0x5a; 40 + PAYLOAD];
                bench.machine.write(rx(own), &pattern).unwrap();
                for _ in 0..3 {
                    shuttle::thread::yield_now();
                    assert_eq!(read(&mut bench, rx(own)), pattern);
                }
                map(&mut bench, own);
            }
        });
        together(&bench, vec![sender, receiver]);
    });
}

#[test]
fn lines_of_one_partition_on_two_cores_stay_whole() {
    explore(|| {
        let bench = system();
        let core = |index: u8, text: &'static [u8; 8]| -> Core<()> {
            Box::new(move |mut bench| {
                for _ in 0..2 {
                    let answer = call(&mut bench, vcpu(0, index), &[u64::from(function::CONSOLE_LOG_64), 8, u64::from_le_bytes(*text)]);
                    assert_eq!(answer, Regs::success(&[]));
                }
            })
        };
        together(&bench, vec![core(0, b"aaaaaaa\n"), core(1, b"bbbbbbb\n")]);
        let mut printed = bench.world().printed();
        printed.sort();
        assert_eq!(printed, ["0: aaaaaaa", "0: aaaaaaa", "0: bbbbbbb", "0: bbbbbbb"]);
    });
}

/// Handles its interrupts whenever it runs, and echoes.
async fn handler(mut actor: Actor, handled: Arc<Mutex<Vec<u64>>>, s_el0: bool) {
    if !s_el0 {
        for interrupt in [40, 41] {
            actor.call(&[0xff03, interrupt, 1]).await;
        }
    }
    let mut message = actor.wait().await;
    loop {
        if s_el0 && message.function() == function::INTERRUPT {
            handled.lock().unwrap().push(message.0[2]);
        }
        while actor.irq() {
            let interrupt = actor.interrupt().await;
            handled.lock().unwrap().push(interrupt);
            actor.call(&[0xff08, interrupt]).await;
        }
        message = match message.function() {
            function::MSG_SEND_DIRECT_REQ_32 => actor.respond(&message, &[message.0[3]]).await,
            _ => actor.wait().await,
        };
    }
}

#[test]
fn each_secure_interrupt_is_handled_once() {
    for s_el0 in [false, true] {
        explore_times(6, move || {
            let mut bench = Bench::new(Version::V1_2);
            let handled = Arc::new(Mutex::new(Vec::new()));
            let theirs = handled.clone();
            let interrupts = ArrayVec::from_iter([40, 41]);
            bench.cast(PartitionConfig { s_el0, interrupts, ..s_el1(0x8001) }, move |actor| handler(actor, theirs, s_el0));
            assert_eq!(bench.boot(), 0);
            let asks: Core<()> = Box::new(|mut core| {
                for n in 0..3 {
                    let answer = core.request(0x8001, &[n]);
                    assert!(answer.as_error() == Some(Status::Busy) || answer.0[3] == n, "{answer:x?}");
                }
            });
            let interrupted = |id: u32| -> Core<()> { Box::new(move |mut core| core.secure_interrupt(id)) };
            together(&bench, vec![asks, interrupted(40), interrupted(41)]);
            // Cores that the SPMC has interrupted get there late.
            let late: Vec<_> = bench.world().events.iter().filter_map(|event| if let Event::Interrupted(core) = event { Some(*core) } else { None }).collect();
            for core in late {
                bench.on(core).own_interrupt();
            }
            bench.assert_at_rest();
            let mut all = handled.lock().unwrap().clone();
            all.sort_unstable();
            assert_eq!(all, [40, 41]);
        });
    }
}

//! Initialisation, secondary cores, the SPMD's messages.

use crate::PartitionConfig;
use crate::fake::*;
use crate::fault::FaultKind;
use crate::machine::Exit;
use crate::partition::{PartitionIndex, PowerMessages};
use bulkhead_ffa::{Regs, Status, Version, function};

const RESP: u64 = function::MSG_SEND_DIRECT_RESP_32 as u64;
const OFF: PowerMessages = PowerMessages { off: true, suspend: false, resume: false };
const REGISTER: u64 = function::SECONDARY_EP_REGISTER_64 as u64;

fn fault_of(bench: &Bench) -> Option<FaultKind> {
    bench.world().events.iter().find_map(|event| if let Event::Fault(_, fault) = event { Some(fault.kind) } else { None })
}

/// The kind of fault that ends a partition which initialises like this.
fn ends_with(script: impl FnOnce(&mut Guest) + Send + 'static) -> FaultKind {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), script);
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.respond(&request, &[1]);
    });
    assert_eq!(bench.boot(), 1);
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.request(0x8002, &[]).0[3], 1, "the other one is up");
    fault_of(&bench).expect("the fault is reported")
}

#[test]
fn partitions_come_up_in_boot_order_and_are_listed() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        guest.call(&[u64::from(function::VERSION), 0x1_0001]);
    });
    bench.add(s_el1(0x8002), |guest| {
        assert_eq!(guest.entry, 0x1000);
        assert_eq!(guest.regs(), Regs::new(&[0x2000]));
        assert!(guest.held());
    });
    bench.spmc.set_boot_order(&[1, 0]);
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.world().printed(), ["partition 0x8002 up: FF-A 1.2 spoken, 1 ms", "partition 0x8001 up: FF-A 1.1 spoken, 1 ms"]);
}

#[test]
fn an_initialisation_that_ends_otherwise_ends_the_partition() {
    assert_eq!(ends_with(|guest| guest.crash()), FaultKind::Exception);
    let error_code = Status::NoMemory.code();
    let failed = ends_with(move |guest| _ = guest.call(&[u64::from(function::ERROR), 0, error_code]));
    assert_eq!(failed, FaultKind::InitError(-3));
    assert_eq!(ends_with(|guest| _ = guest.call(&[RESP, 0x8001_0000])), FaultKind::BadInitEnd(RESP as u32));
    assert_eq!(ends_with(|guest| _ = guest.call(&[u64::from(function::ABORT_32)])), FaultKind::Abort);
}

#[test]
fn an_initialisation_has_a_time_limit() {
    let late = |guest: &mut Guest| {
        guest.stop(Exit::SecureInterrupt);
        guest.bench.world().time_is_up = true;
        guest.stop(Exit::SecureInterrupt);
    };
    assert_eq!(ends_with(late), FaultKind::TimeLimit);
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |_| {});
    bench.boot();
    let limits: std::vec::Vec<_> = bench.world().events.iter().filter(|e| matches!(e, Event::TimeLimit(_))).cloned().collect();
    assert_eq!(limits, [Event::TimeLimit(Some(100)), Event::TimeLimit(None)]);
}

#[test]
fn the_time_limit_holds_for_what_an_initialisation_calls() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        guest.wait();
        guest.bench.world().time_is_up = true;
        guest.stop(Exit::SecureInterrupt);
    });
    bench.add(s_el1(0x8002), |guest| {
        assert_eq!(guest.request(0x8001, &[]), error(Status::Aborted));
        assert!(!guest.bench.world().time_is_up, "a new limit runs");
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
}

#[test]
fn a_request_has_no_time_limit() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let request = guest.wait();
        guest.bench.world().time_is_up = true;
        guest.stop(Exit::SecureInterrupt);
        guest.respond(&request, &[2]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 2);
}

#[test]
fn a_normal_world_interrupt_does_not_end_an_initialisation() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| guest.stop(Exit::NormalWorldInterrupt));
    assert_eq!(bench.boot(), 0);
}

#[test]
fn a_failed_partition_leaves_nothing_behind() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(s_el1(0x8001), |guest| {
        guest.call(&[u64::from(function::RXTX_MAP_64), SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]);
        guest.crash();
    });
    assert_eq!(bench.boot(), 1);
    assert!(bench.world().saw(&Event::Quiesced(index)));
    let partition = bench.spmc.partition(index).unwrap().0;
    assert!(!partition.endpoint.mailbox.lock().holds(SECURE_MEMORY));
}

/// A partition with a vCPU for each of four cores; each answers with its number.
fn multiprocessor(config: PartitionConfig) -> (Bench, PartitionIndex) {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(PartitionConfig { vcpus: 4, ..config }, |guest| {
        assert_eq!(guest.call(&[REGISTER, SECURE_MEMORY + 0x2004]), Regs::success(&[]));
        serve(guest);
    });
    for core in 1..4 {
        bench.script(index, core, serve);
    }
    assert_eq!(bench.boot(), 0);
    (bench, index)
}

fn serve(guest: &mut Guest) {
    let mut message = guest.wait();
    loop {
        let core = guest.core() as u64;
        message = guest.respond(&message, &[core]);
    }
}

#[test]
fn secondary_contexts_start_at_the_registered_entry() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(PartitionConfig { vcpus: 4, ..s_el1(0x8001) }, |guest| {
        guest.call(&[REGISTER, SECURE_MEMORY + 0x2004]);
    });
    bench.script(index, 2, |guest| {
        assert_eq!((guest.entry, guest.regs(), guest.core()), (SECURE_MEMORY + 0x2004, Regs::new(&[2]), 2));
        assert!(guest.held());
        let request = guest.wait();
        guest.respond(&request, &[22]);
    });
    bench.boot();
    assert_eq!(bench.on(2).request(0x8001, &[]), error(Status::Denied), "not before the core is on");
    bench.on(2).core_on();
    assert_eq!(bench.on(2).request(0x8001, &[]).0[3], 22);
}

#[test]
fn each_core_has_its_context() {
    let (bench, _) = multiprocessor(s_el1(0x8001));
    for core in 1..4 {
        bench.on(core).core_on();
    }
    for core in 0..4 {
        assert_eq!(bench.on(core).request(0x8001, &[]).0[3], core as u64);
    }
    bench.on(5).core_on();
    assert_eq!(bench.on(5).request(0x8001, &[]), error(Status::Denied), "the manifest has four");
}

#[test]
fn a_partition_that_registered_nothing_stays_on_its_core() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vcpus: 4, ..s_el1(0x8001) }, |_| {});
    bench.boot();
    bench.on(1).core_on();
    assert_eq!(bench.on(1).request(0x8001, &[]), error(Status::Denied));
}

#[test]
fn a_secondary_context_that_fails_ends_the_partition() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(PartitionConfig { vcpus: 2, ..s_el1(0x8001) }, |guest| {
        guest.call(&[REGISTER, SECURE_MEMORY]);
    });
    bench.script(index, 1, |guest| guest.crash());
    bench.boot();
    bench.on(1).core_on();
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
}

#[test]
fn entries_are_registered_once_initialised_never_and_inside_the_own_memory() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vcpus: 4, ..s_el1(0x8001) }, |guest| {
        for entry in [0, NORMAL_MEMORY, SECURE_MEMORY + PAGES * 0x1000, SECURE_MEMORY + 2, u64::MAX] {
            assert_eq!(guest.call(&[REGISTER, entry]), error(Status::InvalidParameters), "{entry:#x}");
        }
        assert_eq!(guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_32), SECURE_MEMORY]), Regs::success(&[]));
        let as_op_tee_does = [REGISTER, SECURE_MEMORY, 0, 0, 4, 5, 6, 7];
        assert_eq!(guest.call(&as_op_tee_does), Regs::success(&[]), "what it leaves in reserved registers is no matter");
        guest.wait();
        assert_eq!(guest.call(&[REGISTER, SECURE_MEMORY]), error(Status::Denied));
    });
    bench.add(s_el1(0x8002), |guest| {
        assert_eq!(guest.call(&[REGISTER, SECURE_MEMORY + PARTITION_MEMORY]), error(Status::NotSupported), "it has one vCPU");
    });
    assert_eq!(bench.boot(), 0);
    bench.resume(0x8001, 0);
    assert_eq!(bench.call(&[REGISTER, NORMAL_MEMORY]), error(Status::NotSupported));
}

#[test]
fn a_core_that_goes_off_and_comes_back_starts_anew() {
    let (bench, index) = multiprocessor(s_el1(0x8001));
    let mut core = bench.on(1);
    core.core_on();
    assert_eq!(core.core_off(), 0);
    assert_eq!(core.request(0x8001, &[]), error(Status::Denied));
    bench.script(index, 1, |guest| {
        let request = guest.wait();
        guest.respond(&request, &[111]);
    });
    core.core_on();
    assert_eq!(core.request(0x8001, &[]).0[3], 111);
}

#[test]
fn a_partition_that_asked_for_it_is_told_that_a_core_goes_off() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vcpus: 2, power_messages: OFF, ..s_el1(0x8001) }, |guest| {
        let message = guest.wait();
        assert_eq!(message, Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), 0x8000_8001, 0x8000_0000, 0x8400_0002]));
        assert!(guest.held());
        guest.call(&[RESP, 0x8001_8000, 0x8000_0002, 0]);
        unreachable!("its core is off");
    });
    bench.boot();
    assert_eq!(bench.core_off(), 0);
    assert_eq!(bench.request(0x8001, &[]), error(Status::Denied));
}

#[test]
fn no_answer_of_a_partition_keeps_a_core_up() {
    let wrong: [fn(&mut Guest); 4] = [
        |guest| _ = guest.call(&[u64::from(function::ERROR), 0, Status::Denied.code()]),
        |guest| _ = guest.call(&[RESP, 0x8001_8000, 0x8000_0002, 0xffff_ffff]),
        |guest| guest.crash(),
        |guest| {
            guest.bench.world().time_is_up = true;
            guest.stop(Exit::SecureInterrupt);
        },
    ];
    for answer in wrong {
        let mut bench = Bench::new(Version::V1_2);
        bench.add(PartitionConfig { vcpus: 2, power_messages: OFF, ..s_el1(0x8001) }, move |guest| {
            guest.wait();
            assert_eq!(guest.call(&[u64::from(function::MSG_WAIT)]), error(Status::Denied));
            assert_eq!(guest.request(0x8002, &[]), error(Status::Denied));
            assert_eq!(guest.call(&[u64::from(function::YIELD)]), error(Status::Denied));
            assert_eq!(guest.call(&[RESP, 0x8001_8000, 0, 0]), error(Status::Denied), "not a framework message");
            answer(guest);
        });
        bench.add(s_el1(0x8002), |_| {});
        bench.boot();
        assert_eq!(bench.core_off(), 0);
        assert_ne!(bench.request(0x8001, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
    }
}

/// Section 18.2.4: subscribers hear of a suspend, and may deny it; and of the core's return.
#[test]
fn a_suspend_is_announced_to_who_asked_for_it() {
    const SUSPEND: u64 = 0xc400_0001;
    let tell = |bench: &mut Bench, kind: u64, value: u64| {
        let answer = bench.call(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), 0xffff_8000, 1 << 31 | kind, value]);
        assert_eq!(answer.0[..3], [RESP, 0x8000_ffff, 0x8000_0002]);
        answer.0[3]
    };
    let mut bench = Bench::new(Version::V1_2);
    let both = PowerMessages { off: false, suspend: true, resume: true };
    bench.add(PartitionConfig { vcpus: 2, power_messages: both, ..s_el1(0x8001) }, |guest| {
        let request = u64::from(function::MSG_SEND_DIRECT_REQ_32);
        assert_eq!(guest.wait(), Regs::new(&[request, 0x8000_8001, 0x8000_0000, SUSPEND]));
        assert!(guest.held());
        let next = guest.call(&[RESP, 0x8001_8000, 0x8000_0002, 0]);
        assert_eq!(next, Regs::new(&[request, 0x8000_8001, 0x8000_0001, 1]));
        let next = guest.call(&[RESP, 0x8001_8000, 0x8000_0002, 0]);
        assert_eq!(next.0[3], SUSPEND);
        let message = guest.call(&[RESP, 0x8001_8000, 0x8000_0002, 0xffff_fffd]);
        guest.respond(&message, &[5]);
    });
    bench.add(PartitionConfig { vcpus: 2, power_messages: OFF, ..s_el1(0x8002) }, |_| {});
    bench.boot();
    assert_eq!(tell(&mut bench, 0, SUSPEND), 0);
    assert_eq!(tell(&mut bench, 1, 1), 0);
    assert_eq!(tell(&mut bench, 0, SUSPEND), 0xffff_fffd, "it is denied");
    assert_eq!(bench.request(0x8001, &[]).0[3], 5, "and its context is as it was");
    assert_eq!(tell(&mut bench.on(1), 0, SUSPEND), 0, "nobody runs there");
}

#[test]
fn a_request_in_progress_survives_its_cores_sleep() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vcpus: 2, ..s_el1(0x8001) }, |guest| {
        guest.call(&[REGISTER, SECURE_MEMORY]);
        let request = guest.wait();
        guest.stop(Exit::NormalWorldInterrupt);
        guest.respond(&request, &[9]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
    assert_eq!(bench.core_off(), 0);
    bench.core_on();
    assert_eq!(bench.world().printed().last().unwrap(), "partition 0x8001 keeps vCPU 0 as it was when the core went off");
    assert_eq!(bench.resume(0x8001, 0).0[3], 9);
}

#[test]
fn an_unknown_framework_message_is_not_supported() {
    let mut bench = Bench::new(Version::V1_2);
    for (kind, psci) in [(0x8000_0000, 0x8400_0008), (0x8000_0005, 0), (0, 0)] {
        let answer = bench.call(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), 0xffff_8000, kind, psci]);
        assert_eq!(answer, Regs::new(&[RESP, 0x8000_ffff, 0x8000_0002, 0xffff_ffff]));
    }
}

//! Notifications: the calls as Linux (receiver 0) and OP-TEE (sender, delayed) make them, and their errors.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::Exit;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::vec::Vec;

const CREATE: u64 = function::NOTIFICATION_BITMAP_CREATE as u64;
const DESTROY: u64 = function::NOTIFICATION_BITMAP_DESTROY as u64;
const BIND: u64 = function::NOTIFICATION_BIND as u64;
const UNBIND: u64 = function::NOTIFICATION_UNBIND as u64;
const SET: u64 = function::NOTIFICATION_SET as u64;
const GET: u64 = function::NOTIFICATION_GET as u64;
const INFO: u64 = function::NOTIFICATION_INFO_GET_64 as u64;
const INFO_32: u64 = function::NOTIFICATION_INFO_GET_32 as u64;
const PER_VCPU: u64 = 1;
const DELAY: u64 = 2;
const OK: [u64; 1] = [function::SUCCESS_32 as u64];

/// Linux with a bitmap for four vCPUs, and a partition 0x8001 that does `script` on a request.
fn linux_and(script: impl FnOnce(&mut Guest) + Send + 'static) -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let request = guest.wait();
        script(guest);
        guest.respond(&request, &[]);
    });
    bench.boot();
    assert_eq!(bench.call(&[CREATE, 0, 4]), Regs::new(&OK));
    bench
}

fn ok() -> Regs {
    Regs::new(&OK)
}

#[test]
fn op_tee_tells_linux_by_a_delayed_global_notification() {
    let mut bench = linux_and(|guest| {
        assert_eq!(guest.call(&[SET, 0x8001_0000, DELAY, 1 << 5]), ok());
        assert!(!guest.bench.world().saw(&Event::ScheduleReceiver(0)), "the interrupt waits for the way out");
    });
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 0, 1 << 5]), ok());
    bench.request(0x8001, &[]);
    assert!(bench.world().saw(&Event::ScheduleReceiver(0)));
    assert_eq!(bench.call(&[INFO]), Regs::new(&[u64::from(function::SUCCESS_64), 0, 1 << 7, 0]));
    assert_eq!(bench.call(&[INFO]), error(Status::NoData), "each is reported once");
    assert_eq!(bench.call(&[GET, 0x2_0000, 5]), Regs::success(&[1 << 5]));
    assert_eq!(bench.call(&[GET, 0x2_0000, 5]), Regs::success(&[]), "it was collected");
}

#[test]
fn without_the_flag_the_interrupt_is_raised_at_once() {
    let mut bench = linux_and(|guest| {
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 0, 1 << 31]), ok());
        assert!(guest.bench.world().saw(&Event::ScheduleReceiver(0)));
    });
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 0, 0, 1 << 31]), ok());
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[GET, 0, 1]), Regs::success(&[0, 1 << 31]));
}

#[test]
fn a_per_vcpu_notification_is_for_that_vcpu() {
    let mut bench = linux_and(|guest| {
        assert_eq!(guest.call(&[SET, 0x8001_0000, PER_VCPU | 3 << 16, 2]), ok());
        assert_eq!(guest.call(&[SET, 0x8001_0000, PER_VCPU | 4 << 16, 2]), invalid(), "there is no vCPU 4");
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 2]), invalid(), "it is not bound as a global one");
        assert_eq!(guest.call(&[SET, 0x8001_0000, 1 << 16, 2]), invalid(), "a global one has no vCPU");
    });
    assert_eq!(bench.call(&[BIND, 0x8001_0000, PER_VCPU, 2]), ok());
    bench.request(0x8001, &[]);
    let list = 1 << 12 | 1 << 7;
    assert_eq!(bench.call(&[INFO]), Regs::new(&[u64::from(function::SUCCESS_64), 0, list, 3 << 16]));
    assert_eq!(bench.call(&[GET, 0, 1]), Regs::success(&[]));
    assert_eq!(bench.call(&[GET, 0x3_0000, 1]), Regs::success(&[2]));
}

#[test]
fn a_sender_sets_only_what_is_bound_to_it() {
    let mut bench = linux_and(|guest| {
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 4]), denied(), "bound to 0x8002");
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 8]), denied(), "not bound");
        assert_eq!(guest.call(&[SET, 0x8002_0000, 0, 4]), invalid(), "in another's name");
        assert_eq!(guest.call(&[SET, 0x8001_0001, 0, 4]), denied(), "a receiver that does not exist");
        assert_eq!(guest.call(&[SET, 0x8001_8009, 0, 4]), invalid());
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 0]), invalid(), "no bit");
        assert_eq!(guest.call(&[SET, 0x8001_0000, 4, 4]), invalid(), "a reserved flag");
    });
    bench.add(s_el1(0x8002), |_| {});
    assert_eq!(bench.call(&[BIND, 0x8002_0000, 0, 4]), ok());
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[INFO]), error(Status::NoData));
}

/// Section 16.5: only who runs in the secure world can have the schedule receiver interrupt wait for its end.
#[test]
fn the_normal_world_may_not_delay_the_interrupt() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| assert_eq!(guest.call(&[BIND, 0x0001_8001, 0, 1]), ok()));
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[SET, 0x0001_8001, DELAY, 1]), invalid());
    assert_eq!(bench.call(&[INFO]), error(Status::NoData));
    assert_eq!(bench.call(&[SET, 0x0001_8001, 0, 1]), ok());
    assert!(bench.world().saw(&Event::ScheduleReceiver(0)));
}

/// Section 16.5: the per-vCPU flag must be the one of the binding.
#[test]
fn a_notification_is_set_as_it_is_bound() {
    let mut bench = linux_and(|guest| {
        for (flags, bits) in [(PER_VCPU, 1), (0, 2), (0, 3), (PER_VCPU, 3)] {
            assert_eq!(guest.call(&[SET, 0x8001_0000, flags, bits]), invalid(), "{flags} {bits}");
        }
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 1]), ok());
        assert_eq!(guest.call(&[SET, 0x8001_0000, PER_VCPU, 2]), ok());
    });
    bench.call(&[BIND, 0x8001_0000, 0, 1]);
    bench.call(&[BIND, 0x8001_0000, PER_VCPU, 2]);
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[GET, 0, 1]), Regs::success(&[3]));
}

#[test]
fn bitmaps_are_made_once_and_by_the_normal_world_alone() {
    let mut bench = linux_and(|guest| {
        assert_eq!(guest.call(&[CREATE, 1, 1]), error(Status::NotSupported));
        assert_eq!(guest.call(&[DESTROY, 0]), error(Status::NotSupported));
        assert_eq!(guest.call(&[INFO]), error(Status::NotSupported));
    });
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[CREATE, 0, 4]), denied());
    for (id, vcpus) in [(0x8001, 1), (1, 0), (1, 9), (0x1_0001, 1)] {
        assert_eq!(bench.call(&[CREATE, id, vcpus]), invalid(), "{id:#x} {vcpus}");
    }
    for id in 1..4 {
        assert_eq!(bench.call(&[CREATE, id, 1]), ok());
    }
    assert_eq!(bench.call(&[CREATE, 4, 1]), error(Status::NoMemory));
    assert_eq!(bench.call(&[DESTROY, 2]), ok());
    assert_eq!(bench.call(&[DESTROY, 2]), denied());
    assert_eq!(bench.call(&[CREATE, 4, 1]), ok());
}

#[test]
fn a_bitmap_with_something_pending_stays() {
    let mut bench = linux_and(|guest| assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 1]), ok()));
    bench.call(&[BIND, 0x8001_0000, 0, 1]);
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[DESTROY, 0]), denied());
    assert_eq!(bench.call(&[UNBIND, 0x8001_0000, 0, 1]), denied());
    bench.call(&[GET, 0, 1]);
    assert_eq!(bench.call(&[DESTROY, 0]), denied(), "a bit is bound");
    assert_eq!(bench.call(&[UNBIND, 0x8001_0000, 0, 1]), ok());
    assert_eq!(bench.call(&[DESTROY, 0]), ok());
    assert_eq!(bench.call(&[GET, 0, 1]), denied(), "there is no bitmap");
}

#[test]
fn bindings_are_exclusive() {
    let mut bench = linux_and(|_| {});
    bench.add(s_el1(0x8002), |_| {});
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 0, 6]), ok());
    assert_eq!(bench.call(&[BIND, 0x8002_0000, 0, 3]), denied());
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 0, 2]), denied());
    assert_eq!(bench.call(&[UNBIND, 0x8002_0000, 0, 2]), denied(), "bound to another");
    assert_eq!(bench.call(&[UNBIND, 0x8001_0000, 0, 7]), denied(), "bit 0 is not bound");
    assert_eq!(bench.call(&[UNBIND, 0x8001_0000, 1, 2]), invalid(), "a reserved flag");
    assert_eq!(bench.call(&[UNBIND, 0x8001_0000, 0, 6]), ok());
    assert_eq!(bench.call(&[BIND, 0x8002_0000, 0, 3]), ok());
}

#[test]
fn wrong_bindings_are_invalid() {
    let mut bench = linux_and(|_| {});
    assert_eq!(bench.call(&[BIND, 0x8009_0000, 0, 1]), invalid(), "unknown sender");
    assert_eq!(bench.call(&[BIND, 0x0001_0000, 0, 1]), invalid(), "a VM's sender is the hypervisor's matter");
    assert_eq!(bench.call(&[BIND, 0x8001_8001, 0, 1]), invalid(), "receiver is the sender");
    assert_eq!(bench.call(&[BIND, 0x8001_8002, 0, 1]), invalid(), "for another receiver");
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 2, 1]), invalid(), "a reserved flag");
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 0, 0]), invalid(), "no bit");
    assert_eq!(bench.call(&[BIND, 0x8001_0003, 0, 1]), denied(), "a VM without a bitmap");
}

#[test]
fn what_should_be_zero_is_not_looked_at() {
    let mut bench = linux_and(|guest| assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 1, 0, 9, 9, 9]), ok()));
    assert_eq!(bench.call(&[CREATE, 1, 1, 9, 9, 9, 9, 9]), ok());
    assert_eq!(bench.call(&[DESTROY, 1, 9, 9, 9, 9, 9, 9]), ok());
    assert_eq!(bench.call(&[BIND, 0x8001_0000, 0, 1, 0, 9, 9, 9]), ok());
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[INFO, 9, 9, 9, 9, 9, 9, 9]).function(), function::SUCCESS_64);
    assert_eq!(bench.call(&[GET, 0, 1, 9, 9, 9, 9, 9]), Regs::success(&[1]));
    assert_eq!(bench.call(&[UNBIND, 0x8001_0000, 0, 1, 0, 9, 9, 9]), ok());
}

#[test]
fn get_checks_receiver_vcpu_and_flags() {
    let mut bench = linux_and(|_| {});
    assert_eq!(bench.call(&[GET, 0x4_0000, 1]), invalid());
    assert_eq!(bench.call(&[GET, 0x8001, 1]), invalid());
    assert_eq!(bench.call(&[GET, 0, 0x10]), invalid());
    assert_eq!(bench.call(&[GET, 3, 1]), denied());
    assert_eq!(bench.call(&[GET, 0xffff_0003, 1]), invalid(), "no endpoint has that vCPU");
    assert_eq!(bench.call(&[GET, 0, 5]), Regs::success(&[]));
    for flag in [2, 8] {
        assert_eq!(bench.call(&[GET, 0, 1 | flag]), invalid(), "what the normal world's own side sets is its hypervisor's");
    }
}

#[test]
fn a_partition_is_told_by_a_virtual_interrupt() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        guest.call(&[0xff03, 5, 1]);
        assert_eq!(guest.call(&[BIND, 0x0000_8001, 0, 1]), ok());
        assert_eq!(guest.call(&[BIND, 0x8002_8001, 0, 1]), ok(), "senders of the two worlds have bits of their own");
        let request = guest.wait();
        assert!(!guest.irq());
        let request = guest.respond(&request, &[]);
        assert!(guest.irq());
        assert_eq!(guest.interrupt(), 5);
        assert!(!guest.irq());
        assert_eq!(guest.call(&[GET, 0x8001, 3]), Regs::success(&[1, 0, 1]));
        guest.respond(&request, &[]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        assert_eq!(guest.call(&[SET, 0x8002_8001, 0, 1]), ok());
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
    assert_eq!(bench.call(&[SET, 0x0000_8001, 0, 1]), ok());
    bench.request(0x8002, &[]);
    assert_eq!(bench.call(&[INFO]), Regs::new(&[u64::from(function::SUCCESS_64), 0, 1 << 7, 0x8001]));
    bench.request(0x8001, &[]);
}

#[test]
fn the_notice_of_a_notification_is_enabled_from_the_start() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[BIND, 0x0000_8001, 0, 1]), ok());
        let request = guest.wait();
        assert!(guest.irq());
        assert_eq!(guest.interrupt(), 5);
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.call(&[SET, 0x0000_8001, 0, 1]);
    bench.request(0x8001, &[]);
}

#[test]
fn a_receiver_that_runs_on_another_core_is_interrupted() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[BIND, 0x0000_8001, 0, 3]), ok());
        guest.call(&[0xff03, 5, 0]);
        let request = guest.wait();
        assert_eq!(guest.bench.on(0).call(&[SET, 0x0000_8001, 0, 1]), ok());
        assert!(!guest.bench.world().saw(&Event::Interrupted(1)), "it has disabled the interrupt");
        guest.call(&[0xff03, 5, 1]);
        assert_eq!(guest.interrupt(), 5);
        assert_eq!(guest.bench.on(0).call(&[SET, 0x0000_8001, 0, 2]), ok());
        assert!(guest.bench.world().saw(&Event::Interrupted(1)));
        assert!(!guest.irq());
        guest.stop(Exit::SecureInterrupt);
        assert!(guest.irq(), "it sees it without a call of its own");
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.on(1).request(0x8001, &[]);
    bench.call(&[SET, 0x0000_8001, 0, 1]);
    let interruptions = bench.world().events.iter().filter(|event| matches!(event, Event::Interrupted(_))).count();
    assert_eq!(interruptions, 1, "a waiting one needs none");
}

#[test]
fn a_partition_without_notifications_takes_none() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { notifications: false, ..s_el1(0x8001) }, |guest| {
        assert_eq!(guest.call(&[BIND, 0x0000_8001, 0, 1]), denied());
        assert_eq!(guest.call(&[GET, 0x8001, 1]), denied());
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[SET, 0x0000_8001, 0, 1]), denied());
}

#[test]
fn v1_0_has_no_notifications() {
    let mut bench = Bench::new(Version::V1_0);
    for call in [CREATE, DESTROY, BIND, UNBIND, SET, GET, INFO] {
        assert_eq!(bench.call(&[call, 0, 1, 1]), error(Status::NotSupported), "{call:#x}");
    }
}

/// Binds bit 0 of every VM as per-vCPU and bit 1 as global, all to 0x8001, which then sets everything.
fn everything_pending() -> Bench {
    let mut bench = linux_and(|guest| {
        for vm in 0..4 {
            assert_eq!(guest.call(&[SET, 0x8001_0000 | vm, 0, 2]), ok());
            for vcpu in 0..4 {
                assert_eq!(guest.call(&[SET, 0x8001_0000 | vm, PER_VCPU | vcpu << 16, 1]), ok());
            }
        }
    });
    for vm in 0..4 {
        if vm != 0 {
            bench.call(&[CREATE, vm, 4]);
        }
        bench.call(&[BIND, 0x8001_0000 | vm, PER_VCPU, 1]);
        bench.call(&[BIND, 0x8001_0000 | vm, 0, 2]);
    }
    bench.request(0x8001, &[]);
    bench
}

/// What the lists of FFA_NOTIFICATION_INFO_GET say, unpacked as Linux does it.
fn unpack(answer: &Regs, per_register: usize) -> (bool, Vec<(u16, Vec<u16>)>) {
    let ids: Vec<u16> = (0..5 * per_register).map(|n| (answer.0[3 + n / per_register] >> (16 * (n % per_register))) as u16).collect();
    let (lists, mut sizes, mut at) = (answer.0[2] >> 7 & 0x1f, answer.0[2] >> 12, 0);
    let mut found = Vec::new();
    for _ in 0..lists {
        let vcpus = (sizes & 3) as usize;
        found.push((ids[at], ids[at + 1..=at + vcpus].to_vec()));
        sizes >>= 2;
        at += vcpus + 1;
    }
    (answer.0[2] & 1 != 0, found)
}

#[test]
fn info_is_given_in_pieces_and_each_piece_once() {
    for (call, per_register) in [(INFO, 4), (INFO_32, 2)] {
        let mut bench = everything_pending();
        let mut seen = Vec::new();
        loop {
            let (more, lists) = unpack(&bench.call(&[call]), per_register);
            assert!(!lists.is_empty());
            for (vm, vcpus) in lists {
                assert!(vcpus.len() <= 3);
                seen.extend(if vcpus.is_empty() { vec![(vm, None)] } else { vcpus.into_iter().map(|v| (vm, Some(v))).collect() });
            }
            if !more {
                break;
            }
        }
        seen.sort_unstable();
        let expected: Vec<_> = (0..4).flat_map(|vm| [None, Some(0), Some(1), Some(2), Some(3)].map(|vcpu| (vm, vcpu))).collect();
        assert_eq!(seen, expected);
        assert_eq!(bench.call(&[call]), error(Status::NoData));
        assert_eq!(bench.call(&[GET, 0x1_0003, 1]), Regs::success(&[3]), "and is still there to be collected");
    }
}

#[test]
fn what_is_set_again_is_reported_again() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let mut request = guest.wait();
        for _ in 0..2 {
            assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 1]), ok());
            request = guest.respond(&request, &[]);
        }
    });
    bench.boot();
    bench.call(&[CREATE, 0, 1]);
    bench.call(&[BIND, 0x8001_0000, 0, 1]);
    for _ in 0..2 {
        bench.request(0x8001, &[]);
        assert_eq!(bench.call(&[INFO]).function(), function::SUCCESS_64);
    }
}

#[test]
fn a_failed_partition_takes_its_bindings_along() {
    let mut bench = linux_and(|guest| {
        assert_eq!(guest.call(&[SET, 0x8001_0000, 0, 1]), ok());
        guest.crash();
    });
    bench.add(s_el1(0x8002), |_| {});
    bench.call(&[BIND, 0x8001_0000, 0, 1]);
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.call(&[GET, 0, 1]), Regs::success(&[]));
    assert_eq!(bench.call(&[BIND, 0x8002_0000, 0, 1]), ok());
}

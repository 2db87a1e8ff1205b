//! What memory orderings promise: each test runs in all executions that they allow (loom), for two or three cores.

use crate::fake::{Bench, Event, s_el1};
use crate::partition::Spoken;
use crate::vcpu::{Caller, Model, RunState, Vcpu, VcpuId};
use bulkhead_ffa::{EndpointId, Regs, Version};
use loom::sync::Arc;
use loom::thread;

/// Tells conversations apart.
fn caller(n: u16) -> Caller {
    Caller::NormalWorld(EndpointId(n))
}

/// Takes the vCPU if it waits, and holds a conversation with it; what the last one was.
fn talk(vcpu: &Vcpu, n: u16) -> Option<Caller> {
    vcpu.claim(RunState::Waiting).ok()?;
    let before = vcpu.caller();
    vcpu.converse(caller(n), Model::Direct32, false);
    assert_eq!(vcpu.caller(), caller(n), "nobody else has it");
    vcpu.publish(RunState::Waiting);
    Some(before)
}

#[test]
fn a_vcpu_is_claimed_by_one_core_and_its_conversation_comes_along() {
    loom::model(|| {
        let vcpu = Arc::new(Vcpu::new());
        vcpu.claim(RunState::Off).unwrap();
        vcpu.converse(caller(1), Model::Direct32, false);
        vcpu.publish(RunState::Waiting);
        let others = [2, 3].map(|n| {
            let vcpu = vcpu.clone();
            thread::spawn(move || talk(&vcpu, n))
        });
        let [second, third] = others.map(|thread| thread.join().unwrap());
        // Who came second saw all that the first had written.
        match (second, third) {
            (Some(a), Some(b)) => assert!(a == caller(1) && b == caller(2) || a == caller(3) && b == caller(1), "{a:?} {b:?}"),
            (Some(one), None) | (None, Some(one)) => assert_eq!(one, caller(1)),
            (None, None) => panic!("nobody got a vCPU that waits"),
        }
        assert_eq!(vcpu.state(), RunState::Waiting);
    });
}

#[test]
fn a_version_that_was_used_stays() {
    loom::model(|| {
        let spoken = Arc::new(Spoken::new());
        assert!(spoken.agree(Version::V1_2));
        let asking = [Version::V1_0, Version::V1_1].map(|version| {
            let spoken = spoken.clone();
            thread::spawn(move || spoken.agree(version))
        });
        spoken.lock();
        let used = spoken.version();
        let set = asking.map(|thread| thread.join().unwrap());
        assert_eq!(spoken.version(), used);
        assert!(set.contains(&true) || used == Version::V1_2);
        assert!(!spoken.agree(if used == Version::V1_0 { Version::V1_1 } else { Version::V1_0 }));
        assert!(spoken.agree(used));
    });
}

/// NPI.
const INTERRUPT: u32 = 5;

/// A partition that waits, with the interrupt enabled.
fn waiting_partition() -> (Bench, VcpuId) {
    let mut bench = Bench::new(Version::V1_2);
    let vcpu = VcpuId { partition: bench.cast(s_el1(0x8001), |_| async {}), index: 0 };
    assert_eq!(bench.spmc.paravirtual_call(&mut bench.machine, vcpu, &Regs::new(&[0xff03, u64::from(INTERRUPT), 1])), 0);
    // Whatever the tests use is made before they start.
    bench.spmc.raise_lines(&mut bench.machine, vcpu);
    bench.spmc.vcpu(vcpu).1.publish(RunState::Waiting);
    (bench, vcpu)
}

#[test]
fn what_is_posted_to_a_vcpu_that_starts_to_run_elsewhere_is_seen() {
    loom::model(|| {
        let (bench, vcpu) = waiting_partition();
        let mut other = bench.on(1);
        let runs = thread::spawn(move || {
            let (_, state) = other.spmc.vcpu(vcpu);
            state.claim(RunState::Waiting).unwrap();
            other.spmc.raise_lines(&mut other.machine, vcpu);
        });
        let mut machine = bench.machine.clone();
        bench.spmc.post_virtual(&mut machine, vcpu, INTERRUPT);
        runs.join().unwrap();
        let seen = bench.world().virtual_irq(vcpu) || bench.world().saw(&Event::Interrupted(1));
        assert!(seen, "the interrupt is lost until the vCPU runs anew");
    });
}

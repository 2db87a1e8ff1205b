//! A machine with as many cores as there may be, and the template partition.

use super::checks;
use crate::check::Outcome;
use crate::probes::{ask, finish, send};
use crate::{cores, ensure, pass};
use bulkhead_sdk::ffa::{EndpointId, Uuid};
use bulkhead_sdk::message::{Convention, response_payload};
use bulkhead_testkit::{Command, PROBE_EL1, Probe};

checks! { "all-cores":
    every_core_has_its_vcpu,
    all_vcpus_keep_their_registers,
    cores_leave_in_any_order,
    template_partition_adds,
}

/// `partitions/template`.
const ADDER: Probe = Probe {
    name: "adder",
    id: EndpointId(0x8002),
    uuid: Uuid([0x0a, 0xdd, 0x0a, 0xdd, 0x12, 0x34, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67]),
    load_address: 0x0ec0_0000,
    s_el0: true,
};

fn which_vcpu(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Places, &[]).map_or(u64::MAX, |words| words[4])
}

fn fill(seed: u64) -> u64 {
    ask(&PROBE_EL1, Command::Fill, &[seed]).map_or(0, |words| words[0])
}

fn check(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Check, &[]).map_or(u64::MAX, |words| words[0])
}

fn on(core: usize, job: cores::Job, argument: u64) -> Option<u64> {
    if core == 0 {
        return Some(job(argument));
    }
    cores::ask(core, job, argument);
    cores::result(core)
}

fn every_core_has_its_vcpu() -> Outcome {
    for core in 0..cores::MAX {
        ensure!(core == 0 || cores::start(core), "core {core} did not come");
        let vcpu = on(core, which_vcpu, 0);
        ensure!(vcpu == Some(core as u64), "core {core} is served by vCPU {vcpu:x?}");
    }
    pass!("{} cores", cores::MAX)
}

fn all_vcpus_keep_their_registers() -> Outcome {
    for core in 0..cores::MAX {
        ensure!(on(core, fill, core as u64 + 1) == Some(1), "vCPU {core} did not fill");
    }
    for core in (0..cores::MAX).rev() {
        let changed = on(core, check, 0);
        ensure!(changed == Some(0), "vCPU {core}: {changed:x?} registers changed");
    }
    pass!("{} vCPUs", cores::MAX)
}

fn cores_leave_in_any_order() -> Outcome {
    for core in [3, 7, 1, 5] {
        ensure!(cores::stop(core), "core {core} did not go");
    }
    for core in [5, 3, 7, 1] {
        ensure!(cores::start(core), "core {core} did not come again");
        let vcpu = on(core, which_vcpu, 0);
        ensure!(vcpu == Some(core as u64), "core {core} is served by vCPU {vcpu:x?}");
    }
    pass!("4 of {}", cores::MAX)
}

fn template_partition_adds() -> Outcome {
    for convention in [Convention::Direct64, Convention::Direct2] {
        let reply = finish(send(&ADDER, convention, &[1, 2, 3, 4]));
        let sum = response_payload(convention, &reply).map(|words| words[0]);
        ensure!(sum == Some(10), "{convention:?}: {sum:?}");
    }
    pass!("1 + 2 + 3 + 4 = 10")
}

//! A machine with as many cores as there may be.

use super::prelude::*;
use crate::probes::ask;
use crate::cores::{self, on};
use conformance_testkit::{Command, PROBE_EL1};

checks! { "all-cores":
    "4.7" every_core_has_its_vcpu [Ns] ANY "vCPU n on core n";
    "4.1" all_vcpus_keep_their_registers [Ns] ANY "no register of any vCPU changed";
    "18.2" cores_leave_in_any_order [Ns] ANY "vCPU n on core n again";
}

fn which_vcpu(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Places, &[]).map_or(u64::MAX, |words| words[4])
}

fn fill(seed: u64) -> u64 {
    ask(&PROBE_EL1, Command::Fill, &[seed]).map_or(0, |words| words[0])
}

fn check(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Check, &[]).map_or(u64::MAX, |words| words[0])
}

fn every_core_has_its_vcpu(_: Instance) -> Outcome {
    for core in 0..cores::MAX {
        ensure!(core == 0 || cores::start(core), "core {core} did not come");
        let vcpu = on(core, which_vcpu, 0);
        ensure!(vcpu == Some(core as u64), "core {core} is served by vCPU {vcpu:x?}");
    }
    pass!("{} cores", cores::MAX)
}

fn all_vcpus_keep_their_registers(_: Instance) -> Outcome {
    for core in 0..cores::MAX {
        ensure!(on(core, fill, core as u64 + 1) == Some(1), "vCPU {core} did not fill");
    }
    for core in (0..cores::MAX).rev() {
        let changed = on(core, check, 0);
        ensure!(changed == Some(0), "vCPU {core}: {changed:x?} registers changed");
    }
    pass!("{} vCPUs", cores::MAX)
}

fn cores_leave_in_any_order(_: Instance) -> Outcome {
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

//! A system with as many partitions as there may be: none of them gets less than in a small one.

use super::memory::{give, give_back, retrieve_from, with_buffers};
use super::prelude::*;
use crate::cores::{self, on};
use crate::probes::{SELF, ask, serves};
use bulkhead_sdk::memory::{Kind, Range};
use bulkhead_sdk::{Line, PAGE};
use conformance_testkit::{Command, FURTHER, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "eight":
    "15.2" each_of_eight_partitions_serves [Ns] ANY "its answer";
    "4.1" all_vcpus_of_eight_partitions_keep_their_registers [Ns] ANY "no register of any vCPU changed";
    "DEN0140 2.4" each_of_eight_partitions_borrows_at_the_same_time [Ns] ANY "all retrieve, and read what the lender wrote";
}

const ALL: [Probe; 8] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0, FURTHER[0], FURTHER[1], FURTHER[2], FURTHER[3]];
/// Normal memory that nobody uses, a page beyond a boundary of 2 MiB: as much again of it lies in two such.
const UNUSED: u64 = 0x8000_0000 + PAGE as u64;
const PAGES: u32 = 512;
const TAG: u64 = 0x7a67;

fn each_of_eight_partitions_serves(_: Instance) -> Outcome {
    for probe in &ALL {
        serves(probe)?;
    }
    pass!("{} partitions", ALL.len())
}

/// The vCPUs that each partition has: one for each core, or one that all cores share.
const VCPUS: [usize; ALL.len()] = [cores::MAX, 1, 1, 1, cores::MAX, 1, cores::MAX, 1];

/// A partition's place in [`ALL`], and the core: different for every vCPU, and never zero.
fn place(probe: usize, core: usize) -> u64 {
    (probe * cores::MAX + core + 1) as u64
}

fn probe_of(place: u64) -> &'static Probe {
    &ALL[(place as usize - 1) / cores::MAX % ALL.len()]
}

fn fill(place: u64) -> u64 {
    ask(probe_of(place), Command::Fill, &[place]).map_or(0, |words| words[0])
}

fn check(place: u64) -> u64 {
    ask(probe_of(place), Command::Check, &[]).map_or(u64::MAX, |words| words[0])
}

fn all_vcpus_of_eight_partitions_keep_their_registers(_: Instance) -> Outcome {
    let started = (1..cores::MAX).all(cores::start);
    ensure!(started, "not all cores came");
    let each = |job: cores::Job, expected: u64| {
        for (n, (probe, vcpus)) in ALL.iter().zip(VCPUS).enumerate() {
            for core in 0..vcpus {
                let result = on(core, job, place(n, core));
                ensure!(result == Some(expected), "{}, vCPU {core}: {result:x?}", probe.name);
            }
        }
        pass!("{} vCPUs", VCPUS.iter().sum::<usize>())
    };
    each(fill, 1)?;
    each(check, 0)
}

fn each_of_eight_partitions_borrows_at_the_same_time(at: Instance) -> Outcome {
    with_buffers(|| {
        let mut handles = [0; ALL.len()];
        for (n, (probe, handle)) in ALL.iter().zip(&mut handles).enumerate() {
            let ranges = [Range { address: UNUSED + n as u64 * u64::from(PAGES) * PAGE as u64, pages: PAGES }];
            at.write(ranges[0].address, n as u64 ^ 0xbeef)?;
            *handle = give(Kind::Share, probe, &ranges, PAGE).map_err(|status| Line::new(format_args!("share with {}: {status:?}", probe.name)))?;
            let [address, ..] = retrieve_from(probe, Kind::Share, *handle, SELF, TAG)?;
            let read = ask(probe, Command::Read, &[address])?;
            ensure!(read[..2] == [1, n as u64 ^ 0xbeef], "{} reads {:#x}", probe.name, read[1]);
        }
        for (probe, handle) in ALL.iter().zip(handles) {
            give_back(probe, handle)?;
        }
        pass!("{PAGES} pages each, {} partitions", ALL.len())
    })
}

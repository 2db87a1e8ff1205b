//! A system with as many partitions as there may be: none of them gets less than in a small one.

use super::memory::{give, give_back, retrieve_from, with_buffers};
use super::prelude::*;
use crate::probes::{SELF, ask, serves};
use bulkhead_sdk::memory::{Kind, Range};
use bulkhead_sdk::{Line, PAGE};
use conformance_testkit::{Command, FURTHER, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "eight":
    "15.2" each_of_eight_partitions_serves [Ns] ANY "its answer";
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

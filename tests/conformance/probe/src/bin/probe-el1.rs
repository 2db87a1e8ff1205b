//! The test partition at S-EL1.
#![no_std]
#![no_main]

use conformance_probe::{Level, interrupted, run, run_secondary};
use bulkhead_sdk::Program;

struct ProbeEl1;

impl Program for ProbeEl1 {
    fn main(boot_argument: u64) -> ! {
        run(Level::SEl1, boot_argument)
    }

    fn secondary(index: usize) -> ! {
        run_secondary(index)
    }

    fn interrupt() {
        interrupted();
    }
}

bulkhead_sdk::program!(ProbeEl1);

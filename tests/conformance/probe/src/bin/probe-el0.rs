//! The test partition at S-EL0.
#![no_std]
#![no_main]

use conformance_probe::{Level, run};
use bulkhead_sdk::Program;

struct ProbeEl0;

impl Program for ProbeEl0 {
    fn main(boot_argument: u64) -> ! {
        run(Level::SEl0, boot_argument)
    }
}

bulkhead_sdk::program!(ProbeEl0);

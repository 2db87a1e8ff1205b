//! The normal world of the target tests: BL33 at NS-EL2. It runs the checks of [`checks`] one after another and prints
//! `STEP <group>.<name> PASS|FAIL <detail>` for each on the normal world's UART, then `DONE`, and turns the machine off.
//!
//! The host chooses groups by the fw_cfg item `opt/bulkhead/steps` (words). What must appear on
//! the secure console is announced as `EXPECT <piece> | <piece>`: the host looks for a line there with all the pieces.
#![no_std]
#![no_main]

mod board;
mod check;
mod checks;
mod console;
mod cores;
mod fw_cfg;
mod gic;
mod probes;

use bulkhead_sdk::{Line, Program, message};
use core::panic::PanicInfo;

struct Payload;

impl Program for Payload {
    fn main(_boot_argument: u64) -> ! {
        board::enable_vectors();
        gic::start_distributor();
        gic::start_core(0);
        let chosen = fw_cfg::item(b"opt/bulkhead/steps");
        // The groups `discovery` and `speak-...` ask again and judge the answer.
        let _ = message::negotiate_version(checks::versions::wanted(&chosen));
        let (passed, failed) = check::run_chosen(&chosen);
        say!("DONE {passed} passed, {failed} failed");
        board::power_off()
    }

    fn secondary(index: usize) -> ! {
        board::enable_vectors();
        gic::start_core(index);
        cores::serve(index)
    }

    fn interrupt() {
        gic::handle();
    }

    fn exception(esr: u64, pc: u64, address: u64) -> ! {
        say!("STEP payload.exception FAIL esr {esr:#x}, pc {pc:#x}, address {address:#x}");
        board::power_off()
    }

    fn panic(info: &PanicInfo<'_>) -> ! {
        say!("STEP payload.panic FAIL {}", Line::new(format_args!("{info}")));
        board::power_off()
    }
}

bulkhead_sdk::program!(Payload);

//! The normal world of the conformance suite: BL33 at NS-EL2. It runs the checks that the host names in the fw_cfg item
//! `opt/conformance/run`, reports each on the normal world's UART, and turns the machine off. tests/conformance/README.md has the
//! protocol.
#![no_std]
#![no_main]

mod bench;
mod board;
mod catalogue;
mod check;
mod checks;
mod console;
mod cores;
mod fw_cfg;
mod gic;
mod instance;
mod probes;

use bulkhead_sdk::{Program, message};
use core::panic::PanicInfo;
use instance::Instance;

struct Payload;

impl Program for Payload {
    fn main(_boot_argument: u64) -> ! {
        board::enable_vectors();
        gic::start_distributor();
        gic::start_core(0);
        // The host finds the catalogue in the ELF file: it must be there.
        core::hint::black_box(&catalogue::CONFORMANCE_CATALOGUE);
        if let Some(item) = fw_cfg::item(b"opt/conformance/speak") {
            instance::settle_versions(item);
        }
        say!("READY");
        instance::try_versions();
        // The checks ask again and judge the answer.
        let _ = message::negotiate_version(Instance::Ns.version());
        match fw_cfg::item(b"opt/conformance/run") {
            Some(plan) => check::run(plan),
            None => bench::run(),
        }
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
        say!("CRASH exception: esr {esr:#x}, pc {pc:#x}, address {address:#x}");
        board::power_off()
    }

    fn panic(info: &PanicInfo<'_>) -> ! {
        say!("CRASH panic: {}", info.message());
        board::power_off()
    }
}

bulkhead_sdk::program!(Payload);

//! What the normal world can reach by itself: nothing of the secure world.
#![expect(unsafe_code, reason = "accesses that must fault")]

use super::prelude::*;
use crate::probes::serves;
use conformance_testkit::{PROBE_EL0, PROBE_EL1};

checks! { "normal-world":
    "2.1" secure_memory_cannot_be_read [Ns] ANY "a fault";
    "2.1" secure_memory_cannot_be_written [Ns] ANY "a fault";
    "2.1" secure_memory_cannot_be_executed [Ns] ANY "a fault";
    "2.1" secure_flash_cannot_be_reached [Ns] ANY "a fault";
    "2.1" secure_devices_cannot_be_reached [Ns] ANY "a fault";
}

/// EL3, the SPMC (image and RAM), the partitions' packages, the end of the secure RAM.
const SECURE: [u64; 9] =
    [0x0e00_0000, 0x0e09_0000, 0x0e10_0000, 0x0e1f_f000, 0x0e20_4000, 0x0e60_4000, 0x0e80_4000, 0x0ea0_4000, 0x0eff_f000];
/// BL1, the FIP, the variable store.
const FLASH: [u64; 3] = [0, 0x4_0000, 0x03f0_0000];
/// The secure UART and GPIO.
const DEVICES: [u64; 2] = [0x0904_0000, 0x090b_0000];

fn unreadable(addresses: &[u64]) -> Outcome {
    for address in addresses {
        // SAFETY: a read that must fault; the devices have no read side effect that matters.
        let value = unsafe { bulkhead_sdk::read(*address) };
        ensure!(value.is_none(), "read {:#x} at {address:#x}", value.unwrap_or(0));
    }
    pass!("{} addresses fault", addresses.len())
}

fn unwritable(addresses: &[u64]) -> Outcome {
    for address in addresses {
        // SAFETY: a write that must fault; nothing of this program lies there.
        let done = unsafe { bulkhead_sdk::write(*address, 0xbad0_bad0_bad0_bad0) };
        ensure!(done.is_none(), "wrote at {address:#x}");
    }
    serves(&PROBE_EL1)?;
    serves(&PROBE_EL0)?;
    pass!("{} addresses fault", addresses.len())
}

fn secure_memory_cannot_be_read(_: Instance) -> Outcome {
    unreadable(&SECURE)
}

fn secure_memory_cannot_be_written(_: Instance) -> Outcome {
    unwritable(&SECURE)
}

fn secure_memory_cannot_be_executed(_: Instance) -> Outcome {
    for address in SECURE {
        // SAFETY: a fetch that must fault.
        ensure!(unsafe { bulkhead_sdk::execute(address) }.is_none(), "executed {address:#x}");
    }
    pass!("{} addresses fault", SECURE.len())
}

fn secure_flash_cannot_be_reached(_: Instance) -> Outcome {
    unreadable(&FLASH)?;
    unwritable(&FLASH)
}

fn secure_devices_cannot_be_reached(_: Instance) -> Outcome {
    unreadable(&DEVICES)
}

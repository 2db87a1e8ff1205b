//! `EFI/BOOT/BOOTAA64.EFI` of the demonstration's disk. It runs the boot-time steps that the host names in the fw_cfg
//! item `opt/bulkhead/uefi` (words separated by spaces), then starts `linux.efi` with the command line in
//! `cmdline.txt`. Without that item it only starts Linux. The step `shell` gives up in favour of the firmware's next boot
//! option, its shell. Started with the load option `hello`, it says so and
//! returns: that is how its own signed, unsigned and wrongly signed copies show what secure boot does.
#![no_std]
#![no_main]

extern crate alloc;

mod compare;
mod efi;
mod fw_cfg;
mod optee;
mod secure_boot;
mod steps;
mod tables;
mod variables;
mod wild;

use alloc::format;
use alloc::string::String;

use efi::{Image, Status};

/// Load option that makes a copy of this program answer and return.
pub const HELLO: &str = "hello";
/// Step after which nothing is started.
const SHELL: &str = "shell";

fn run() -> Result<(), Status> {
    if efi::load_options().is_ok_and(|options| options == HELLO) {
        efi::print("hello from an EFI binary\n");
        return Ok(());
    }
    // Before the steps: one of them ends StMM, and without its signature database the firmware loads nothing more.
    let linux = Image::load("\\linux.efi");
    let wanted = fw_cfg::item("opt/bulkhead/uefi");
    if let Some(wanted) = &wanted {
        for step in wanted.split_whitespace() {
            if step == SHELL {
                return Err(Status::ABORTED);
            }
            steps::run(step);
        }
    }
    let outcome = linux.and_then(start);
    if let Err(status) = outcome {
        efi::print(&format!("\nloader: linux.efi did not start: {status}\n"));
        if wanted.is_some() {
            // Nobody sits at this console: end the run instead of waiting in the firmware's menu.
            efi::power_off();
        }
    }
    outcome
}

fn start(linux: Image) -> Result<(), Status> {
    let command_line = match efi::read_file("\\cmdline.txt") {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().into(),
        Err(status) => {
            efi::print(&format!("loader: cmdline.txt: {status}; starting Linux without a command line\n"));
            String::new()
        }
    };
    linux.start(&command_line)
}

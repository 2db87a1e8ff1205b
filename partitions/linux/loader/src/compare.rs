//! The workload of `cargo xtask compare-bridge`: variable services between two markers, hints that are NOPs to the CPU and that the host's plugin
//! counts instructions between (`qemu/plugin/count.c`). A line on the console says what was counted: `BENCH <times> <operation> | <instance>`, or
//! `UNMEASURED ... | <why>`. Each operation is repeated, the last time counts; but for the signed update, which can be made once.
#![expect(unsafe_code, reason = "the markers are instructions")]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::efi::{self, Status, get_variable, next_variable, set_variable};
use crate::secure_boot::GLOBAL;
use crate::tables::Guid;
use crate::variables::VENDOR;

/// EFI_IMAGE_SECURITY_DATABASE: db.
const IMAGE_SECURITY: Guid = Guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);

const NAME: &str = "Compared";
/// Non-volatile, boot service, run time.
const ATTRIBUTES: u32 = 7;
const BYTES: usize = 64;
const TIMES: u8 = 4;

/// Does `work` between the two markers.
#[inline(always)]
fn marked<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: HINT #0x7e does nothing.
    unsafe { core::arch::asm!("hint #0x7e", options(nostack, preserves_flags)) };
    let result = work();
    // SAFETY: HINT #0x7f does nothing.
    unsafe { core::arch::asm!("hint #0x7f", options(nostack, preserves_flags)) };
    result
}

/// Makes each operation, and says what was made.
pub fn run() {
    announce("write a variable", "64 bytes, non-volatile", repeat(|turn| marked(|| set_variable(NAME, &VENDOR, ATTRIBUTES, &[turn; BYTES]))));
    announce("read a variable", "64 bytes", repeat(|_| marked(|| get_variable(NAME, &VENDOR)).and_then(|(attributes, data)| {
        if (attributes, data.as_slice()) == (ATTRIBUTES, &[TIMES - 1; BYTES]) { Ok(()) } else { Err(Status::NOT_FOUND) }
    })));
    announce("enumerate: one name", "from the first to the second", repeat(|_| {
        let (mut name, mut vendor) = (String::new(), VENDOR);
        next_variable(&mut name, &mut vendor)?;
        marked(|| next_variable(&mut name, &mut vendor))
    }));
    announce("authenticated write", "signed update of db, appended", signed_update());
}

/// Repeats an operation until it fails; how often it was made, and whether all went well.
fn repeat(mut operation: impl FnMut(u8) -> Result<(), Status>) -> (u8, Result<(), String>) {
    for turn in 0..TIMES {
        if let Err(status) = operation(turn) {
            return (turn + 1, Err(format!("{status}")));
        }
    }
    (TIMES, Ok(()))
}

/// Enrols the demonstration's keys, and appends to the signature database, which then needs KEK's signature.
fn signed_update() -> (u8, Result<(), String>) {
    for (file, name, vendor) in [("\\db", "db", &IMAGE_SECURITY), ("\\KEK", "KEK", &GLOBAL), ("\\PK", "PK", &GLOBAL)] {
        if let Err(status) = update(file).and_then(|(attributes, content)| set_variable(name, vendor, attributes, &content)) {
            return (0, Err(format!("enrolling {name}: {status}")));
        }
    }
    match update("\\db-append") {
        Ok((attributes, content)) => (1, marked(|| set_variable("db", &IMAGE_SECURITY, attributes, &content)).map_err(|status| format!("{status}"))),
        Err(status) => (0, Err(format!("reading the update: {status}"))),
    }
}

/// An update on the disk: four bytes of attributes, then what SetVariable takes.
fn update(path: &str) -> Result<(u32, Vec<u8>), Status> {
    let bytes = efi::read_file(path)?;
    let (attributes, content) = bytes.split_first_chunk().ok_or(Status::INVALID_PARAMETER)?;
    Ok((u32::from_le_bytes(*attributes), content.into()))
}

fn announce(operation: &str, instance: &str, (times, outcome): (u8, Result<(), String>)) {
    efi::print(&match outcome {
        Ok(()) => format!("\nBENCH {times} {operation} | {instance}\n"),
        Err(why) => format!("\nUNMEASURED {times} {operation} | {instance} | {why}\n"),
    });
}

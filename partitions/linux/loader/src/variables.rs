//! Boot-time half of the variable steps. Names and values here are also in the guest's steps (`guest/steps/variables`
//! and `guest/steps/persistence`), which look at the same variables from Linux.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::efi::{self, Status, get_variable, set_variable};
use crate::steps::report;
use crate::tables::Guid;

/// Vendor GUID of the demonstration's variables: 6f1e5c0a-3b7d-4c52-9a84-2d1f0b97c6e5.
pub const VENDOR: Guid = Guid(0x6f1e_5c0a, 0x3b7d, 0x4c52, [0x9a, 0x84, 0x2d, 0x1f, 0x0b, 0x97, 0xc6, 0xe5]);

const NON_VOLATILE: u32 = 1;
const BOOT: u32 = 2;
const RUNTIME: u32 = 4;
const APPEND: u32 = 0x40;

/// A variable that the loader leaves behind for Linux and for the next boot.
const KEPT: (&str, u32, &[u8]) = ("UefiKept", NON_VOLATILE | BOOT | RUNTIME, b"written by UEFI, and appended");
const BOOT_ONLY: (&str, u32, &[u8]) = ("UefiBootOnly", NON_VOLATILE | BOOT, b"not for run time");
const VOLATILE: (&str, u32, &[u8]) = ("UefiVolatile", BOOT | RUNTIME, b"until power-off");
/// Written by Linux at run time (guest/steps/variables), read here after power-off.
const FROM_LINUX: (&str, u32, &[u8]) = ("LinuxKept", NON_VOLATILE | BOOT | RUNTIME, b"written by Linux, and appended");
/// Written by a person at U-Boot's prompt (qemu/src/tests/uboot.rs), read here in a boot with UEFI.
const FROM_U_BOOT: (&str, u32, &[u8]) = ("UBootKept", NON_VOLATILE | BOOT | RUNTIME, b"written by U-Boot, and appended");

/// Create, read, append, overwrite, delete; non-volatile, volatile and boot-service-only.
pub fn write_and_read() {
    report("uefi.create", write(KEPT.0, KEPT.1, b"written by UEFI").and_then(|()| expect(KEPT.0, KEPT.1, b"written by UEFI")));
    report(
        "uefi.append",
        write(KEPT.0, KEPT.1 | APPEND, b", and appended").and_then(|()| expect(KEPT.0, KEPT.1, KEPT.2)),
    );
    report(
        "uefi.overwrite",
        write("UefiGone", KEPT.1, b"first")
            .and_then(|()| write("UefiGone", KEPT.1, b"second, longer"))
            .and_then(|()| expect("UefiGone", KEPT.1, b"second, longer")),
    );
    report("uefi.delete", write("UefiGone", KEPT.1, b"").and_then(|()| absent("UefiGone")));
    report(
        "uefi.boot-only",
        write(BOOT_ONLY.0, BOOT_ONLY.1, BOOT_ONLY.2).and_then(|()| expect(BOOT_ONLY.0, BOOT_ONLY.1, BOOT_ONLY.2)),
    );
    report(
        "uefi.volatile",
        write(VOLATILE.0, VOLATILE.1, VOLATILE.2).and_then(|()| expect(VOLATILE.0, VOLATILE.1, VOLATILE.2)),
    );
    report("uefi.attributes", attributes_cannot_change());
    report("uefi.enumerate", each_listed_once());
}

/// What a program is told that asks wrongly. The messages are MmCommunicationDxe's to refuse, before StMM sees them.
pub fn refused() {
    report("uefi.short", short());
    report("uefi.too-long", too_long());
    // EFI_MM_COMMUNICATE_HEADER says how long what follows is.
    report("uefi.message-too-long", message(0x1_0000, 0x1_0000, Err(Status::BAD_BUFFER_SIZE)));
    report("uefi.message-cut", message(64, 65, Err(Status::INVALID_PARAMETER)));
    report("uefi.message-to-nobody", message(64, 64, Ok(())));
    report("uefi.unharmed", expect(KEPT.0, KEPT.1, KEPT.2));
}

/// Fills the non-volatile store until it refuses, reads everything back, empties it and writes again.
pub fn fill_the_store() {
    report("uefi.full", fill());
}

/// What the second boot finds: kept values with their attributes, and neither deleted nor volatile ones.
pub fn after_power_off() {
    report("uefi.kept", expect(KEPT.0, KEPT.1, KEPT.2));
    report("uefi.kept-boot-only", expect(BOOT_ONLY.0, BOOT_ONLY.1, BOOT_ONLY.2));
    report("uefi.kept-from-linux", expect(FROM_LINUX.0, FROM_LINUX.1, FROM_LINUX.2));
    report("uefi.volatile-gone", absent(VOLATILE.0));
    report("uefi.deleted-gone", absent("UefiGone").and_then(|_| absent("LinuxGone")));
}

/// What U-Boot has written to the store.
pub fn from_u_boot() {
    report("uefi.from-u-boot", expect(FROM_U_BOOT.0, FROM_U_BOOT.1, FROM_U_BOOT.2));
    report("uefi.u-boot-gone", absent("UBootGone").and_then(|_| absent("UBootVolatile")));
}

/// What a request says once StMM is gone: an error, and no value.
pub fn unavailable() -> Result<String, String> {
    match set_variable("UefiAfterwards", &VENDOR, KEPT.1, b"nobody keeps this") {
        Err(status) => Ok(format!("SetVariable afterwards: `{status}`")),
        Ok(()) => Err("SetVariable was acknowledged though StMM is gone".into()),
    }
}

fn write(name: &str, attributes: u32, data: &[u8]) -> Result<(), String> {
    set_variable(name, &VENDOR, attributes, data)
        .map_err(|status| format!("{name}: SetVariable with attributes {attributes:#x}: {status}"))
}

fn expect(name: &str, attributes: u32, data: &[u8]) -> Result<String, String> {
    let (found_attributes, found) =
        get_variable(name, &VENDOR).map_err(|status| format!("{name}: GetVariable: {status}"))?;
    if found_attributes != attributes {
        return Err(format!("{name}: attributes {found_attributes:#x}, expected {attributes:#x}"));
    }
    if found != data {
        return Err(format!(
            "{name}: value `{}`, expected `{}`",
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(data)
        ));
    }
    Ok(format!("{name} = `{}`, attributes {attributes:#x}", String::from_utf8_lossy(data)))
}

fn absent(name: &str) -> Result<String, String> {
    match get_variable(name, &VENDOR) {
        Err(Status::NOT_FOUND) => Ok(format!("{name} is not there")),
        Err(status) => Err(format!("{name}: GetVariable: {status}, expected not found")),
        Ok((_, data)) => Err(format!("{name}: still there, {} bytes", data.len())),
    }
}

fn short() -> Result<String, String> {
    match efi::get_variable_into(KEPT.0, &VENDOR, 4) {
        (Err(Status::BUFFER_TOO_SMALL), size) if size == KEPT.2.len() => Ok(format!("{} into 4 bytes: `buffer too small`, it takes {size}", KEPT.0)),
        (Err(status), size) => Err(format!("{} into 4 bytes: {status}, {size} bytes; expected buffer too small, {} bytes", KEPT.0, KEPT.2.len())),
        (Ok(()), size) => Err(format!("{} fits 4 bytes, {size} are said", KEPT.0)),
    }
}

fn too_long() -> Result<String, String> {
    const BYTES: usize = 40_000;
    match set_variable("UefiTooLong", &VENDOR, KEPT.1, &vec![0; BYTES]) {
        Err(Status::INVALID_PARAMETER) => absent("UefiTooLong").map(|_| format!("{BYTES} bytes in one variable: `{}`", Status::INVALID_PARAMETER)),
        Err(status) => Err(format!("{BYTES} bytes in one variable: {status}, expected invalid parameter")),
        Ok(()) => Err(format!("{BYTES} bytes in one variable were accepted")),
    }
}

/// Sends a message for a handler that does not exist, with `length` bytes after its header, which says that they are `said`. An answer
/// must be the message itself: StMM has no other word for that.
fn message(length: usize, said: usize, expected: Result<(), Status>) -> Result<String, String> {
    let mut message = vec![0xa5; 16];
    message.extend((said as u64).to_le_bytes());
    message.resize(message.len() + length, 0);
    let sent = message.clone();
    let answer = efi::communicate(&mut message);
    let what = format!("a message of {length} bytes that says {said}");
    let show = |outcome: Result<(), Status>| outcome.map_or_else(|status| format!("`{status}`"), |()| "answered as it is".into());
    if answer == expected && (answer.is_err() || message == sent) { Ok(format!("{what}: {}", show(answer))) } else { Err(format!("{what}: {}, expected {}", show(answer), show(expected))) }
}

fn attributes_cannot_change() -> Result<String, String> {
    match set_variable(KEPT.0, &VENDOR, NON_VOLATILE | BOOT, b"other attributes") {
        Err(Status::INVALID_PARAMETER) => expect(KEPT.0, KEPT.1, KEPT.2),
        Err(status) => Err(format!("{}: rewriting without run-time access: {status}, expected invalid parameter", KEPT.0)),
        Ok(()) => Err(format!("{}: rewriting without run-time access was accepted", KEPT.0)),
    }
}

fn each_listed_once() -> Result<String, String> {
    let names = efi::variable_names(&VENDOR).map_err(|status| format!("GetNextVariableName: {status}"))?;
    for wanted in [KEPT.0, BOOT_ONLY.0, VOLATILE.0] {
        let count = names.iter().filter(|name| *name == wanted).count();
        if count != 1 {
            return Err(format!("{wanted} is listed {count} times"));
        }
    }
    if names.iter().any(|name| name == "UefiGone") {
        return Err("UefiGone is deleted and still listed".into());
    }
    Ok(format!("{} variables of ours, each listed once", names.len()))
}

fn fill() -> Result<String, String> {
    const EACH: usize = 1500;
    const MOST: usize = 4096;
    let content = |index: usize| -> Vec<u8> { vec![u8::try_from(index % 251).unwrap_or(0); EACH] };
    let name = |index: usize| format!("UefiFill{index:04}");
    let (total, ..) = efi::variable_store(KEPT.1).map_err(|status| format!("QueryVariableInfo: {status}"))?;
    let mut written = 0;
    let refusal = loop {
        if written == MOST {
            return Err(format!("{MOST} variables of {EACH} bytes went into a store of {total} bytes"));
        }
        match set_variable(&name(written), &VENDOR, KEPT.1, &content(written)) {
            Ok(()) => written += 1,
            Err(status) => break status,
        }
    };
    let mut problem = None;
    if refusal != Status::OUT_OF_RESOURCES {
        problem = Some(format!("the full store said `{refusal}`, expected out of resources"));
    }
    for index in 0..written {
        match get_variable(&name(index), &VENDOR) {
            Ok((_, data)) if data == content(index) => {}
            Ok(_) => problem = Some(format!("{}: another value than was written", name(index))),
            Err(status) => problem = Some(format!("{}: acknowledged, then {status}", name(index))),
        }
    }
    if let Ok((_, data)) = get_variable(&name(written), &VENDOR) {
        problem = Some(format!("{}: refused, and yet there with {} bytes", name(written), data.len()));
    }
    for index in 0..written {
        if let Err(status) = set_variable(&name(index), &VENDOR, KEPT.1, b"") {
            problem = Some(format!("{}: cannot be deleted: {status}", name(index)));
        }
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    expect(KEPT.0, KEPT.1, KEPT.2)?;
    write("UefiGone", KEPT.1, &content(7))?;
    write("UefiGone", KEPT.1, b"")?;
    Ok(format!("refused after {written} variables of {EACH} bytes (store {total} bytes), all readable; writable again once emptied"))
}

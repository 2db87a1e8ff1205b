//! What the firmware does with a signed, an unsigned and a wrongly signed EFI binary, without keys and with them.

use alloc::format;
use alloc::string::String;

use crate::HELLO;
use crate::efi::{Image, Status, get_variable};
use crate::steps::report;
use crate::tables::Guid;

/// EFI_GLOBAL_VARIABLE: PK, KEK, and the modes.
pub const GLOBAL: Guid = Guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);

const SIGNED: &str = "\\hello-signed.efi";
const UNSIGNED: &str = "\\hello-unsigned.efi";
/// Signed by a key that db does not know.
const ROGUE: &str = "\\hello-rogue.efi";

/// Before enrolment everything starts: the refusals after it are the keys' doing.
pub fn without_keys() {
    report("uefi.setup-mode", mode(1, 0));
    report("uefi.unsigned-before-keys", starts(UNSIGNED));
}

/// After enrolment only what db's key signed starts.
pub fn with_keys() {
    report("uefi.user-mode", mode(0, 1));
    report("uefi.signed-boots", starts(SIGNED));
    report("uefi.unsigned-refused", refused(UNSIGNED));
    report("uefi.rogue-refused", refused(ROGUE));
}

fn mode(setup: u8, secure: u8) -> Result<String, String> {
    for (name, expected) in [("SetupMode", setup), ("SecureBoot", secure)] {
        match get_variable(name, &GLOBAL) {
            Ok((_, data)) if data == [expected] => {}
            Ok((_, data)) => return Err(format!("{name} is {data:?}, expected [{expected}]")),
            Err(status) => return Err(format!("{name}: GetVariable: {status}")),
        }
    }
    Ok(format!("SetupMode {setup}, SecureBoot {secure}"))
}

fn starts(path: &str) -> Result<String, String> {
    Image::load(path)
        .map_err(|status| format!("{path}: LoadImage: {status}"))?
        .start(HELLO)
        .map(|()| format!("{path} was started and returned"))
        .map_err(|status| format!("{path}: StartImage: {status}"))
}

fn refused(path: &str) -> Result<String, String> {
    match Image::load(path) {
        Err(status @ (Status::ACCESS_DENIED | Status::SECURITY_VIOLATION)) => Ok(format!("{path}: {status}")),
        Err(status) => Err(format!("{path}: {status}, expected access denied or security violation")),
        Ok(_) => Err(format!("{path}: the firmware loaded it")),
    }
}

//! What the normal world sees of an StMM that goes wrong: its test image (`stmm-wild.fd`) is asked to write to OP-TEE's
//! memory. The SPMC ends StMM; this request and all later ones must come back as errors, and nothing else may suffer.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::efi;
use crate::steps::report;
use crate::variables;

/// gBulkheadWildAccessGuid, 5a7d3c10-42f8-4b6e-8e21-9b04d6f13ac7, as it lies in memory.
const WILD_ACCESS: [u8; 16] = [0x10, 0x3c, 0x7d, 0x5a, 0xf8, 0x42, 0x6e, 0x4b, 0x8e, 0x21, 0x9b, 0x04, 0xd6, 0xf1, 0x3a, 0xc7];
/// WILD_ACCESS_WRITE.
const WRITE: u64 = 1;
/// The first instructions of OP-TEE.
const OPTEE_IMAGE: u64 = 0x0e60_4000;
const VALUE: u64 = 0x6675_6e20_6761_6d65;

/// Asks for the access, then for a variable.
pub fn access() {
    report("uefi.wild", refused());
    report("uefi.wild-later", variables::unavailable());
}

fn refused() -> Result<String, String> {
    let request = [WRITE, OPTEE_IMAGE, VALUE, 0];
    let mut message: Vec<u8> = WILD_ACCESS.to_vec();
    // EFI_MM_COMMUNICATE_HEADER: the GUID, then the length of what follows.
    message.extend((8 * request.len() as u64).to_le_bytes());
    request.iter().for_each(|word| message.extend(word.to_le_bytes()));
    match efi::communicate(&mut message) {
        Err(status) => Ok(format!("StMM's write to OP-TEE at {OPTEE_IMAGE:#x} ended its request with `{status}`")),
        Ok(()) if message.ends_with(&1u64.to_le_bytes()) => Err(format!("StMM wrote to OP-TEE at {OPTEE_IMAGE:#x}")),
        Ok(()) => Err("StMM answered as if nothing had happened: is this the wild image?".into()),
    }
}

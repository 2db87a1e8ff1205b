//! What UEFI programs get from OP-TEE: the application of `partitions/uefi/OpteeFfaPkg/OpteeList` prints the steps, and says by its
//! status whether all of them held.

use alloc::format;
use alloc::string::String;

use crate::efi::{Image, Status};
use crate::steps::report;

const LIST: &str = "\\optee-list.efi";
/// Load option that makes it print steps.
const STEPS: &str = "steps";
/// Runs it.
pub fn list() {
    report("uefi.optee", run().map(|()| format!("{LIST} has done all it does")));
}

/// Runs it where there is no OP-TEE: it must say so and end.
pub fn absent() {
    refused("uefi.optee-absent", Status::NOT_FOUND);
}

/// Runs it where another partition has OP-TEE's UUID.
pub fn foreign() {
    refused("uefi.optee-foreign", Status::INCOMPATIBLE_VERSION);
}

fn refused(step: &str, expected: Status) {
    let outcome = Image::load(LIST).and_then(|image| image.start(""));
    report(
        step,
        match outcome {
            Err(status) if status == expected => Ok(format!("{LIST} ended with `{status}`")),
            Err(status) => Err(format!("{LIST}: {status}, expected {expected}")),
            Ok(()) => Err(format!("{LIST} found an OP-TEE")),
        },
    );
}

fn run() -> Result<(), String> {
    let image = Image::load(LIST).map_err(|status| format!("{LIST}: LoadImage: {status}"))?;
    image.start(STEPS).map_err(|status| format!("{LIST}: {status}"))
}

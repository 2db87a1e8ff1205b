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
    let outcome = Image::load(LIST).and_then(|image| image.start(""));
    report(
        "uefi.optee-absent",
        match outcome {
            Err(status @ Status::NOT_FOUND) => Ok(format!("{LIST} ended with `{status}`")),
            Err(status) => Err(format!("{LIST}: {status}, expected not found")),
            Ok(()) => Err(format!("{LIST} found an OP-TEE")),
        },
    );
}

fn run() -> Result<(), String> {
    let image = Image::load(LIST).map_err(|status| format!("{LIST}: LoadImage: {status}"))?;
    image.start(STEPS).map_err(|status| format!("{LIST}: {status}"))
}

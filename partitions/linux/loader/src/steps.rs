//! The boot-time steps by name, and the line that reports each thing shown: `STEP <name> PASS|FAIL <detail>`.

use alloc::format;
use alloc::string::String;

use crate::efi;
use crate::tables::MM_COMMUNICATION2;
use crate::{compare, optee, secure_boot, variables, wild};

/// Runs one step of `opt/bulkhead/uefi`.
pub fn run(step: &str) {
    match step {
        "discovery" => report("uefi.discovery", discovery()),
        "variables" => variables::write_and_read(),
        "refused" => variables::refused(),
        "full" => variables::fill_the_store(),
        "persistence" => variables::after_power_off(),
        "setup-mode" => secure_boot::without_keys(),
        "secure-boot" => secure_boot::with_keys(),
        "wild" => wild::access(),
        "optee" => optee::list(),
        "optee-absent" => optee::absent(),
        "optee-foreign" => optee::foreign(),
        "u-boot" => variables::from_u_boot(),
        "compare" => compare::run(),
        "power-off" => efi::power_off(),
        other => report(
            "uefi",
            Err(format!(
                "there is no boot-time step `{other}`; known: discovery variables refused full persistence setup-mode secure-boot wild optee optee-absent optee-foreign u-boot compare power-off shell"
            )),
        ),
    }
}

/// Prints the verdict. The detail of a failure says what was expected and what happened.
pub fn report(name: &str, outcome: Result<String, String>) {
    let (verdict, detail) = match &outcome {
        Ok(detail) => ("PASS", detail),
        Err(detail) => ("FAIL", detail),
    };
    efi::print(&format!("\nSTEP {name} {verdict} {detail}\n"));
}

fn discovery() -> Result<String, String> {
    if efi::protocol_exists(&MM_COMMUNICATION2) {
        Ok("UEFI's MmCommunicationDxe found StMM and installed its protocol".into())
    } else {
        Err("no MM communication protocol: MmCommunicationDxe did not find StMM by its UUID".into())
    }
}

//! What calls of OP-TEE and StMM cost, and a boot with both: the real chain on one core, with the test payload in UEFI's place.

use anyhow::Result;

use super::figures::Measured;
use super::measure;
use crate::chain::{Chain, Changes, OPTEE, STMM, StmmImage};
use crate::conformance::boots::PAYLOAD;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::project::Project;
use crate::system;
use crate::toolchain::{self, Profile};

/// Where OP-TEE and StMM lie, as in manifests/spmc.dts.
const PARTITIONS: [(&str, (u64, u64)); 2] = [(OPTEE, (0x0e60_0000, 0x0ef0_0000)), (STMM, (0x0e20_0000, 0x0e60_0000))];

/// Boots and counts, with this repository's SPMC as shipped.
///
/// # Errors
/// When something cannot be built, or the normal world is never reached.
pub fn measure(project: &Project, progress: &Progress, profiled: bool) -> Result<Measured> {
    let payload = toolchain::build(project, progress, Profile::Release, &[PAYLOAD])?.remove(0);
    let changes = Changes { normal_world: Some(payload.bin), ..Changes::default() };
    let chain = Chain::build(project, progress, Profile::Release, changes)?;
    let assembled = chain.assemble(project, "bench-real", StmmImage::Plain)?;
    // How much is in the store must not depend on earlier runs.
    system::forget_variables(&assembled)?;
    let mut machine = Machine { cpus: 1, resets: false, ..chain.machine(&assembled)? };
    measure::choose(&mut machine, "real".into());
    measure::count(project, machine, "OP-TEE and StMM", &PARTITIONS, profiled.then_some(chain.spmc().bytes))
}

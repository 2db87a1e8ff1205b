//! The bridge that Bulkhead replaces, booted for comparison: U-Boot keeps variables in StMM inside OP-TEE, which is the very image that is a
//! partition of Bulkhead.

use anyhow::Result;

use super::Tally;
use super::uboot::{Line, REFUSED, SILENCE, dialogue, enrol, first, line};
use crate::bridge::{Bridge, checksum};
use crate::chain::{Chain, Changes, Firmware, StmmImage};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::project::Project;
use crate::toolchain::Profile;

/// Name for reports and filters, and of the systems.
pub const NAME: &str = "bridge";

/// What both systems do at U-Boot's prompt.
fn lines() -> Vec<Line> {
    let mut lines = vec![
        // The first command of its kind starts U-Boot's UEFI, which says more.
        line("bridge.setup-mode", "printenv -e SetupMode", r"BS\|RT\|RO, DataSize = 0x1\s+00000000: 01"),
        line("bridge.write", "setenv -e -nv -bs -rt Bridged written", SILENCE),
        line("bridge.read", "printenv -e Bridged", r"NV\|BS\|RT, DataSize = 0x7"),
        line("bridge.query", "efidebug query -bs -rt -nv", r"Max storage size 4[89]\d{3}\s"),
        line("bridge.delete", "setenv -e Bridged; printenv -e Bridged", "not defined"),
    ];
    // Signatures take the most heap of all, of which StMM has 402 pages inside OP-TEE.
    for update in [
        enrol!("bridge.enrol-db", "db", "db", "", SILENCE),
        enrol!("bridge.enrol-kek", "KEK", "KEK", "", SILENCE),
        enrol!("bridge.enrol-pk", "PK", "PK", "", SILENCE),
        enrol!("bridge.signed-update", "db-append", "db", "-a ", SILENCE),
        enrol!("bridge.rogue-update", "db-rogue", "db", "", REFUSED),
    ] {
        lines.extend(update);
    }
    lines
}

/// Boots U-Boot on the bridge, then on Bulkhead with the same StMM, which has no flash there either.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress) -> Result<Tally> {
    let bridge = Bridge::build(project, progress)?;
    let chain = Chain::build(project, progress, Profile::Release, Changes { firmware: Firmware::UBoot, store_in_ram: true, ..Changes::default() })?;
    let (inside, partition) = (checksum(&bridge.stmm()?)?, checksum(&chain.stmm()?)?);
    let mut tally = Tally::default();
    println!("Boot 'bridge.op-tee': U-Boot, StMM inside OP-TEE, image {inside}");
    tally += dialogue(&Machine { resets: false, ..bridge.machine(project, "bridge-op-tee")? }, "bridge.op-tee", &lines())?;
    println!("Boot 'bridge.bulkhead': U-Boot, StMM as a partition, image {partition}");
    let assembled = chain.assemble(project, "bridge-bulkhead", StmmImage::Plain)?;
    tally += dialogue(&Machine { resets: false, ..chain.machine(&assembled)? }, "bridge.bulkhead", &lines())?;
    if inside == partition {
        tally.passed += 1;
        println!("  PASS bridge.same-image {inside}");
    } else {
        tally.failed += 1;
        println!("  FAIL bridge.same-image inside OP-TEE {inside}, as a partition {partition}");
    }
    Ok(tally)
}

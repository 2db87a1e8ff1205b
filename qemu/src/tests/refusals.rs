//! What the SPMC says about manifests and packages that are wrong, when the host did not judge them before: the boot stops
//! with the message, or goes on without that partition where the manifest says so. Short boots: each ends at its last line.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regex::Regex;

use super::Tally;
use crate::chain::{Chain, Changes, STMM, StmmImage};
use crate::console::Port;
use crate::machine::{CPUS, Machine};
use crate::progress::{self, Progress};
use crate::project::{Project, create_dir};
use crate::system;
use crate::toolchain::Profile;

/// Name for reports and filters, and of the system.
pub const NAME: &str = "refusals";
/// From power-on to the SPMC's verdict, and for OP-TEE's start.
const VERDICT: Duration = Duration::from_secs(60);
/// The normal world of these boots: a branch to itself.
const ENDLESS_LOOP: [u8; 4] = [0x00, 0x00, 0x00, 0x14];

/// One boot.
struct Refusal {
    name: &'static str,
    /// The manifest that is changed: a partition's name, or the SPMC's.
    of: &'static str,
    /// What of its source is replaced by what.
    changes: &'static [(&'static str, &'static str)],
    /// A further change of the SPMC's manifest.
    spmc: Option<(&'static str, &'static str)>,
    /// Patterns on the secure console, in order.
    says: &'static [&'static str],
}

const SPMC: &str = "spmc";

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "refusals.manifest-stops-the-boot",
        of: STMM,
        changes: &[("ffa-version = <0x00010002>;", "ffa-version = <0x00020000>;")],
        spmc: None,
        says: &[
            r"boot stopped: partition vm2 \(stmm\): /: ffa-version = 0x20000: expected 0x10000 \(1\.0\), 0x10001 \(1\.1\) or 0x10002 \(1\.2\)",
        ],
    },
    Refusal {
        name: "refusals.overlap-stops-the-boot",
        of: STMM,
        changes: &[("base-address = <0x0 0x0e330000>;", "base-address = <0x0 0x0e700000>;")],
        spmc: None,
        says: &[
            r"boot stopped: partition vm2 \(stmm\): /memory-regions/heap: base-address = 0xe700000\.\.=0xe9cffff: expected no overlap with partition vm1 \(op-tee\)",
        ],
    },
    Refusal {
        name: "refusals.bulkheads-own-memory",
        of: SPMC,
        changes: &[("load_address = <0x0e200000>;", "load_address = <0x0e100000>;")],
        spmc: None,
        says: &[r"boot stopped: SPMC manifest: /hypervisor/vm2: mem_size = 0xe100000\.\.=0xe4fffff: expected no overlap with Bulkhead's memory"],
    },
    Refusal {
        name: "refusals.no-package",
        of: SPMC,
        changes: &[("load_address = <0x0e200000>;", "load_address = <0x0e400000>;"), ("mem_size = <0x00400000>;", "mem_size = <0x00200000>;")],
        spmc: None,
        says: &[r"boot stopped: partition vm2 \(stmm\): package: magic = 0x[0-9a-f]+: expected "],
    },
    Refusal {
        name: "refusals.left-out",
        of: STMM,
        changes: &[("entrypoint-offset = <0x4000>;", "entrypoint-offset = <0x3000>;")],
        spmc: Some(("debug_name = \"stmm\";", "debug_name = \"stmm\"; bulkhead,keep-going;")),
        says: &[
            r"left out: partition vm2 \(stmm\): /: entrypoint-offset = 0x3000: expected one inside the image in the package",
            r"partition 0x8001 up",
            r"1 of 2 partitions are up",
        ],
    },
];

/// Boots one broken system after the other.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress) -> Result<Tally> {
    let dir = project.out().join(NAME);
    create_dir(&dir)?;
    let normal_world = dir.join("loop.bin");
    fs::write(&normal_world, ENDLESS_LOOP).with_context(|| format!("cannot write {}", normal_world.display()))?;
    let changes = Changes { normal_world: Some(normal_world), ..Changes::default() };
    let chain = Chain::build(project, progress, Profile::Release, changes)?;
    println!("Boot '{NAME}': what the SPMC says about wrong manifests and packages");
    let mut tally = Tally::default();
    for refusal in REFUSALS {
        match boot(project, &chain, refusal) {
            Ok(after) => {
                tally.passed += 1;
                println!("  PASS {} after {after}", refusal.name);
            }
            Err(error) => {
                crate::interrupt::check()?;
                tally.failed += 1;
                println!("  FAIL {} {error:#}", refusal.name);
            }
        }
    }
    Ok(tally)
}

fn boot(project: &Project, chain: &Chain, refusal: &Refusal) -> Result<String> {
    let mut system = chain.system(project, NAME, StmmImage::Plain)?;
    system.judged = false;
    let dir = project.out().join(NAME);
    let edited = |name: &str, source: &std::path::Path, changes: &[(&str, &str)]| -> Result<std::path::PathBuf> {
        let mut text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
        for (from, to) in changes {
            ensure!(text.matches(from).count() == 1, "{} should have '{from}' once", source.display());
            text = text.replacen(from, to, 1);
        }
        let path = dir.join(format!("broken-{name}.dts"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    for partition in system.partitions.iter_mut().filter(|p| p.name == refusal.of) {
        partition.manifest = edited(refusal.of, &partition.manifest, refusal.changes)?;
    }
    let of_spmc = if refusal.of == SPMC { refusal.changes } else { &[] };
    let all: Vec<_> = of_spmc.iter().copied().chain(refusal.spmc).collect();
    system.spmc_manifest = edited(SPMC, &system.spmc_manifest, &all)?;
    let assembled = system::assemble(project, &system)?;
    let mut run = Machine { resets: false, cpus: CPUS, ..chain.machine(&assembled)? }.start()?;
    for line in refusal.says {
        run.expect(Port::Secure, &Regex::new(line)?, VERDICT)?;
    }
    Ok(progress::seconds(run.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::OPTEE;

    #[test]
    fn patterns_are_valid_and_name_a_known_manifest() {
        for refusal in REFUSALS {
            assert!([OPTEE, STMM, SPMC].contains(&refusal.of), "{}", refusal.name);
            for line in refusal.says {
                Regex::new(line).unwrap();
            }
        }
    }
}

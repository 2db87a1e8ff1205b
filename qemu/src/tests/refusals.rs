//! What is said about a system that does not fit together, when the host did not judge it before. The SPMC about manifests and packages: the
//! boot stops with the message, or goes on without that partition where the manifest says so. UEFI about an StMM that is not
//! there, or has another buffer: it says so and powers off. Short boots: each ends at its last line.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regex::Regex;

use super::Tally;
use crate::chain::{Chain, Changes, OPTEE, STMM, StmmImage};
use crate::console::Port;
use crate::machine::{CPUS, End, Limits, Machine};
use crate::progress::{self, Progress};
use crate::project::{Project, create_dir};
use crate::system::{self, Edit, SPMC};
use crate::toolchain::Profile;

/// Name for reports and filters, and of the system.
pub const NAME: &str = "refusals";
/// From power-on to the SPMC's verdict, and for the start of OP-TEE and of UEFI.
const VERDICT: Duration = Duration::from_secs(60);
/// The normal world of the boots without UEFI: a branch to itself.
const ENDLESS_LOOP: [u8; 4] = [0x00, 0x00, 0x00, 0x14];

/// One boot.
struct Refusal {
    name: &'static str,
    /// Changes of manifests.
    edits: &'static [Edit],
    /// A partition that is left out.
    without: Option<&'static str>,
    /// Who says it.
    by: By,
    /// Patterns on that one's console, in order.
    says: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The SPMC, on the secure console; the normal world has an endless loop.
    Spmc,
    /// UEFI, which then powers off.
    Uefi,
    /// UEFI, which goes on.
    UefiGoesOn,
}

const fn of(of: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit { of, from, to }
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "refusals.manifest-stops-the-boot",
        edits: &[of(STMM, "ffa-version = <0x00010002>;", "ffa-version = <0x00020000>;")],
        without: None,
        by: By::Spmc,
        says: &[
            r"boot stopped: partition vm2 \(stmm\): /: ffa-version = 0x20000: expected 0x10000 \(1\.0\), 0x10001 \(1\.1\) or 0x10002 \(1\.2\)",
        ],
    },
    Refusal {
        name: "refusals.overlap-stops-the-boot",
        edits: &[of(STMM, "base-address = <0x0 0x0e330000>;", "base-address = <0x0 0x0e700000>;")],
        without: None,
        by: By::Spmc,
        says: &[
            r"boot stopped: partition vm2 \(stmm\): /memory-regions/heap: base-address = 0xe700000\.\.=0xe9cffff: expected no overlap with partition vm1 \(op-tee\)",
        ],
    },
    Refusal {
        name: "refusals.bulkheads-own-memory",
        edits: &[of(SPMC, "load_address = <0x0e200000>;", "load_address = <0x0e100000>;")],
        without: None,
        by: By::Spmc,
        says: &[r"boot stopped: SPMC manifest: /hypervisor/vm2: mem_size = 0xe100000\.\.=0xe4fffff: expected no overlap with Bulkhead's memory"],
    },
    Refusal {
        name: "refusals.no-package",
        edits: &[of(SPMC, "load_address = <0x0e200000>;", "load_address = <0x0e400000>;"), of(SPMC, "mem_size = <0x00400000>;", "mem_size = <0x00200000>;")],
        without: None,
        by: By::Spmc,
        says: &[r"boot stopped: partition vm2 \(stmm\): package: magic = 0x[0-9a-f]+: expected "],
    },
    Refusal {
        name: "refusals.left-out",
        edits: &[of(STMM, "entrypoint-offset = <0x4000>;", "entrypoint-offset = <0x3000>;"), of(SPMC, "debug_name = \"stmm\";", "debug_name = \"stmm\"; bulkhead,keep-going;")],
        without: None,
        by: By::Spmc,
        says: &[
            r"left out: partition vm2 \(stmm\): /: entrypoint-offset = 0x3000: expected one inside the image in the package",
            r"partition 0x8001 up",
            r"1 of 2 partitions are up",
        ],
    },
    Refusal {
        name: "refusals.buffer-not-shared",
        edits: &[of(STMM, "bulkhead,shared-with = <0x8001>;", "")],
        without: None,
        by: By::Spmc,
        says: &[
            r"boot stopped: partition vm2 \(stmm\): /memory-regions/rx-tx-buffers: base-address = 0xe328000\.\.=0xe32ffff: expected no overlap with partition vm1 \(op-tee\): stmm-buffer",
        ],
    },
    Refusal {
        name: "refusals.stmm-of-an-older-version",
        edits: &[of(STMM, "ffa-version = <0x00010002>;", "ffa-version = <0x00010001>;")],
        without: None,
        by: By::Spmc,
        says: &[r"boot stopped: partition vm2 \(stmm\): /: messaging-method = 0x201: expected bits 9 and 10 clear: ffa-version is below 1\.2, which brought FFA_MSG_SEND_DIRECT_REQ2"],
    },
    Refusal {
        name: "refusals.op-tee-of-an-older-version",
        edits: &[of(OPTEE, "ffa-version = <0x00010002>;", "ffa-version = <0x00010000>;")],
        without: None,
        by: By::Spmc,
        says: &[r"boot stopped: partition vm1 \(op-tee\): /: notification-support is there: expected ffa-version 1\.1 or later, which brought notifications"],
    },
    Refusal {
        name: "refusals.op-tee-speaks-an-older-version",
        edits: &[of(OPTEE, "ffa-version = <0x00010002>;", "ffa-version = <0x00010001>;")],
        without: None,
        by: By::Spmc,
        says: &[r"partition 0x8001 up: FF-A 1\.1 spoken", "all partitions are up"],
    },
    Refusal {
        name: "refusals.uefi-without-stmm",
        edits: &[],
        without: Some(STMM),
        by: By::Uefi,
        says: &[r"UEFI: no variables: there is no StMM: no partition has the UUID 378DAEDC-F06B-4446-8314-40AB933C87A3 \(Invalid Parameter\)", "powering off"],
    },
    Refusal {
        name: "refusals.uefi-misplaced-buffer",
        edits: &[of(STMM, "base-address = <0x0 0x5ff00000>;", "base-address = <0x0 0x5fe00000>;")],
        without: None,
        by: By::Uefi,
        says: &[r"UEFI: no variables: StMM does not take messages at PcdMmBufferBase 0x5FF00000 \(.*\): is that ns_comm_buffer in its manifest", "powering off"],
    },
    Refusal {
        name: "refusals.uefi-buffer-too-small",
        edits: &[of(STMM, "pages-count = <16>;", "pages-count = <8>;")],
        without: None,
        by: By::UefiGoesOn,
        says: &[r"UEFI: StMM does not take a message of PcdMmBufferSize 0x10000 \(.*\): large variables will fail if ns_comm_buffer", "BdsDxe: starting Boot"],
    },
];

/// Boots one broken system after the other.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress) -> Result<Tally> {
    let dir = project.out().join(NAME);
    create_dir(&dir)?;
    let endless = dir.join("loop.bin");
    fs::write(&endless, ENDLESS_LOOP).with_context(|| format!("cannot write {}", endless.display()))?;
    let endless = Chain::build(project, progress, Profile::Release, Changes { normal_world: Some(endless), ..Changes::default() })?;
    let uefi = Chain::build(project, progress, Profile::Release, Changes::default())?;
    println!("Boot '{NAME}': what is said about systems that do not fit together");
    let mut tally = Tally::default();
    for refusal in REFUSALS {
        let chain = if refusal.by == By::Spmc { &endless } else { &uefi };
        match boot(project, chain, refusal) {
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
    system.partitions.retain(|partition| Some(partition.name.as_str()) != refusal.without);
    system.without.extend(refusal.without.map(str::to_owned));
    system.edit(project, refusal.edits)?;
    let assembled = system::assemble(project, &system)?;
    let mut run = Machine { resets: false, cpus: CPUS, ..chain.machine(&assembled)? }.start()?;
    let port = if refusal.by == By::Spmc { Port::Secure } else { Port::Normal };
    for line in refusal.says {
        run.expect(port, &Regex::new(line)?, VERDICT)?;
    }
    if refusal.by == By::Uefi {
        let end = run.watch(&Limits { silence: VERDICT, total: run.elapsed() + VERDICT }, &mut |_| ())?;
        ensure!(end == End::PoweredOff, "{}\n{}", end.show(), run.last_words());
    }
    Ok(progress::seconds(run.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_valid_and_name_a_known_manifest() {
        for refusal in REFUSALS {
            assert!(refusal.edits.iter().all(|edit| [OPTEE, STMM, SPMC].contains(&edit.of)), "{}", refusal.name);
            for line in refusal.says {
                Regex::new(line).unwrap();
            }
        }
    }
}

//! TF-A 2.12.1 for QEMU's virt machine with the SPMD at EL3 and room for an SPMC at S-EL2; sources unpatched.
//!
//! BL1, BL2 and BL31 do not depend on what they load: the FIP does, and we write it ourselves ([`crate::fip`]). So TF-A
//! is built once, for every configuration; only the bridge, which has no SPMD, has a build of its own ([`super::bridge`]).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::recipe::{Job, Recipe, Source, Tarball};

/// The sources.
pub const SOURCE: Tarball = Tarball {
    pool_path: "a/arm-trusted-firmware/arm-trusted-firmware_2.12.1+dfsg.orig.tar.xz",
    sha256: "332c08d71867b7f0dce0bce4cb2abd80f19cb3e0a2de6fe07245c111189d6fb7",
    size: 8_078_248,
};

/// Build flags of any TF-A for this machine: the platform, and every architecture extension whose state EL3 must enable for the worlds
/// below (value 2: if the CPU has it).
const FLAGS: [&str; 17] = [
    "PLAT=qemu",
    "NEED_BL32=yes",
    "BL32_RAM_LOCATION=tdram",
    "QEMU_USE_GIC_DRIVER=QEMU_GICV3",
    "ENABLE_SME_FOR_NS=2",
    "ENABLE_SME_FOR_SWD=1",
    "ENABLE_SVE_FOR_NS=2",
    "ENABLE_SVE_FOR_SWD=1",
    "ENABLE_FEAT_FGT=2",
    "ENABLE_FEAT_HCX=2",
    "ENABLE_FEAT_ECV=2",
    "ENABLE_FEAT_MTE2=2",
    "BRANCH_PROTECTION=1",
    "ARM_ARCH_MAJOR=8",
    "ARM_ARCH_MINOR=3",
    // Notices and errors, on the normal world's UART; level 40 also tells which image is loaded where.
    "LOG_LEVEL=20",
    "DEBUG=0",
];

/// The SPMD, for an SPMC at S-EL2.
const SPMD: [&str; 4] = ["SPD=spmd", "SPMD_SPM_AT_SEL2=1", "ENABLE_FEAT_SEL2=1", "NEED_FDT=yes"];

/// What a build leaves.
pub(super) const OUTPUTS: [&str; 4] = ["bl1.bin", "bl2.bin", "bl31.bin", "bl31.elf"];

/// The recipe.
pub struct Tfa;

impl Recipe for Tfa {
    fn name(&self) -> String {
        "tfa".into()
    }

    fn summary(&self) -> String {
        "TF-A 2.12.1: BL1, BL2 and BL31 with the SPMD".into()
    }

    fn text(&self) -> &'static str {
        include_str!("tfa.rs")
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(SOURCE)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        OUTPUTS.to_vec()
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        // The build insists on a list of SP packages; ours go into the FIP later, so this one is empty.
        let layout = job.work().join("sp_layout.json");
        fs::write(&layout, "{}\n").with_context(|| format!("cannot write {}", layout.display()))?;
        let mut flags: Vec<String> = SPMD.map(Into::into).to_vec();
        flags.push(format!("SP_LAYOUT_FILE={}", layout.display()));
        build(job, &flags)
    }
}

/// Builds TF-A with `flags` beside those of every build for this machine.
pub(super) fn build(job: &Job<'_>, flags: &[String]) -> Result<()> {
    let source = job.unpack(&SOURCE, "tfa")?;
    job.run(
        "compiling",
        Command::new("make")
            .current_dir(&source)
            .arg(format!("-j{}", job.cores()))
            .arg("CROSS_COMPILE=aarch64-linux-gnu-")
            // A fixed stamp: the same inputs give the same image.
            .arg("BUILD_MESSAGE_TIMESTAMP=\"bulkhead\"")
            .args(FLAGS)
            .args(flags)
            .args(["bl1", "bl2", "bl31"]),
    )?;
    for (from, to) in ["bl1.bin", "bl2.bin", "bl31.bin", "bl31/bl31.elf"].into_iter().zip(OUTPUTS) {
        let path = source.join("build/qemu/release").join(from);
        fs::copy(&path, job.out().join(to)).with_context(|| format!("TF-A's build did not make {}", path.display()))?;
    }
    Ok(())
}

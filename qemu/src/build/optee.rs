//! OP-TEE OS 4.10 as an S-EL1 partition under an SPMC at S-EL2; sources unpatched.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::recipe::{Job, Recipe, Source, Tarball};

/// The sources.
pub const SOURCE: Tarball = Tarball {
    pool_path: "o/optee-os/optee-os_4.10.0.orig.tar.gz",
    sha256: "18633691cb075ff2249422251f1cd77c30439a95b564b46682dea1fb6580a5af",
    size: 4_896_220,
};

/// Where TF-A puts the package: its header and manifest come first, the image follows.
pub const PACKAGE_BASE: u64 = 0x0e60_0000;
/// Where the image lies and runs: after four pages of header and manifest.
pub const IMAGE_OFFSET: u64 = 0x4000;
/// End of OP-TEE's memory.
pub const END: u64 = 0x0ef0_0000;

/// The recipe.
pub struct Optee;

impl Recipe for Optee {
    fn name(&self) -> String {
        "optee".into()
    }

    fn summary(&self) -> String {
        "OP-TEE OS 4.10 for S-EL1".into()
    }

    fn text(&self) -> &'static str {
        include_str!("optee.rs")
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(SOURCE)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["tee-raw.bin", "tee.elf"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let source = job.unpack(&SOURCE, "optee")?;
        let start = PACKAGE_BASE + IMAGE_OFFSET;
        job.run(
            "compiling",
            Command::new("make")
                .current_dir(&source)
                .arg(format!("-j{}", job.cores()))
                .args([
                    "PLATFORM=vexpress-qemu_armv8a",
                    "CROSS_COMPILE64=aarch64-linux-gnu-",
                    "CFG_ARM64_core=y",
                    "CFG_USER_TA_TARGETS=ta_arm64",
                    // A partition of an SPMC at S-EL2, with its paravirtual interrupt calls in place of a GIC.
                    "CFG_CORE_SEL2_SPMC=y",
                    "CFG_ARM_GICV3=n",
                    "CFG_CORE_HAFNIUM_INTC=y",
                    "CFG_CORE_WORKAROUND_NSITR_CACHE_PRIME=n",
                    // The PKCS #11 token, which xtest's second suite wants and Debian's package of xtest has not.
                    "CFG_IN_TREE_EARLY_TAS=pkcs11/fd02c9da-306c-48c7-a49c-bbd827ae86ee",
                    // As many cores as the machine may have; the platform's default is four, and a fifth never starts.
                    "CFG_TEE_CORE_NB_CORE=8",
                    "O=out",
                ])
                .arg(format!("CFG_TZDRAM_START={start:#010x}"))
                .arg(format!("CFG_TZDRAM_SIZE={:#010x}", END - start)),
        )?;
        for name in ["tee-raw.bin", "tee.elf"] {
            let path = source.join("out/core").join(name);
            fs::copy(&path, job.out().join(name)).with_context(|| format!("OP-TEE's build did not make {}", path.display()))?;
        }
        Ok(())
    }
}

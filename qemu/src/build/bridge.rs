//! The bridge that Bulkhead replaces, for comparison: StMM inside OP-TEE, under a TF-A that knows OP-TEE alone. Sources unpatched, and
//! the StMM is the very image that is a partition elsewhere.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::edk2::Stmm;
use super::{optee, tfa};
use crate::recipe::{Job, Recipe, Source};

/// Name of TF-A's recipe.
pub const TFA: &str = "bridge-tfa";
/// Name of OP-TEE's recipe.
pub const OPTEE: &str = "bridge-optee";

/// The recipes, which only the bridge needs.
#[must_use]
pub fn all() -> Vec<Box<dyn Recipe>> {
    vec![Box::new(Tfa), Box::new(Optee)]
}

/// TF-A with OP-TEE's dispatcher in place of the SPMD; else as for Bulkhead.
struct Tfa;

impl Recipe for Tfa {
    fn name(&self) -> String {
        TFA.into()
    }

    fn summary(&self) -> String {
        "TF-A 2.12.1 with OP-TEE's dispatcher, for comparison".into()
    }

    fn text(&self) -> &'static str {
        concat!(include_str!("bridge.rs"), include_str!("tfa.rs"))
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(tfa::SOURCE)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        tfa::OUTPUTS.to_vec()
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        tfa::build(job, &["SPD=opteed".into()])
    }
}

/// OP-TEE at S-EL1, alone in the secure world, with StMM in its image.
struct Optee;

impl Recipe for Optee {
    fn name(&self) -> String {
        OPTEE.into()
    }

    fn summary(&self) -> String {
        "OP-TEE OS 4.10 with StMM inside, for comparison".into()
    }

    fn text(&self) -> &'static str {
        concat!(include_str!("bridge.rs"), include_str!("optee.rs"))
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(optee::SOURCE)]
    }

    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        vec![Box::new(Stmm)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["tee-raw.bin", "tee.elf"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let source = job.unpack(&optee::SOURCE, "optee")?;
        let stmm = job.artifact("stmm")?.join("stmm.fd");
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
                    "CFG_ARM_GICV3=y",
                    // Where its code runs tells the counting plugin whose it is.
                    "CFG_CORE_ASLR=n",
                    "O=out",
                ])
                .arg(format!("CFG_STMM_PATH={}", stmm.display())),
        )?;
        for name in ["tee-raw.bin", "tee.elf"] {
            let path = source.join("out/core").join(name);
            fs::copy(&path, job.out().join(name)).with_context(|| format!("OP-TEE's build did not make {}", path.display()))?;
        }
        Ok(())
    }
}

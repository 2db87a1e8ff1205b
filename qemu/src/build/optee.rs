//! OP-TEE OS 4.10 as an S-EL1 partition under an SPMC at S-EL2; sources unpatched. A platform directory of ours beside OP-TEE's
//! (`partitions/optee/plat-bulkhead`) adds a pseudo TA to its vexpress platform; a TA of ours uses that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::linux::{TAS, Userland};
use crate::recipe::{Job, Recipe, Source, Tarball};

const OURS: &str = "partitions/optee";
/// A pseudo TA for tests, which every OP-TEE of ours has.
pub(super) const OVERREACH: &str = "partitions/optee/overreach";
/// The TA that reads and writes UEFI variables, as tee-supplicant looks for it.
pub const VARIABLES_TA: &str = "6d0a7199-9f73-481f-8180-72d47b05742a.ta";

/// A TA of OP-TEE's tests that is part of the image, so that it is there before Linux is (`partitions/uefi/OpteeFfaPkg/OpteeList`).
const EARLY_TA: &str = "e6a33ed4-562b-463a-bb7e-ff5e15a493c8";

/// The sources.
pub const SOURCE: Tarball = Tarball {
    pool_path: "o/optee-os/optee-os_4.10.0.orig.tar.gz",
    sha256: "18633691cb075ff2249422251f1cd77c30439a95b564b46682dea1fb6580a5af",
    size: 4_896_220,
};

/// Where TF-A puts the package: its header and manifest come first, the image follows.
pub const PACKAGE_BASE: u32 = 0x0e60_0000;
/// Where the image lies and runs: after four pages of header and manifest.
pub const IMAGE_OFFSET: u32 = 0x4000;
/// End of OP-TEE's memory.
pub const END: u32 = 0x0ef0_0000;

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
        vec!["tee-raw.bin", "tee.elf", VARIABLES_TA]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![OURS.into()]
    }

    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        vec![Box::new(Userland)]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let ours = job.repo(OURS);
        // The PKCS #11 token, which xtest's second suite wants and Debian's package of xtest has not.
        let token = "CFG_IN_TREE_EARLY_TAS=pkcs11/fd02c9da-306c-48c7-a49c-bbd827ae86ee";
        let early_ta = format!("EARLY_TA_PATHS={}", early_ta(job)?.display());
        let platform = Platform { name: "bulkhead", dir: "plat-bulkhead", ours: &ours, start: PACKAGE_BASE, end: END };
        let source = core(job, &platform, &[token, &early_ta])?;
        let ta = ta(job, &source, &ours, "uefi_variables")?;
        keep(job, &source, &ta, VARIABLES_TA)
    }
}

/// The program in a signed TA of Debian's package, under the name by which OP-TEE's build takes it. The signature before it is for TAs that
/// come from the normal world.
fn early_ta(job: &Job<'_>) -> Result<PathBuf> {
    let signed = job.artifact("linux-userland")?.join(TAS).join(format!("{EARLY_TA}.ta"));
    let bytes = fs::read(&signed).with_context(|| format!("the package of OP-TEE's tests has no {}", signed.display()))?;
    let at = bytes.windows(4).position(|magic| magic == b"\x7fELF").with_context(|| format!("no program in {}: is it encrypted?", signed.display()))?;
    let program = job.work().join(format!("{EARLY_TA}.stripped.elf"));
    fs::write(&program, &bytes[at..]).with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}

/// A platform of ours for OP-TEE, and where its package lies.
pub(super) struct Platform<'a> {
    /// OP-TEE's name for it: it becomes `core/arch/arm/plat-<name>`.
    pub name: &'a str,
    /// Its directory below `ours`; `include` beside it becomes its `include`.
    pub dir: &'a str,
    /// Our sources.
    pub ours: &'a Path,
    /// Where TF-A puts the package.
    pub start: u32,
    /// End of the memory.
    pub end: u32,
}

/// Builds OP-TEE's core and its TA dev kit for `platform`, with `settings` beside those of every partition. Returns the directory of the sources.
pub(super) fn core(job: &Job<'_>, platform: &Platform<'_>, settings: &[&str]) -> Result<PathBuf> {
    let source = job.unpack(&SOURCE, "optee")?;
    let target = source.join(format!("core/arch/arm/plat-{}", platform.name));
    job.run("adding our platform", Command::new("cp").arg("-r").arg(platform.ours.join(platform.dir)).arg(&target))?;
    job.run("adding our platform", Command::new("cp").arg("-r").arg(platform.ours.join("include")).arg(&target))?;
    job.run("adding our platform", Command::new("cp").arg("-r").arg(job.repo(OVERREACH)).arg(&target))?;
    let start = platform.start + IMAGE_OFFSET;
    job.run(
        "compiling",
        Command::new("make")
            .current_dir(&source)
            .arg(format!("-j{}", job.cores()))
            .arg(format!("PLATFORM={}", platform.name))
            .args([
                "CROSS_COMPILE64=aarch64-linux-gnu-",
                "CFG_ARM64_core=y",
                "CFG_USER_TA_TARGETS=ta_arm64",
                // A partition of an SPMC at S-EL2, with its paravirtual interrupt calls in place of a GIC.
                "CFG_CORE_SEL2_SPMC=y",
                "CFG_ARM_GICV3=n",
                "CFG_CORE_HAFNIUM_INTC=y",
                "CFG_CORE_WORKAROUND_NSITR_CACHE_PRIME=n",
                // As many cores as the machine may have; the platform's default is four, and a fifth never starts.
                "CFG_TEE_CORE_NB_CORE=8",
                "O=out",
            ])
            .args(settings)
            .arg(format!("CFG_TZDRAM_START={start:#010x}"))
            .arg(format!("CFG_TZDRAM_SIZE={:#010x}", platform.end - start)),
    )?;
    Ok(source)
}

/// Builds the TA in `ours/ta/<name>` with the dev kit of `source`. Returns the directory with the signed TA.
pub(super) fn ta(job: &Job<'_>, source: &Path, ours: &Path, name: &str) -> Result<PathBuf> {
    let built = job.work().join("ours");
    job.run("compiling our TA", Command::new("cp").arg("-r").arg(ours).arg(&built))?;
    let ta = built.join("ta").join(name);
    job.run(
        "compiling our TA",
        Command::new("make")
            .arg("-C")
            .arg(&ta)
            .args(["CROSS_COMPILE=aarch64-linux-gnu-", "O=out"])
            .arg(format!("TA_DEV_KIT_DIR={}", source.join("out/export-ta_arm64").display())),
    )?;
    Ok(ta.join("out"))
}

/// Copies the core of `source` and the signed TA in the directory `ta` into the artifact.
pub(super) fn keep(job: &Job<'_>, source: &Path, ta: &Path, ta_name: &str) -> Result<()> {
    let core = source.join("out/core");
    for path in [core.join("tee-raw.bin"), core.join("tee.elf"), ta.join(ta_name)] {
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, job.out().join(name)).with_context(|| format!("OP-TEE's build did not make {}", path.display()))?;
    }
    Ok(())
}

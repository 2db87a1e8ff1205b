//! EDK2 2025.02: StMM for S-EL0 and UEFI as BL33; firmware sources unpatched.
//!
//! Three recipes share one source archive: the build tools, StMM (both images) and UEFI. Our own packages
//! (`partitions/stmm/BulkheadStmmPkg`, `partitions/uefi/BulkheadUefiPkg` and `OpteeFfaPkg`) are copied beside EDK2's; UEFI's
//! platform description is derived from EDK2's ArmVirtQemuKernel ([`description`]).

mod description;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::recipe::{Job, Recipe, Source, Tarball};

/// The sources.
pub const SOURCE: Tarball = Tarball {
    pool_path: "e/edk2/edk2_2025.02.orig.tar.xz",
    sha256: "b63b6053d6d89c74d9291f9e96fde1584be99e6fb9c169ba9511505129d6b049",
    size: 29_646_336,
};

const STMM_PACKAGE: &str = "partitions/stmm/BulkheadStmmPkg";
const UEFI_PACKAGES: [&str; 2] = ["partitions/uefi/BulkheadUefiPkg", "partitions/uefi/OpteeFfaPkg"];
const TOOLS: &str = "edk2-tools";
/// Our UEFI application that lists what OP-TEE offers.
pub const OPTEE_LIST: &str = "OpteeList.efi";

/// This file and its submodule: what the cache key is made of.
const TEXT: &str = concat!(include_str!("edk2.rs"), include_str!("edk2/description.rs"));

/// The EDK2 recipes.
#[must_use]
pub fn all() -> Vec<Box<dyn Recipe>> {
    vec![Box::new(Tools), Box::new(Stmm), Box::new(Uefi)]
}

/// EDK2's build tools that are written in C (the others are Python scripts in the source archive).
pub struct Tools;

impl Recipe for Tools {
    fn name(&self) -> String {
        TOOLS.into()
    }

    fn summary(&self) -> String {
        "EDK2's build tools".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(SOURCE)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["bin/GenFv", "bin/GenFw", "bin/GenFfs", "bin/GenSec", "bin/LzmaCompress", "bin/VfrCompile"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let tools = job.unpack(&SOURCE, "edk2")?.join("BaseTools/Source/C");
        // Debian's archive has no sources of brotli, and nothing here compresses with it: leave the tool out.
        let makefile = tools.join("GNUmakefile");
        let text = fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
        let text = description::without_line(&text, "  BrotliCompress \\").with_context(|| makefile.display().to_string())?;
        fs::write(&makefile, text).with_context(|| format!("cannot write {}", makefile.display()))?;
        job.run("compiling", Command::new("make").arg("-C").arg(&tools).arg(format!("-j{}", job.cores())))?;
        copy_files(&tools.join("bin"), &job.out().join("bin"))
    }
}

/// StMM: the partition and its variant for tests.
pub struct Stmm;

impl Recipe for Stmm {
    fn name(&self) -> String {
        "stmm".into()
    }

    fn summary(&self) -> String {
        "StMM (EDK2 2025.02) for S-EL0".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(SOURCE)]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![STMM_PACKAGE.into()]
    }

    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        vec![Box::new(Tools)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["stmm.fd", "stmm-wild.fd"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let workspace = prepare(job, &[STMM_PACKAGE])?;
        build_platform(job, &workspace, "BulkheadStmmPkg/BulkheadStmm.dsc", &[])?;
        let volumes = workspace.join("Build/BulkheadStmm/RELEASE_GCCNOLTO/FV");
        copy(&volumes.join("STMM.fd"), &job.out().join("stmm.fd"))?;
        copy(&volumes.join("STMM_WILD.fd"), &job.out().join("stmm-wild.fd"))
    }
}

/// UEFI for the normal world, loaded by TF-A at 0x60000000.
pub struct Uefi;

impl Recipe for Uefi {
    fn name(&self) -> String {
        "uefi".into()
    }

    fn summary(&self) -> String {
        "UEFI (EDK2 2025.02), variables by FF-A".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(SOURCE)]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        UEFI_PACKAGES.map(PathBuf::from).into()
    }

    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        vec![Box::new(Tools)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["QEMU_EFI.fd", OPTEE_LIST]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let workspace = prepare(job, &UEFI_PACKAGES)?;
        description::derive(&workspace.join("ArmVirtPkg"), &workspace.join("BulkheadUefiPkg"))?;
        // No network: it doubles the time and nothing here boots over it.
        build_platform(job, &workspace, "BulkheadUefiPkg/BulkheadUefi.dsc", &["-D", "SECURE_BOOT_ENABLE=TRUE", "-D", "NETWORK_ENABLE=FALSE"])?;
        let built = workspace.join("Build/BulkheadUefi/RELEASE_GCCNOLTO");
        copy(&built.join("FV/QEMU_EFI.fd"), &job.out().join("QEMU_EFI.fd"))?;
        copy(&built.join("AARCH64").join(OPTEE_LIST), &job.out().join(OPTEE_LIST))
    }
}

/// Unpacks EDK2, adds the build tools and `packages` of ours, and returns the workspace.
fn prepare(job: &Job<'_>, packages: &[&str]) -> Result<PathBuf> {
    let workspace = job.unpack(&SOURCE, "edk2")?;
    copy_files(&job.artifact(TOOLS)?.join("bin"), &workspace.join("BaseTools/Source/C/bin"))?;
    for package in packages {
        let package = job.repo(package);
        let Some(name) = package.file_name() else { bail!("{} has no last component", package.display()) };
        copy_tree(&package, &workspace.join(name))?;
    }
    Ok(workspace)
}

/// Runs EDK2's `build` on a platform description, in the environment that `edksetup.sh` makes.
fn build_platform(job: &Job<'_>, workspace: &Path, platform: &str, defines: &[&str]) -> Result<()> {
    // edksetup.sh reads the positional parameters; the command's own come back as an array.
    let script = r#"command=("$@"); set --; . ./edksetup.sh && exec build "${command[@]}""#;
    job.run(
        "compiling",
        Command::new("bash")
            .current_dir(workspace)
            .env("WORKSPACE", workspace)
            .env("EDK_TOOLS_PATH", workspace.join("BaseTools"))
            .env("CONF_PATH", workspace.join("Conf"))
            .env("PYTHON_COMMAND", "python3")
            // The archive lacks the objects that the toolchain tag GCC, with link-time optimisation, would link.
            .env("GCCNOLTO_AARCH64_PREFIX", "aarch64-linux-gnu-")
            .env_remove("PACKAGES_PATH")
            .args(["-c", script, "edk2-build"])
            .args(["-a", "AARCH64", "-t", "GCCNOLTO", "-b", "RELEASE", "-p", platform])
            .arg("-n")
            .arg(job.cores().to_string())
            .args(defines),
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("EDK2's build did not make {}", from.display()))?;
    Ok(())
}

/// Copies the files of one directory (not its subdirectories), permissions included.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Copies a directory with all that is in it.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    copy_files(from, to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

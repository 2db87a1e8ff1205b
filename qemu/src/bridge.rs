//! The bridge as a system: TF-A with OP-TEE's dispatcher, OP-TEE with StMM inside, U-Boot. For comparison with the chain that replaces it
//! ([`crate::chain`]): U-Boot, Linux's disk and the StMM image are the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::build::{bridge, edk2, linux, uboot};
use crate::fetch::hex;
use crate::graph::{self, Artifacts};
use crate::machine::{MEMORY, Machine};
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::system;

/// All parts of the bridge, built.
pub struct Bridge {
    artifacts: Artifacts,
}

impl Bridge {
    /// Builds what is missing.
    ///
    /// # Errors
    /// When a build fails.
    pub fn build(project: &Project, progress: &Progress) -> Result<Self> {
        let mut recipes: Vec<Box<dyn Recipe>> = vec![Box::new(edk2::Stmm), Box::new(uboot::UBoot)];
        recipes.extend(bridge::all());
        recipes.extend(linux::all());
        Ok(Self { artifacts: graph::ensure(project, progress, recipes)? })
    }

    /// The StMM image that is in OP-TEE.
    ///
    /// # Errors
    /// When it is missing.
    pub fn stmm(&self) -> Result<PathBuf> {
        self.artifacts.file("stmm", "stmm.fd")
    }

    /// The machine, assembled as system `name`.
    ///
    /// # Errors
    /// When a part is missing or does not fit.
    pub fn machine(&self, project: &Project, name: &str) -> Result<Machine> {
        let op_tee = self.artifacts.file(bridge::OPTEE, "tee-raw.bin")?;
        let u_boot = self.artifacts.file(uboot::NAME, "u-boot.bin")?;
        let assembled = system::assemble_bridge(project, name, self.artifacts.dir(bridge::TFA)?, &op_tee, &u_boot, MEMORY)?;
        let device_tree = Some(project.root.join("partitions/bridge/op-tee.dtsi"));
        Ok(Machine { disk: Some(self.artifacts.file("linux", "disk.img")?), device_tree, ..Machine::new(&assembled) })
    }
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// When it cannot be read.
pub fn checksum(path: &Path) -> Result<String> {
    Ok(hex(&Sha256::digest(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)))
}

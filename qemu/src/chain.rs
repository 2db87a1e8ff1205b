//! The real chain as a system: TF-A, Bulkhead, OP-TEE and StMM as peer partitions, UEFI, Linux on a disk.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build::{edk2, linux, optee, tfa};
use crate::graph::{self, Artifacts};
use crate::limits;
use crate::machine::{MEMORY, Machine};
use crate::package::Format;
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::system::{self, Assembled, Partition, System};
use crate::toolchain::{Image, Profile};

/// Name of OP-TEE in systems, and in the SPMC's manifest.
pub const OPTEE: &str = "op-tee";
/// Name of StMM.
pub const STMM: &str = "stmm";

/// Which build of StMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StmmImage {
    /// The real one.
    Plain,
    /// With a test driver that accesses any address on request.
    Wild,
}

/// What of the chain is left out or replaced.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The normal world's memory, in MiB.
    pub memory: u32,
    /// Partitions that are not there.
    pub without: Vec<String>,
    /// What the normal world starts with in place of UEFI; there is no disk then.
    pub normal_world: Option<PathBuf>,
}

/// All parts of the chain, built.
pub struct Chain {
    artifacts: Artifacts,
    spmc: Image,
    changes: Changes,
}

impl Chain {
    /// Builds what is missing.
    ///
    /// # Errors
    /// When a build fails.
    pub fn build(project: &Project, progress: &Progress, profile: Profile, changes: Changes) -> Result<Self> {
        let mut recipes: Vec<Box<dyn Recipe>> = vec![Box::new(tfa::Tfa)];
        if changes.has(OPTEE) {
            recipes.push(Box::new(optee::Optee));
        }
        if changes.has(STMM) {
            recipes.push(Box::new(edk2::Stmm));
        }
        if changes.normal_world.is_none() {
            recipes.push(Box::new(edk2::Uefi));
            recipes.extend(linux::all());
        }
        let artifacts = graph::ensure(project, progress, recipes)?;
        let spmc = limits::build_spmc(project, progress, profile)?;
        Ok(Self { artifacts, spmc, changes })
    }

    /// The SPMC.
    #[must_use]
    pub fn spmc(&self) -> &Image {
        &self.spmc
    }

    /// Assembles the chain as system `name`, with a variable store of its own.
    ///
    /// # Errors
    /// When a part is missing or does not fit.
    pub fn assemble(&self, project: &Project, name: &str, stmm: StmmImage) -> Result<Assembled> {
        system::assemble(project, &self.system(project, name, stmm)?).with_context(|| format!("cannot assemble {name}"))
    }

    /// The parts of the chain, to be assembled as system `name`.
    ///
    /// # Errors
    /// When a part is missing.
    pub fn system(&self, project: &Project, name: &str, stmm: StmmImage) -> Result<System> {
        let mut partitions = Vec::new();
        if self.changes.has(OPTEE) {
            partitions.push(Partition {
                name: OPTEE.into(),
                manifest: project.root.join("manifests/optee.dts"),
                image: self.artifacts.file("optee", "tee-raw.bin")?,
                load_address: 0x0e60_0000,
                uuid: "486178e0-e7f8-11e3-bc5e-0002a5d5c51b".into(),
                format: Format::Sptool,
            });
        }
        if self.changes.has(STMM) {
            partitions.push(Partition {
                name: STMM.into(),
                manifest: project.root.join("manifests/stmm.dts"),
                image: self.artifacts.file("stmm", if stmm == StmmImage::Plain { "stmm.fd" } else { "stmm-wild.fd" })?,
                load_address: 0x0e20_0000,
                uuid: "378daedc-f06b-4446-8314-40ab933c87a3".into(),
                // The other of the two formats, so that both are booted every time.
                format: Format::TransferList,
            });
        }
        let normal_world = match &self.changes.normal_world {
            Some(path) => path.clone(),
            None => self.artifacts.file("uefi", "QEMU_EFI.fd")?,
        };
        Ok(System {
            name: name.to_owned(),
            tfa: self.artifacts.dir("tfa")?.to_path_buf(),
            spmc: self.spmc.bin.clone(),
            spmc_manifest: project.root.join("manifests/spmc.dts"),
            without: self.changes.without.clone(),
            partitions,
            normal_world,
            memory: self.changes.memory,
            judged: true,
        })
    }

    /// The machine for an assembled chain: with Linux's disk, unless something else runs in UEFI's place.
    ///
    /// # Errors
    /// When the disk is missing.
    pub fn machine(&self, assembled: &Assembled) -> Result<Machine> {
        let disk = match self.changes.normal_world {
            Some(_) => None,
            None => Some(self.artifacts.file("linux", "disk.img")?),
        };
        Ok(Machine { disk, ..Machine::new(assembled) })
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self { memory: MEMORY, without: Vec::new(), normal_world: None }
    }
}

impl Changes {
    fn has(&self, partition: &str) -> bool {
        !self.without.iter().any(|w| w == partition)
    }
}

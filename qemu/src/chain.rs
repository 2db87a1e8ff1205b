//! The real chain as a system: TF-A, Bulkhead, OP-TEE and StMM as peer partitions, UEFI or U-Boot, Linux on a disk.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build::{edk2, linux, optee, second_optee, tfa, uboot};
use crate::graph::{self, Artifacts};
use crate::limits;
use crate::machine::{MEMORY, Machine};
use crate::package::Format;
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::system::{self, Assembled, Partition, System};
use crate::toolchain::{self, Crate, Image, Profile};

/// Name of OP-TEE in systems, and in the SPMC's manifest.
pub const OPTEE: &str = "op-tee";
/// Name of the second OP-TEE, which is there if asked for.
pub const SECOND_OPTEE: &str = "second-op-tee";
/// Name of a partition that has OP-TEE's UUID and is not OP-TEE, which is there if asked for.
const FOREIGN: &str = "foreign";
/// Name of StMM.
pub const STMM: &str = "stmm";
/// Name of the MM gateway, which is there with U-Boot only.
pub const GATEWAY: &str = "mm-gateway";

/// What of ours runs at S-EL0 in the chain.
const GATEWAY_PROGRAM: Crate = Crate { package: "bulkhead-mm-gateway", binary: "bulkhead-mm-gateway", features: &[], flags: &[] };

/// What of ours is in OP-TEE's place if asked for: the partition to copy, which knows nothing of OP-TEE's messages.
const FOREIGN_PROGRAM: Crate = Crate { package: "bulkhead-template", binary: "bulkhead-template", features: &[], flags: &[] };

/// What is in OP-TEE's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpteeKind {
    /// OP-TEE.
    #[default]
    Plain,
    /// OP-TEE that its clients may end: its manifest says so.
    Overreaching,
    /// A partition that has its UUID and is not OP-TEE.
    Foreign,
}

/// Which build of StMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StmmImage {
    /// The real one.
    Plain,
    /// With a test driver that accesses any address on request.
    Wild,
}

/// With what the normal world starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// EDK2.
    #[default]
    Uefi,
    /// U-Boot, with the MM gateway as one more partition.
    UBoot,
}

/// What of the chain is left out or replaced.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The normal world's memory, in MiB.
    pub memory: u32,
    /// Partitions that are not there.
    pub without: Vec<String>,
    /// What is in OP-TEE's place.
    pub optee: OpteeKind,
    /// Whether there is a second OP-TEE. The memory of one is then that of two.
    pub second_optee: bool,
    /// Whether StMM keeps variables in memory, for want of a flash.
    pub store_in_ram: bool,
    /// The normal world's firmware.
    pub firmware: Firmware,
    /// What the normal world starts with in place of its firmware; there is no disk then.
    pub normal_world: Option<PathBuf>,
}

/// All parts of the chain, built.
pub struct Chain {
    artifacts: Artifacts,
    spmc: Image,
    gateway: Option<Image>,
    foreign: Option<Image>,
    changes: Changes,
    /// The repository.
    root: PathBuf,
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
        if changes.second_optee {
            recipes.push(Box::new(second_optee::SecondOptee));
        }
        if changes.has(STMM) {
            recipes.push(Box::new(edk2::Stmm));
        }
        if changes.normal_world.is_none() {
            recipes.push(match changes.firmware {
                Firmware::Uefi => Box::new(edk2::Uefi),
                Firmware::UBoot => Box::new(uboot::UBoot),
            });
            recipes.extend(linux::all());
        }
        let artifacts = graph::ensure(project, progress, recipes)?;
        let spmc = limits::build_spmc(project, progress, profile)?;
        let gateway = match changes.firmware {
            Firmware::UBoot if changes.has(GATEWAY) => toolchain::build(project, progress, Profile::Release, &[GATEWAY_PROGRAM])?.pop(),
            _ => None,
        };
        let foreign = match changes.optee {
            OpteeKind::Foreign => toolchain::build(project, progress, Profile::Release, &[FOREIGN_PROGRAM])?.pop(),
            _ => None,
        };
        Ok(Self { artifacts, spmc, gateway, foreign, changes, root: project.root.clone() })
    }

    /// The SPMC.
    #[must_use]
    pub fn spmc(&self) -> &Image {
        &self.spmc
    }

    /// The StMM image that is a partition.
    ///
    /// # Errors
    /// When it is missing.
    pub fn stmm(&self) -> Result<PathBuf> {
        self.artifacts.file("stmm", "stmm.fd")
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
            let manifest = match (self.changes.second_optee, self.changes.optee) {
                (true, _) => "manifests/optee-with-second.dts",
                (false, OpteeKind::Overreaching) => "manifests/optee-overreach.dts",
                (false, _) => "manifests/optee.dts",
            };
            partitions.push(Partition {
                name: OPTEE.into(),
                manifest: project.root.join(manifest),
                image: self.artifacts.file("optee", "tee-raw.bin")?,
                load_address: optee::PACKAGE_BASE,
                uuid: "486178e0-e7f8-11e3-bc5e-0002a5d5c51b".into(),
                format: Format::Sptool,
            });
        }
        if self.changes.has(STMM) {
            partitions.push(Partition {
                name: STMM.into(),
                manifest: project.root.join(if self.changes.store_in_ram { "manifests/stmm-without-flash.dts" } else { "manifests/stmm.dts" }),
                image: self.artifacts.file("stmm", if stmm == StmmImage::Plain { "stmm.fd" } else { "stmm-wild.fd" })?,
                load_address: 0x0e20_0000,
                uuid: "378daedc-f06b-4446-8314-40ab933c87a3".into(),
                // The other of the two formats, so that both are booted every time.
                format: Format::TransferList,
            });
        }
        if self.changes.second_optee {
            partitions.push(Partition {
                name: SECOND_OPTEE.into(),
                manifest: project.root.join("manifests/second-optee.dts"),
                image: self.artifacts.file("second-optee", "tee-raw.bin")?,
                load_address: second_optee::PACKAGE_BASE,
                uuid: "64cceb97-44b3-4771-8e3e-1751f0ae65fb".into(),
                format: Format::Sptool,
            });
        }
        if let Some(foreign) = &self.foreign {
            partitions.push(Partition {
                name: FOREIGN.into(),
                manifest: project.root.join("manifests/foreign-optee.dts"),
                image: foreign.bin.clone(),
                load_address: 0x0ec0_0000,
                uuid: "486178e0-e7f8-11e3-bc5e-0002a5d5c51b".into(),
                format: Format::Sptool,
            });
        }
        if let Some(gateway) = &self.gateway {
            partitions.push(Partition {
                name: GATEWAY.into(),
                manifest: project.root.join("manifests/mm-gateway.dts"),
                image: gateway.bin.clone(),
                load_address: 0x0ef0_0000,
                uuid: "ed32d533-99e6-4209-9cc0-2d72cdd998a7".into(),
                format: Format::Sptool,
            });
        }
        let (firmware, spmc_manifest) = match self.changes.firmware {
            Firmware::Uefi if self.foreign.is_some() => (("uefi", "QEMU_EFI.fd"), "manifests/spmc-foreign-optee.dts"),
            Firmware::Uefi if self.changes.second_optee => (("uefi", "QEMU_EFI.fd"), "manifests/spmc-second-os.dts"),
            Firmware::Uefi => (("uefi", "QEMU_EFI.fd"), "manifests/spmc.dts"),
            Firmware::UBoot => ((uboot::NAME, "u-boot.bin"), "manifests/spmc-u-boot.dts"),
        };
        let normal_world = match &self.changes.normal_world {
            Some(path) => path.clone(),
            None => self.artifacts.file(firmware.0, firmware.1)?,
        };
        Ok(System {
            name: name.to_owned(),
            tfa: self.artifacts.dir("tfa")?.to_path_buf(),
            spmc: self.spmc.bin.clone(),
            spmc_manifest: project.root.join(spmc_manifest),
            without: self.changes.without(),
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
        // U-Boot learns of memory that is not its own to give away from the device tree; our UEFI knows.
        let device_tree = (self.changes.firmware == Firmware::UBoot).then(|| self.root.join("partitions/u-boot/mm-buffer.dtsi"));
        Ok(Machine { disk, device_tree, ..Machine::new(assembled) })
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self { memory: MEMORY, without: Vec::new(), optee: OpteeKind::Plain, second_optee: false, store_in_ram: false, firmware: Firmware::Uefi, normal_world: None }
    }
}

impl Changes {
    fn has(&self, partition: &str) -> bool {
        !self.without().iter().any(|w| w == partition)
    }

    /// Partitions that are not there: the ones left out, and OP-TEE if another one is in its place.
    fn without(&self) -> Vec<String> {
        let replaced = (self.optee == OpteeKind::Foreign).then(|| OPTEE.to_owned());
        self.without.iter().cloned().chain(replaced).collect()
    }
}

//! Boots with Rust test partitions and the normal-world payload (`partitions/payload`), which checks the SPMC call by call
//! and prints one `STEP` line for each behaviour. A boot is data: partitions, manifests, and the words that tell the
//! payload what to check (fw_cfg item `opt/bulkhead/steps`).

use std::time::Duration;

use anyhow::Result;

use super::Tally;
use super::boot::{self, Expected};
use crate::build::tfa;
use crate::graph;
use crate::limits;
use crate::machine::{CPUS, Limits, Machine};
use crate::package::Format;
use crate::progress::Progress;
use crate::project::Project;
use crate::system::{self, Partition, System};
use crate::toolchain::{self, Crate, Profile};

/// One boot.
#[derive(Clone, Copy, Debug)]
pub struct PayloadBoot {
    /// Name in reports and for filters.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// The SPMC's manifest, relative to the repository.
    pub spmc_manifest: &'static str,
    /// The partitions.
    pub partitions: &'static [TestPartition],
    /// What the payload checks.
    pub steps: &'static str,
    /// Steps without which the boot is not complete.
    pub expects: &'static [&'static str],
    /// Patterns that must appear on the secure console.
    pub secure: &'static [&'static str],
    /// False for manifests that are broken on purpose.
    pub judged: bool,
}

/// A test partition of a boot.
#[derive(Clone, Copy, Debug)]
pub struct TestPartition {
    /// Its `debug_name`.
    pub name: &'static str,
    /// Its manifest, relative to the repository.
    pub manifest: &'static str,
    /// Its program.
    pub program: Crate,
    /// Where its package is loaded.
    pub load_address: u32,
    /// By which TF-A finds its package.
    pub uuid: &'static str,
    /// Format of its package.
    pub format: Format,
}

/// The normal world's program.
const PAYLOAD: Crate = Crate { package: "bulkhead-payload", binary: "payload", features: &[] };

/// All of them.
const BOOTS: &[PayloadBoot] = &[];

/// The boots that `filter` selects.
///
/// # Errors
/// When something cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress, filter: Option<&str>) -> Result<Tally> {
    let mut tally = Tally::default();
    let selected: Vec<&PayloadBoot> = BOOTS.iter().filter(|b| filter.is_none_or(|f| b.name.contains(f))).collect();
    if selected.is_empty() {
        return Ok(tally);
    }
    let artifacts = graph::ensure(project, progress, vec![Box::new(tfa::Tfa)])?;
    let spmc = limits::build_spmc(project, progress, Profile::Release)?;
    for one in selected {
        println!("Boot '{}': {}", one.name, one.shows);
        let mut crates = vec![PAYLOAD];
        crates.extend(one.partitions.iter().map(|p| p.program));
        let mut images = toolchain::build(project, progress, Profile::Release, &crates)?.into_iter().map(|image| image.bin);
        let normal_world = images.next().unwrap_or_default();
        let partitions = one
            .partitions
            .iter()
            .zip(images)
            .map(|(p, image)| Partition {
                name: p.name,
                manifest: project.root.join(p.manifest),
                image,
                load_address: p.load_address,
                uuid: p.uuid,
                format: p.format,
            })
            .collect();
        let system = System {
            name: one.name.to_owned(),
            tfa: artifacts.dir("tfa")?.to_path_buf(),
            spmc: spmc.bin.clone(),
            spmc_manifest: project.root.join(one.spmc_manifest),
            without: Vec::new(),
            partitions,
            normal_world,
            judged: one.judged,
        };
        let assembled = system::assemble(project, &system)?;
        let machine = Machine {
            cpus: CPUS,
            fw_cfg: vec![("opt/bulkhead/steps".into(), one.steps.into())],
            ..Machine::new(&assembled)
        };
        let limits = Limits { silence: Duration::from_secs(60), total: Duration::from_secs(300) };
        let expected = Expected { name: one.name, steps: one.expects, outside_sum: Some(&[]), secure: one.secure, limits };
        tally += boot::boot(&machine, &expected)?;
    }
    Ok(tally)
}

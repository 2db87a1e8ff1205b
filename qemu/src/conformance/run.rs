//! Drives the machine: builds the suite, boots a system with a plan of checks, and boots it again with the rest of the plan when a
//! check needs that or has broken it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::boots::{BOOTS, Boot, OWN_BOOTS, PAYLOAD};
use super::catalogue::{self, Check, Rule};
use super::record::{Follower, Next, Record, Verdict};
use crate::build::tfa;
use crate::console::Port;
use crate::graph::{self, Artifacts};
use crate::limits;
use crate::machine::{Limits, MEMORY, Machine};
use crate::progress::Progress;
use crate::project::{Project, create_dir};
use crate::system::{self, Assembled, Partition, System};
use crate::toolchain::{self, Crate, Profile};

/// Bytes from where TF-A loads the SPMC to the first partition.
const SPMC_ROOM: u64 = 0x0e20_0000 - limits::BASE;
/// How long a run of the machine may take.
const TOTAL: Duration = Duration::from_secs(600);

/// The SPMC under test.
#[derive(Clone, Debug)]
pub struct Spmc {
    /// Its flat image.
    pub image: PathBuf,
    /// Its manifest, as source or blob, in place of the boots' own.
    pub manifest: Option<PathBuf>,
    /// Whether the manifests are judged by the rules of this repository's SPMC.
    pub judged: bool,
}

impl Spmc {
    /// The one of this repository, as shipped.
    ///
    /// # Errors
    /// When it cannot be built, or there is no such manifest.
    pub fn own(project: &Project, progress: &Progress, manifest: Option<&Path>) -> Result<Self> {
        let image = limits::build_spmc(project, progress, Profile::Release)?.bin;
        Ok(Self { image, manifest: existing("--spmc-manifest", manifest)?, judged: true })
    }

    /// The one of this repository without its fast path.
    ///
    /// # Errors
    /// When it cannot be built, or there is no such manifest.
    pub fn general(project: &Project, progress: &Progress, manifest: Option<&Path>) -> Result<Self> {
        let image = limits::build_general_spmc(project, progress)?.bin;
        Ok(Self { image, manifest: existing("--spmc-manifest", manifest)?, judged: true })
    }

    /// Another one: a flat image, or an ELF file.
    ///
    /// # Errors
    /// When there is no such file, or it is none that TF-A can load.
    pub fn foreign(project: &Project, image: &Path, manifest: Option<&Path>) -> Result<Self> {
        existing("--bl32", Some(image))?;
        let dir = project.out().join("bl32");
        create_dir(&dir)?;
        let image = toolchain::flat_file(&dir, "spmc", image, limits::BASE).with_context(|| format!("--bl32 {}", image.display()))?;
        let bytes = fs::metadata(&image).with_context(|| format!("cannot read {}", image.display()))?.len();
        if bytes == 0 || bytes > SPMC_ROOM {
            bail!("--bl32 {}: it has {bytes} bytes; there is room for {SPMC_ROOM} below the partitions", image.display());
        }
        Ok(Self { image, manifest: existing("--spmc-manifest", manifest)?, judged: false })
    }
}

fn existing(argument: &str, path: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    if !path.is_file() {
        bail!("{argument}: {} is no file", path.display());
    }
    Ok(Some(path.to_path_buf()))
}

/// What a boot is to check.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The boot.
    pub boot: Boot,
    /// The checks, in order.
    pub checks: Vec<Check>,
    /// Whether the first check that fails ends it.
    pub until_failure: bool,
}

/// What came of a plan.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// A record of each check.
    pub records: Vec<Record>,
    /// What the normal world's console said, in all runs.
    pub normal: String,
    /// What the secure console said.
    pub secure: String,
    /// How often the machine was started.
    pub runs: usize,
    /// How long all runs took.
    pub took: Duration,
}

/// The suite, built.
pub struct Suite {
    artifacts: Artifacts,
    programs: Vec<(Crate, PathBuf)>,
    rules: Vec<Rule>,
}

impl Suite {
    /// Builds the payload, the partitions of `boots`, and TF-A.
    ///
    /// # Errors
    /// When something cannot be built, or on Ctrl-C.
    pub fn build(project: &Project, progress: &Progress, boots: &[Boot]) -> Result<Self> {
        let artifacts = graph::ensure(project, progress, vec![Box::new(tfa::Tfa)])?;
        let mut crates = vec![PAYLOAD];
        for program in boots.iter().flat_map(|boot| boot.partitions).map(|p| p.program) {
            if crates.iter().all(|c| c.binary != program.binary) {
                crates.push(program);
            }
        }
        let images = toolchain::build(project, progress, Profile::Release, &crates)?;
        let rules = catalogue::read(&images[0].elf)?;
        let is_run = |group: &str| BOOTS.iter().chain(OWN_BOOTS).any(|boot| boot.groups.contains(&group));
        if let Some(rule) = rules.iter().find(|rule| !is_run(&rule.group)) {
            bail!("no boot runs the group {}: give it a place in qemu/src/conformance/boots.rs", rule.group);
        }
        let programs = crates.into_iter().zip(images.into_iter().map(|image| image.bin)).collect();
        Ok(Self { artifacts, programs, rules })
    }

    /// The checks of `boots` that `filter` selects: by a part of `group.name instance version`, or the name of a boot.
    ///
    /// # Errors
    /// When a boot names a group that has no checks.
    pub fn select(&self, boots: &[Boot], filter: Option<&str>) -> Result<Vec<Plan>> {
        let mut plans = Vec::new();
        for boot in boots {
            if let Some(group) = boot.groups.iter().find(|group| self.rules.iter().all(|rule| rule.group != **group)) {
                bail!("boot {} names the group {group}, which has no checks", boot.name);
            }
            let mut checks = catalogue::checks(&self.rules, boot);
            checks.retain(|check| filter == Some(boot.name) || check.matches(filter));
            if !checks.is_empty() {
                plans.push(Plan { boot: *boot, checks, until_failure: false });
            }
        }
        Ok(plans)
    }

    /// Carries a plan out; hands on each record as it comes.
    ///
    /// # Errors
    /// When the system cannot be assembled or QEMU cannot be started, or on Ctrl-C.
    pub fn run(&self, project: &Project, spmc: &Spmc, plan: &Plan, on_record: &mut dyn FnMut(&Record)) -> Result<Outcome> {
        let assembled = self.assemble(project, spmc, &plan.boot)?;
        let limits = Limits { silence: Duration::from_secs(plan.boot.silence), total: TOTAL };
        let mut outcome = Outcome::default();
        let mut at = 0;
        let enough = Cell::new(false);
        while at < plan.checks.len() && !enough.get() {
            let rest = &plan.checks[at..];
            let entries: Vec<String> = rest.iter().map(Check::plan_entry).collect();
            let machine = Machine {
                cpus: plan.boot.cpus,
                // A reset that nobody asked for ends the run.
                resets: false,
                fw_cfg: vec![
                    ("opt/conformance/speak".into(), plan.boot.speak.join(" ")),
                    ("opt/conformance/run".into(), entries.join(" ")),
                ],
                ..Machine::new(&assembled)
            };
            let mut follower = Follower::new(rest);
            let records = &mut outcome.records;
            let mut keep = |record: Record| {
                on_record(&record);
                enough.set(enough.get() || plan.until_failure && record.result == Verdict::Fail);
                records.push(record);
            };
            let mut run = machine.start()?;
            let end = run.follow(&limits, &mut |line| follower.line(line, &mut keep) == Next::Read && !enough.get())?;
            if !enough.get() {
                at += follower.close(&end.show(), &mut keep);
            }
            outcome.normal += run.console(Port::Normal).text();
            outcome.secure += run.console(Port::Secure).text();
            outcome.took += run.elapsed();
            outcome.runs += 1;
        }
        keep_consoles(&assembled.dir, &outcome)?;
        Ok(outcome)
    }

    /// The system of a boot, ready to start.
    fn assemble(&self, project: &Project, spmc: &Spmc, boot: &Boot) -> Result<Assembled> {
        let mut partitions = Vec::new();
        for p in boot.partitions {
            partitions.push(Partition {
                name: p.name.into(),
                manifest: project.root.join(p.manifest),
                image: self.image(&p.program)?,
                load_address: p.load_address,
                uuid: p.uuid.into(),
                format: p.format,
            });
        }
        let system = System {
            name: format!("conformance-{}", boot.name),
            tfa: self.artifacts.dir("tfa")?.to_path_buf(),
            spmc: spmc.image.clone(),
            spmc_manifest: spmc.manifest.clone().unwrap_or_else(|| project.root.join(boot.spmc_manifest)),
            without: Vec::new(),
            partitions,
            normal_world: self.image(&PAYLOAD)?,
            memory: MEMORY,
            judged: spmc.judged,
        };
        system::assemble(project, &system)
    }

    fn image(&self, program: &Crate) -> Result<PathBuf> {
        let found = self.programs.iter().find(|(one, _)| one.binary == program.binary);
        found.map(|(_, image)| image.clone()).with_context(|| format!("{} was not built", program.binary))
    }
}

/// Keeps what all runs of a boot said, beside the consoles of the last one.
fn keep_consoles(dir: &Path, outcome: &Outcome) -> Result<()> {
    for (name, text) in [("all-console.log", &outcome.normal), ("all-secure.log", &outcome.secure)] {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Builds a system in which the payload repeats operations instead of checking: a machine that runs it once, and names and load
/// addresses of its partitions.
///
/// # Errors
/// When something cannot be built, or on Ctrl-C.
pub fn bench(project: &Project, progress: &Progress, spmc: &Spmc, boot: &Boot) -> Result<(Machine, Vec<(&'static str, u32)>)> {
    let suite = Suite::build(project, progress, &[*boot])?;
    let assembled = suite.assemble(project, spmc, boot)?;
    let machine = Machine { cpus: boot.cpus, resets: false, ..Machine::new(&assembled) };
    Ok((machine, boot.partitions.iter().map(|p| (p.name, p.load_address)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spmc_must_be_there_and_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project { root: dir.path().into(), cache: dir.path().into() };
        let image = dir.path().join("bl32");
        let error = |content: Option<&[u8]>, manifest: Option<&str>| {
            content.iter().for_each(|content| fs::write(&image, content).unwrap());
            let manifest = manifest.map(|name| dir.path().join(name));
            format!("{:#}", Spmc::foreign(&project, &image, manifest.as_deref()).unwrap_err())
        };
        assert!(error(None, None).contains("--bl32: ") && error(None, None).contains("is no file"));
        assert!(error(Some(b""), None).contains("it has 0 bytes"));
        assert!(error(Some(&vec![0; SPMC_ROOM as usize + 1]), None).contains("there is room for 1048576 below the partitions"));
        assert!(error(Some(b"\x7fELF"), None).contains("not a 64-bit ELF file"));
        assert!(error(Some(b"code"), Some("none.dts")).contains("--spmc-manifest: "));
        assert_eq!(Spmc::foreign(&project, &image, None).unwrap().image, image, "a flat image is taken as it is");
    }
}

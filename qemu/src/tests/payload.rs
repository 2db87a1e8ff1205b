//! Boots with Rust test partitions and the normal-world payload (`tests/conformance/payload`), which checks the SPMC call by call
//! and prints one `STEP` line for each behaviour. A boot is data: partitions, manifests, and the words that tell the
//! payload what to check (fw_cfg item `opt/bulkhead/steps`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Tally;
use super::boot::{self, Expected};
use crate::build::tfa;
use crate::graph;
use crate::limits;
use crate::machine::{CPUS, Limits, MEMORY, Machine};
use crate::package::Format;
use crate::progress::Progress;
use crate::project::Project;
use crate::system::{self, Assembled, Partition, System};
use crate::toolchain::{self, Crate, Image, Profile};

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
    /// Cores of the machine.
    pub cpus: u32,
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
const PAYLOAD: Crate = Crate { package: "bulkhead-payload", binary: "bulkhead-payload", features: &[] };
const PROBE_EL1: Crate = Crate { package: "bulkhead-probe", binary: "probe-el1", features: &[] };
const PROBE_EL0: Crate = Crate { package: "bulkhead-probe", binary: "probe-el0", features: &[] };

/// A test partition; the addresses and UUIDs are also in `tests/conformance/testkit` and the manifests.
const fn partition(name: &'static str, manifest: &'static str, program: Crate, load_address: u32, uuid: &'static str) -> TestPartition {
    TestPartition { name, manifest, program, load_address, uuid, format: Format::Sptool }
}

const EL1_UUID: &str = "b01c4ead-7e57-4011-9233-445566778801";
const EL0_UUID: &str = "b01c4ead-7e57-4011-9233-445566778802";
const EL1: TestPartition = partition("probe-el1", "manifests/tests/probe-el1.dts", PROBE_EL1, 0x0e60_0000, EL1_UUID);
const EL0: TestPartition = partition("probe-el0", "manifests/tests/probe-el0.dts", PROBE_EL0, 0x0e20_0000, EL0_UUID);

const fn victim_el1(manifest: &'static str) -> TestPartition {
    partition("victim-el1", manifest, PROBE_EL1, 0x0e80_0000, "b01c4ead-7e57-4011-9233-445566778803")
}

const fn victim_el0(manifest: &'static str) -> TestPartition {
    partition("victim-el0", manifest, PROBE_EL0, 0x0ea0_0000, "b01c4ead-7e57-4011-9233-445566778804")
}

const TEMPLATE: TestPartition = partition(
    "adder",
    "partitions/template/template.dts",
    Crate { package: "bulkhead-template", binary: "bulkhead-template", features: &[] },
    0x0ec0_0000,
    "0add0add-1234-4567-89ab-cdef01234567",
);

/// The four test partitions as they should be.
const FOUR: &[TestPartition] = &[EL1, EL0, victim_el1("manifests/tests/victim-el1.dts"), victim_el0("manifests/tests/victim-el0.dts")];

/// Partitions of all FF-A versions.
const VERSIONS: &[TestPartition] = &[EL1, EL0, victim_el1("manifests/tests/speaks-1-0.dts"), victim_el0("manifests/tests/speaks-1-1.dts")];

/// All of them.
const BOOTS: &[PayloadBoot] = &[
    PayloadBoot {
        name: "calls",
        shows: "every call that the SPMC implements, from the normal world and from two partitions, on four cores",
        spmc_manifest: "manifests/tests/spmc.dts",
        partitions: FOUR,
        steps: "discovery buffers messages preemption memory notifications interrupts state partition-calls stress normal-world failure",
        expects: &["state.system_registers_survive_partitions", "failure.partition_fails_on_all_its_cores"],
        secure: &["all partitions are up"],
        cpus: CPUS,
        judged: true,
    },
    PayloadBoot {
        name: "isolation",
        shows: "each forbidden access ends the partition that makes it, alone; the machine restarts in between",
        spmc_manifest: "manifests/tests/spmc.dts",
        partitions: FOUR,
        steps: "isolation",
        expects: &["isolation.probe-el1_cannot_write_0xe204000", "isolation.victim-el0_cannot_write_0xe100000"],
        secure: &[],
        cpus: CPUS,
        judged: true,
    },
    PayloadBoot {
        name: "all-cores",
        shows: "eight cores, each with a vCPU of its own, and the partition of partitions/template",
        spmc_manifest: "manifests/tests/spmc-template.dts",
        partitions: &[EL1, TEMPLATE],
        steps: "all-cores",
        expects: &["all-cores.every_core_has_its_vcpu", "all-cores.template_partition_adds"],
        secure: &["adder: the SPMC speaks 1.2", "adder: 0x0000 asked for a sum: 0xa"],
        cpus: 8,
        judged: true,
    },
    PayloadBoot {
        name: "one-core",
        shows: "a machine with one core",
        spmc_manifest: "manifests/tests/spmc.dts",
        partitions: FOUR,
        steps: "discovery buffers memory partition-calls",
        expects: &["memory.partitions_share_with_each_other"],
        secure: &["all partitions are up"],
        cpus: 1,
        judged: true,
    },
    PayloadBoot {
        name: "managed-exit",
        shows: "partitions that are asked for a managed exit, or whose requests interrupts wait for",
        spmc_manifest: "manifests/tests/spmc-limits.dts",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/managed-exit.dts"), victim_el0("manifests/tests/queued.dts")],
        steps: "managed-exit",
        expects: &["managed-exit.managed_exit_ends_the_request_soon"],
        secure: &[],
        cpus: CPUS,
        judged: true,
    },
    PayloadBoot {
        name: "versions-1.0",
        shows: "a normal world that speaks FF-A 1.0, with partitions that speak 1.0, 1.1 and 1.2",
        spmc_manifest: "manifests/tests/spmc.dts",
        partitions: VERSIONS,
        steps: "speak-1.0",
        expects: &["speak-1.0.partitions_of_all_versions_borrow"],
        secure: &["partition 0x8003 up: FF-A 1.0", "partition 0x8004 up: FF-A 1.1"],
        cpus: CPUS,
        judged: true,
    },
    PayloadBoot {
        name: "versions-1.1",
        shows: "a normal world that speaks FF-A 1.1, with partitions that speak 1.0, 1.1 and 1.2",
        spmc_manifest: "manifests/tests/spmc.dts",
        partitions: VERSIONS,
        steps: "speak-1.1",
        expects: &["speak-1.1.partitions_of_all_versions_borrow"],
        secure: &[],
        cpus: CPUS,
        judged: true,
    },
    PayloadBoot {
        name: "bad-init-1",
        shows: "a partition that never ends its initialisation, and one that reads Bulkhead's memory in it; the others serve",
        spmc_manifest: "manifests/tests/spmc-limits.dts",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/init-loops.dts"), victim_el0("manifests/tests/init-reads-wild.dts")],
        steps: "init",
        expects: &["init.others_serve"],
        secure: &[
            "victim-el1.*it did not finish within its time limit",
            "victim-el0.*read.*0xe100000",
            r"2 of 4 partitions are up",
        ],
        cpus: CPUS,
        judged: true,
    },
    PayloadBoot {
        name: "bad-init-2",
        shows: "a partition whose initialisation ends with FFA_ERROR, and one that ends it by the answer to a request which nobody made",
        spmc_manifest: "manifests/tests/spmc-limits.dts",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/init-fails.dts"), victim_el0("manifests/tests/init-responds.dts")],
        steps: "init",
        expects: &["init.others_serve"],
        secure: &["victim-el1.*its initialisation reported FFA_ERROR -3", "victim-el0.*its initialisation ended with call 0xc4000070"],
        cpus: CPUS,
        judged: true,
    },
];

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
    let programs = Programs::build(project, progress, &selected)?;
    for one in selected {
        println!("Boot '{}': {}", one.name, one.shows);
        let assembled = assemble(project, artifacts.dir("tfa")?, &spmc.bin, &programs, one, &[])?;
        let machine = Machine {
            cpus: one.cpus,
            fw_cfg: vec![("opt/bulkhead/steps".into(), one.steps.into())],
            ..Machine::new(&assembled)
        };
        let limits = Limits { silence: Duration::from_secs(60), total: Duration::from_secs(300) };
        let expected = Expected { name: one.name, steps: one.expects, outside_sum: Some(&[]), secure: one.secure, limits };
        tally += boot::boot(&machine, &expected)?;
        tally += announced(one.name, &text(&machine.console_log())?, &text(&machine.secure_log())?);
    }
    Ok(tally)
}

/// What is benchmarked: one partition of each kind, and what the payload repeats.
const BENCH: PayloadBoot = PayloadBoot {
    name: "bench",
    shows: "what each operation costs",
    spmc_manifest: "manifests/tests/spmc.dts",
    partitions: &[EL1, EL0],
    steps: "bench",
    expects: &[],
    secure: &["all partitions are up"],
    cpus: 1,
    judged: true,
};

/// Builds the system of the benchmark: a machine that runs it once, the SPMC, and where the partitions lie.
///
/// # Errors
/// When something cannot be built, or on Ctrl-C.
pub fn bench(project: &Project, progress: &Progress) -> Result<(Machine, Image, Vec<u32>)> {
    let artifacts = graph::ensure(project, progress, vec![Box::new(tfa::Tfa)])?;
    let spmc = limits::build_spmc(project, progress, Profile::Release)?;
    let programs = Programs::build(project, progress, &[&BENCH])?;
    // The manifest names two partitions more, of which the benchmark has no use.
    let assembled = assemble(project, artifacts.dir("tfa")?, &spmc.bin, &programs, &BENCH, &["victim-el1", "victim-el0"])?;
    let fw_cfg = vec![("opt/bulkhead/steps".into(), BENCH.steps.into())];
    let machine = Machine { cpus: BENCH.cpus, fw_cfg, ..Machine::new(&assembled) };
    Ok((machine, spmc, BENCH.partitions.iter().map(|p| p.load_address).collect()))
}

/// The system of a boot, ready to start.
fn assemble(project: &Project, tfa: &Path, spmc: &Path, programs: &Programs, boot: &PayloadBoot, without: &[&str]) -> Result<Assembled> {
    let mut partitions = Vec::new();
    for p in boot.partitions {
        partitions.push(Partition {
            name: p.name.into(),
            manifest: project.root.join(p.manifest),
            image: programs.image(&p.program)?,
            load_address: p.load_address,
            uuid: p.uuid.into(),
            format: p.format,
        });
    }
    let system = System {
        name: boot.name.to_owned(),
        tfa: tfa.to_path_buf(),
        spmc: spmc.to_path_buf(),
        spmc_manifest: project.root.join(boot.spmc_manifest),
        without: without.iter().map(|&name| name.to_owned()).collect(),
        partitions,
        normal_world: programs.image(&PAYLOAD)?,
        memory: MEMORY,
        judged: boot.judged,
    };
    system::assemble(project, &system)
}

/// The programs of all boots, each compiled once.
struct Programs(Vec<(Crate, PathBuf)>);

impl Programs {
    fn build(project: &Project, progress: &Progress, boots: &[&PayloadBoot]) -> Result<Self> {
        let mut crates = vec![PAYLOAD];
        for program in boots.iter().flat_map(|boot| boot.partitions).map(|p| p.program) {
            if crates.iter().all(|c| c.binary != program.binary) {
                crates.push(program);
            }
        }
        let images = toolchain::build(project, progress, Profile::Release, &crates)?;
        Ok(Self(crates.into_iter().zip(images.into_iter().map(|image| image.bin)).collect()))
    }

    fn image(&self, program: &Crate) -> Result<PathBuf> {
        let found = self.0.iter().find(|(one, _)| one.binary == program.binary);
        found.map(|(_, image)| image.clone()).with_context(|| format!("{} was not built", program.binary))
    }
}

fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the payload announced for the secure console (`EXPECT <piece> | <piece>`) must be there: as many lines with all
/// pieces as there were announcements of them. One test for all announcements of a boot.
fn announced(boot: &str, console: &str, secure: &str) -> Tally {
    let missing = missing_reports(console, secure);
    let count = console.lines().filter(|line| line.starts_with(ANNOUNCEMENT)).count();
    if count == 0 {
        return Tally::default();
    }
    if missing.is_empty() {
        println!("  PASS reports.{boot} the secure console has all {count} reports");
        return Tally { passed: 1, failed: 0 };
    }
    println!("  FAIL reports.{boot} {} of {count} reports are not on the secure console:", missing.len());
    for line in missing {
        println!("      {line}");
    }
    Tally { passed: 0, failed: 1 }
}

const ANNOUNCEMENT: &str = "EXPECT ";

/// The announcements that no line of the secure console answers; each line answers one.
fn missing_reports<'a>(console: &'a str, secure: &str) -> Vec<&'a str> {
    let mut lines: Vec<&str> = secure.lines().collect();
    let announcements = console.lines().filter_map(|line| line.trim_end().strip_prefix(ANNOUNCEMENT));
    announcements
        .filter(|announcement| {
            let answer = lines.iter().position(|line| announcement.split(" | ").all(|piece| line.contains(piece)));
            answer.map(|at| lines.remove(at)).is_none()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_announcement_needs_a_line_of_its_own() {
        let console = "EXPECT one | read | 0x10\r\nSTEP x PASS\r\nEXPECT one | read | 0x10\r\n";
        assert_eq!(missing_reports(console, "partition one: read at 0x10\npartition one: read at 0x10\n"), Vec::<&str>::new());
        assert_eq!(missing_reports(console, "partition one: read at 0x10\n"), ["one | read | 0x10"]);
        assert_eq!(missing_reports(console, "partition two: read at 0x10\n").len(), 2);
    }

    #[test]
    fn partitions_of_a_boot_do_not_collide() {
        for boot in BOOTS {
            for (n, one) in boot.partitions.iter().enumerate() {
                let others = &boot.partitions[..n];
                assert!(others.iter().all(|o| o.load_address != one.load_address && o.uuid != one.uuid && o.name != one.name), "{}", boot.name);
            }
        }
    }
}

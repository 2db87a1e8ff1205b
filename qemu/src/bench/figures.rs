//! What was counted: the plugin's lines put together with what the payload says they are, and kept as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::steps::Step;

/// What an operation costs when it is warm (its last repetition): instructions by who executes them, and of the SPMC's what
/// hardware takes longer for than for others. Instructions are exact; a cache line has 64 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// The operation.
    pub operation: String,
    /// Of which kind: the partition, how many pages.
    pub instance: String,
    /// The system in which it was measured: its partitions.
    pub system: String,
    /// Instructions of the SPMC.
    pub spmc: u64,
    /// Instructions of EL3.
    pub el3: u64,
    /// Instructions of all partitions.
    pub partition: u64,
    /// Instructions of the normal world.
    pub normal: u64,
    /// Entries of S-EL2 by an exception.
    pub exceptions: u64,
    /// All instructions.
    pub total: u64,
    /// Instructions of each partition that executed any, by name.
    pub partitions: BTreeMap<String, u64>,
    /// Instructions of the SPMC: median of all repetitions.
    pub spmc_median: u64,
    /// Instructions of the SPMC when it was cold (the first repetition).
    pub spmc_cold: u64,
    /// All instructions when it was cold.
    pub total_cold: u64,
    /// Returns of the SPMC to a lower exception level.
    pub eret: u64,
    /// Calls of EL3 by the SPMC, its answers included.
    pub smc: u64,
    /// All barriers of the SPMC, of the four kinds below.
    pub barriers: u64,
    /// Its instruction synchronisation barriers.
    pub isb: u64,
    /// Its data synchronisation barriers.
    pub dsb: u64,
    /// Its data memory barriers.
    pub dmb: u64,
    /// Its speculation barriers.
    pub sb: u64,
    /// TLB invalidations of the SPMC.
    pub tlb_invalidations: u64,
    /// Its cache maintenance by address, set or whole.
    pub cache_maintenance: u64,
    /// System registers that the SPMC writes.
    pub system_registers_written: u64,
    /// System registers that it reads.
    pub system_registers_read: u64,
    /// Its exclusive stores and atomic memory operations.
    pub atomics: u64,
    /// Cache lines with code that it fetches.
    pub code_lines: u64,
    /// Cache lines with data that it reads or writes.
    pub data_lines: u64,
    /// Those of them that it writes.
    pub data_lines_written: u64,
    /// Pages of 4 KiB with these lines.
    pub pages: u64,
    /// What the SPMC's instructions are for, of operations that are broken down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Of several cores at a time: instructions of the SPMC beyond those on a single core, which are waits and failed attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond_one_core: Option<u64>,
    /// Of several cores at a time: atomic stores of the SPMC beyond those on a single core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// Of several cores at a time: cache lines of the SPMC that come from another core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handovers: Option<u64>,
    /// Timed, not counted: how often it is done in the same time in percent of one core's; all counts are zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_percent: Option<u64>,
}

impl Figures {
    /// Whether this is the same operation, of the same kind.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.operation == other.operation && self.instance == other.instance
    }
}

/// An operation with what its last repetition executed in the SPMC, if that was asked for: address and times.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Its figures.
    pub figures: Figures,
    /// Executions of instructions of the SPMC, by address.
    pub profile: BTreeMap<u64, u64>,
}

/// Names of the plugin's counts that are neither the SPMC's, EL3's, nor the normal world's instructions, nor a partition's.
const COUNTED: &[&str] = &[
    "other", "exceptions", "eret", "smc", "isb", "dsb", "dmb", "sb", "tlbi", "cache", "msr", "mrs", "atomics", "code_lines", "data_lines",
    "written_lines", "pages",
];
const WORLDS: &[&str] = &["spmc", "el3", "normal"];

/// One line of the plugin: counts by name.
#[derive(Clone, Debug, Default)]
struct Sample {
    counts: BTreeMap<String, u64>,
    profile: BTreeMap<u64, u64>,
}

impl Sample {
    /// Reads `<name>=<count> ...`, in which no count is missing.
    fn parse(columns: &str) -> Option<Self> {
        let pair = |column: &str| {
            let (name, count) = column.split_once('=')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let counts: BTreeMap<String, u64> = columns.split_ascii_whitespace().map(pair).collect::<Option<_>>()?;
        let is_whole = WORLDS.iter().chain(COUNTED).all(|name| counts.contains_key(*name));
        is_whole.then_some(Self { counts, profile: BTreeMap::new() })
    }

    fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Partitions and their instructions.
    fn partitions(&self) -> impl Iterator<Item = (&String, u64)> {
        self.counts.iter().filter(|(name, _)| !WORLDS.contains(&name.as_str()) && !COUNTED.contains(&name.as_str())).map(|(name, n)| (name, *n))
    }

    fn partition(&self) -> u64 {
        self.partitions().map(|(_, count)| count).sum()
    }

    fn total(&self) -> u64 {
        WORLDS.iter().map(|name| self.get(name)).sum::<u64>() + self.partition() + self.get("other")
    }
}

/// What a boot of the benchmark gave.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The operations that were done.
    pub operations: Vec<Operation>,
    /// What could not be done, and why.
    pub failures: Vec<String>,
}

impl Measured {
    /// Adds what another boot gave.
    pub fn extend(&mut self, more: Self) {
        self.operations.extend(more.operations);
        self.failures.extend(more.failures);
    }
}

/// The operations that the payload announced on its console, with what the plugin counted in this `system`.
///
/// # Errors
/// When the two do not fit together, or an operation executed something that is nobody's.
pub fn operations(system: &str, console: &str, counts: &str) -> Result<Measured> {
    let (boot, samples) = samples(counts)?;
    let mut measured = Measured {
        operations: vec![Operation { figures: figures(system, "boot", system, std::slice::from_ref(&boot)), profile: boot.profile }],
        failures: Vec::new(),
    };
    let mut rest = &samples[..];
    for line in console.lines() {
        let Some(Announcement { done, times, operation, instance }) = Announcement::read(line)? else { continue };
        let Some((own, others)) = rest.split_at_checked(times) else { bail!("{operation} ({instance}): counted {} times, not {times}", rest.len()) };
        rest = others;
        if !done {
            let (instance, problem) = instance.split_once(" | ").unwrap_or((instance, "it failed"));
            measured.failures.push(format!("{operation} ({instance}): {problem}"));
            continue;
        }
        let last = own.last().with_context(|| format!("{operation} ({instance}) was not executed"))?;
        if last.get("other") > 0 {
            bail!("{operation} ({instance}): {} instructions lie in nobody's address range", last.get("other"));
        }
        measured.operations.push(Operation { figures: figures(system, operation, instance, own), profile: last.profile.clone() });
    }
    if !rest.is_empty() {
        measured.failures.push(format!("{} operations were counted that the payload did not announce", rest.len()));
    }
    Ok(measured)
}

/// What the payload says of the operations that it has made last.
#[derive(Clone, Copy, Debug)]
pub struct Announcement<'a> {
    /// Whether they are what was wanted.
    pub done: bool,
    /// How many.
    pub times: usize,
    /// The operation.
    pub operation: &'a str,
    /// Of which kind; if it was not done, and why not.
    pub instance: &'a str,
}

impl<'a> Announcement<'a> {
    /// The announcement in a line of its console, if there is one.
    ///
    /// # Errors
    /// When it has another form.
    pub fn read(line: &'a str) -> Result<Option<Self>> {
        let line = line.trim_end();
        let Some((word @ ("BENCH" | "UNMEASURED"), what)) = line.split_once(' ') else { return Ok(None) };
        let parts = what.split_once(' ').and_then(|(times, name)| Some((times.parse().ok()?, name.split_once(" | ")?)));
        let (times, (operation, instance)) = parts.with_context(|| format!("the payload said '{line}'"))?;
        Ok(Some(Self { done: word == "BENCH", times, operation, instance }))
    }
}

/// The plugin's lines: the boot, and each operation in order.
fn samples(counts: &str) -> Result<(Sample, Vec<Sample>)> {
    let mut boot = None;
    let mut samples = Vec::new();
    let mut profile = BTreeMap::new();
    for line in counts.lines() {
        let bad = || format!("the plugin wrote '{line}'");
        let (what, columns) = line.split_once(' ').with_context(bad)?;
        match what {
            "boot" => boot = Some(Sample { profile: std::mem::take(&mut profile), ..Sample::parse(columns).with_context(bad)? }),
            "pc" => {
                let (address, times) = columns.split_once(' ').with_context(bad)?;
                let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).with_context(bad)?;
                profile.insert(address, times.parse().with_context(bad)?);
            }
            "sample" => samples.push(Sample { profile: std::mem::take(&mut profile), ..Sample::parse(columns).with_context(bad)? }),
            _ => bail!(bad()),
        }
    }
    Ok((boot.context("the plugin did not see the normal world start")?, samples))
}

/// The figures of an operation from its repetitions, of which there is one at least.
fn figures(system: &str, operation: &str, instance: &str, samples: &[Sample]) -> Figures {
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let mut sorted: Vec<u64> = samples.iter().map(|sample| sample.get("spmc")).collect();
    sorted.sort_unstable();
    Figures {
        operation: operation.to_owned(),
        instance: instance.to_owned(),
        system: system.to_owned(),
        spmc: last.get("spmc"),
        el3: last.get("el3"),
        partition: last.partition(),
        normal: last.get("normal"),
        exceptions: last.get("exceptions"),
        total: last.total(),
        partitions: last.partitions().filter(|(_, count)| *count > 0).map(|(name, count)| (name.clone(), count)).collect(),
        spmc_median: sorted[sorted.len() / 2],
        spmc_cold: first.get("spmc"),
        total_cold: first.total(),
        eret: last.get("eret"),
        smc: last.get("smc"),
        barriers: ["isb", "dsb", "dmb", "sb"].into_iter().map(|name| last.get(name)).sum(),
        isb: last.get("isb"),
        dsb: last.get("dsb"),
        dmb: last.get("dmb"),
        sb: last.get("sb"),
        tlb_invalidations: last.get("tlbi"),
        cache_maintenance: last.get("cache"),
        system_registers_written: last.get("msr"),
        system_registers_read: last.get("mrs"),
        atomics: last.get("atomics"),
        code_lines: last.get("code_lines"),
        data_lines: last.get("data_lines"),
        data_lines_written: last.get("written_lines"),
        pages: last.get("pages"),
        ..Figures::default()
    }
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When there is no such file, or something else in it.
pub fn read(path: &Path) -> Result<Vec<Figures>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let figures: Vec<Figures> = serde_json::from_str(&text).with_context(|| format!("{} has no figures of the benchmark", path.display()))?;
    if figures.iter().any(|f| f.operation.is_empty()) {
        bail!("{} has no figures of the benchmark: objects without `operation`", path.display());
    }
    Ok(figures)
}

/// Writes figures as JSON: an array with one object for each operation, each in a line of its own.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, figures: &[Figures]) -> Result<()> {
    let lines: Vec<String> = figures.iter().map(serde_json::to_string).collect::<Result<_, _>>().context("figures are numbers and text")?;
    fs::write(path, format!("[\n{}\n]\n", lines.join(",\n"))).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the plugin: instructions of the SPMC, EL3, the normal world and two partitions; all else is `rest`.
    fn line(what: &str, spmc: u64, [el3, normal, one, two]: [u64; 4], rest: u64) -> String {
        let rest: Vec<String> = COUNTED.iter().map(|name| format!("{name}={}", if *name == "other" { 0 } else { rest })).collect();
        format!("{what} one={one} two={two} spmc={spmc} el3={el3} normal={normal} {}\n", rest.join(" "))
    }

    fn boot() -> String {
        line("boot", 9, [8, 7, 6, 0], 5)
    }

    const SYSTEM: &str = "two partitions";

    fn measured(console: &str, counts: &str) -> Vec<Operation> {
        let measured = operations(SYSTEM, console, counts).unwrap();
        assert!(measured.failures.is_empty(), "{:?}", measured.failures);
        measured.operations
    }

    #[test]
    fn repetitions_give_cold_median_and_warm_figures() {
        let counts = [
            "pc 0xe100004 7\n".into(),
            boot(),
            line("sample", 30, [1, 1, 1, 0], 0),
            line("sample", 10, [1, 1, 1, 0], 2),
            "pc 0xe100000 2\n".into(),
            line("sample", 20, [2, 4, 3, 2], 1),
        ];
        let found = measured("x\r\nBENCH 3 direct request | S-EL1\r\n", &counts.concat());
        let f = &found[1].figures;
        assert_eq!((f.operation.as_str(), f.instance.as_str(), f.system.as_str()), ("direct request", "S-EL1", SYSTEM));
        assert_eq!((f.spmc, f.spmc_median, f.spmc_cold, f.total, f.total_cold), (20, 20, 30, 31, 33));
        assert_eq!((f.el3, f.normal, f.partition), (2, 4, 5));
        assert_eq!(f.partitions, BTreeMap::from([("one".into(), 3), ("two".into(), 2)]));
        assert_eq!((f.barriers, f.tlb_invalidations, f.exceptions, f.data_lines), (4, 1, 1, 1));
        assert_eq!(found[1].profile, BTreeMap::from([(0x0e10_0000, 2)]));
        assert_eq!((found[0].figures.operation.as_str(), found[0].figures.total), ("boot", 30));
        assert_eq!(found[0].profile, BTreeMap::from([(0x0e10_0004, 7)]));
    }

    #[test]
    fn samples_and_announcements_must_fit_together() {
        let (boot, sample) = (boot(), line("sample", 1, [1, 1, 1, 0], 0));
        let error = |console: &str, counts: &str| operations(SYSTEM, console, counts).unwrap_err().to_string();
        assert!(error("BENCH 2 a | b\n", &format!("{boot}{sample}")).contains("counted 1 times, not 2"));
        assert!(operations(SYSTEM, "", &format!("{boot}{sample}")).unwrap().failures[0].contains("did not announce"));
        assert!(error("", &sample).contains("did not see"));
        assert!(error("BENCH 1 a | b\n", &format!("{boot}{}", sample.replace("other=0", "other=3"))).contains("3 instructions lie in nobody's"));
        assert!(error("BENCH 1 nothing\n", &format!("{boot}{sample}")).contains("BENCH 1 nothing"));
        assert!(error("", &format!("{boot}end without begin\n")).contains("end without begin"));
        assert!(error("BENCH 1 a | b\n", &format!("{boot}{}", sample.replace("dsb=0", ""))).contains("the plugin wrote 'sample"));
    }

    #[test]
    fn what_failed_is_named_and_its_counts_are_nobody_elses() {
        let counts = [boot(), line("sample", 10, [1; 4], 0), line("sample", 20, [1; 4], 0), line("sample", 30, [1; 4], 0)].concat();
        let found = operations(SYSTEM, "UNMEASURED 2 a | b | Denied\nUNMEASURED 0 a | c | None\nBENCH 1 d | e\n", &counts).unwrap();
        assert_eq!(found.failures, ["a (b): Denied", "a (c): None"]);
        assert_eq!((found.operations.len(), found.operations[1].figures.spmc), (2, 30));
    }

    #[test]
    fn json_has_an_object_for_each_operation_with_its_named_fields() {
        let found = measured("BENCH 1 direct request | S-EL1\n", &(boot() + &line("sample", 20, [2, 4, 3, 2], 1)));
        let all: Vec<Figures> = found.into_iter().map(|operation| operation.figures).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        write(&path, &all).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4, "a line each, and two brackets: {text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(2), "boot, and the direct request");
        let object = json[1].as_object().unwrap();
        for (name, value) in [("operation", "direct request"), ("instance", "S-EL1")] {
            assert_eq!(object[name], value);
        }
        for (name, value) in [("spmc", 20), ("el3", 2), ("partition", 5), ("normal", 4), ("exceptions", 1), ("total", 31), ("barriers", 4), ("tlb_invalidations", 1)] {
            assert_eq!(object[name], value, "{name}");
        }
        assert_eq!(read(&path).unwrap(), all);
    }

    #[test]
    fn files_with_fewer_fields_can_be_read_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        fs::write(&path, r#"[{"operation": "a", "instance": "b", "spmc": 7}]"#).unwrap();
        assert_eq!(read(&path).unwrap()[0].spmc, 7);
        for wrong in ["{}", r#"[{"spmc": 7}]"#] {
            fs::write(&path, wrong).unwrap();
            assert!(format!("{:#}", read(&path).unwrap_err()).contains("figures.json has no figures of the benchmark"));
        }
    }
}

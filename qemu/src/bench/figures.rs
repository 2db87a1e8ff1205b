//! What was counted: the plugin's lines put together with what the payload says they are, and kept as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What an operation costs when it is warm (its last repetition): instructions by who executes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The operation.
    pub operation: String,
    /// Of which kind: the partition, how many pages.
    pub instance: String,
    /// Instructions of the SPMC.
    pub spmc: u64,
    /// Instructions of EL3.
    pub el3: u64,
    /// Instructions of partitions.
    pub partition: u64,
    /// Instructions of the normal world.
    pub normal: u64,
    /// Entries of S-EL2 by an exception.
    pub exceptions: u64,
    /// All instructions.
    pub total: u64,
    /// Barriers of the SPMC.
    pub barriers: u64,
    /// TLB invalidations of the SPMC.
    pub tlb_invalidations: u64,
    /// Instructions of the SPMC: median of all repetitions.
    pub spmc_median: u64,
    /// Instructions of the SPMC when it was cold (the first repetition).
    pub spmc_cold: u64,
    /// All instructions when it was cold.
    pub total_cold: u64,
}

/// An operation with what its last repetition executed in the SPMC, if that was asked for: address and times.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Its figures.
    pub figures: Figures,
    /// Executions of instructions of the SPMC, by address.
    pub profile: BTreeMap<u64, u64>,
}

/// One line of the plugin.
#[derive(Clone, Debug, Default)]
struct Sample {
    spmc: u64,
    el3: u64,
    partition: u64,
    normal: u64,
    other: u64,
    exceptions: u64,
    barriers: u64,
    tlb_invalidations: u64,
    profile: BTreeMap<u64, u64>,
}

impl Sample {
    fn parse(columns: &str) -> Option<Self> {
        let numbers: Vec<u64> = columns.split_ascii_whitespace().map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [spmc, el3, partition, normal, other, exceptions, barriers, tlb_invalidations] = numbers[..] else { return None };
        Some(Self { spmc, el3, partition, normal, other, exceptions, barriers, tlb_invalidations, profile: BTreeMap::new() })
    }

    fn total(&self) -> u64 {
        self.spmc + self.el3 + self.partition + self.normal + self.other
    }
}

/// The operations that the payload announced on its console, with what the plugin counted.
///
/// # Errors
/// When the two do not fit together, or an operation executed something that is nobody's.
pub fn operations(console: &str, counts: &str) -> Result<Vec<Operation>> {
    let mut boot = None;
    let mut samples = Vec::new();
    let mut profile = BTreeMap::new();
    for line in counts.lines() {
        let bad = || format!("the plugin wrote '{line}'");
        let (what, columns) = line.split_once(' ').with_context(bad)?;
        match what {
            "boot" => boot = Some(Sample::parse(columns).with_context(bad)?),
            "pc" => {
                let (address, times) = columns.split_once(' ').with_context(bad)?;
                let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).with_context(bad)?;
                profile.insert(address, times.parse().with_context(bad)?);
            }
            "sample" => samples.push(Sample { profile: std::mem::take(&mut profile), ..Sample::parse(columns).with_context(bad)? }),
            _ => bail!(bad()),
        }
    }
    let boot = boot.context("the plugin did not see the normal world start")?;
    let mut operations = vec![Operation {
        figures: figures("boot", "two partitions", std::slice::from_ref(&boot)),
        profile: BTreeMap::new(),
    }];
    let mut rest = &samples[..];
    for line in console.lines().filter_map(|line| line.trim_end().strip_prefix("BENCH ")) {
        let parts = line.split_once(' ').and_then(|(times, name)| Some((times.parse::<usize>().ok()?, name.split_once(" | ")?)));
        let (times, (operation, instance)) = parts.with_context(|| format!("the payload said 'BENCH {line}'"))?;
        let Some((own, others)) = rest.split_at_checked(times) else { bail!("{operation} ({instance}): counted {} times, not {times}", rest.len()) };
        rest = others;
        let last = own.last().with_context(|| format!("{operation} ({instance}) was not executed"))?;
        if last.other > 0 {
            bail!("{operation} ({instance}): {} instructions lie in nobody's address range", last.other);
        }
        operations.push(Operation { figures: figures(operation, instance, own), profile: last.profile.clone() });
    }
    if !rest.is_empty() {
        bail!("{} operations were counted that the payload did not announce", rest.len());
    }
    Ok(operations)
}

/// The figures of an operation from its repetitions, of which there is one at least.
fn figures(operation: &str, instance: &str, samples: &[Sample]) -> Figures {
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let mut sorted: Vec<u64> = samples.iter().map(|sample| sample.spmc).collect();
    sorted.sort_unstable();
    Figures {
        operation: operation.to_owned(),
        instance: instance.to_owned(),
        spmc: last.spmc,
        el3: last.el3,
        partition: last.partition,
        normal: last.normal,
        exceptions: last.exceptions,
        total: last.total(),
        barriers: last.barriers,
        tlb_invalidations: last.tlb_invalidations,
        spmc_median: sorted[sorted.len() / 2],
        spmc_cold: first.spmc,
        total_cold: first.total(),
    }
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When there is no such file, or something else in it.
pub fn read(path: &Path) -> Result<Vec<Figures>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} has no figures of the benchmark", path.display()))
}

/// Writes figures as JSON: an array with one object for each operation.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, figures: &[Figures]) -> Result<()> {
    let text = serde_json::to_string_pretty(figures).context("figures are numbers and text")?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "boot 9 8 7 0 6 5 4 3\n";

    #[test]
    fn repetitions_give_cold_median_and_warm_figures() {
        let counts = format!("{BOOT}sample 30 1 1 1 0 1 0 0\nsample 10 1 1 1 0 1 2 0\npc 0xe100000 2\nsample 20 2 3 4 0 1 2 1\n");
        let found = operations("x\r\nBENCH 3 direct request | S-EL1\r\n", &counts).unwrap();
        let f = &found[1].figures;
        assert_eq!((f.operation.as_str(), f.instance.as_str()), ("direct request", "S-EL1"));
        assert_eq!((f.spmc, f.spmc_median, f.spmc_cold, f.total, f.total_cold), (20, 20, 30, 29, 33));
        assert_eq!((f.barriers, f.tlb_invalidations, f.exceptions), (2, 1, 1));
        assert_eq!(found[1].profile, BTreeMap::from([(0x0e10_0000, 2)]));
        assert_eq!((found[0].figures.operation.as_str(), found[0].figures.total), ("boot", 30));
    }

    #[test]
    fn samples_and_announcements_must_fit_together() {
        let sample = "sample 1 1 1 1 0 1 0 0\n";
        let error = |console: &str, counts: &str| operations(console, counts).unwrap_err().to_string();
        assert!(error("BENCH 2 a | b\n", &format!("{BOOT}{sample}")).contains("counted 1 times, not 2"));
        assert!(error("", &format!("{BOOT}{sample}")).contains("did not announce"));
        assert!(error("", sample).contains("did not see"));
        assert!(error("", &format!("{BOOT}end without begin\n")).contains("end without begin"));
        assert!(error("BENCH 1 a | b", &format!("{BOOT}sample 1 1 1 1 5 1 0 0\n")).contains("nobody's"));
    }

    #[test]
    fn figures_survive_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        let figures = [Figures { operation: "a".into(), spmc: 7, ..Figures::default() }];
        write(&path, &figures).unwrap();
        assert_eq!(read(&path).unwrap(), figures);
        fs::write(&path, "[1]").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("has no figures"));
    }
}

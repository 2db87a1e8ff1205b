//! What a larger system costs: the same operations with more partitions and more cores ([`growth`]), and what cores cost each other
//! that make requests at the same time ([`sharing`], [`rates`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use super::figures::{Announcement, Figures, Measured};
use super::profile::Symbols;
use super::{measure, plugin};
use crate::conformance::boots::{BENCH, BENCH_CORES, BENCH_EIGHT, BENCH_EIGHT_CORES, BENCH_FOUR, Boot};
use crate::conformance::run::{self as suite, Spmc};
use crate::progress::Progress;
use crate::project::Project;

/// Operations whose cost must not grow with the system.
const GROWING: &[(&str, &str)] = &[
    ("direct request", "S-EL1"),
    ("direct request", "S-EL0"),
    ("direct request 2", "S-EL1"),
    ("direct request 2", "S-EL0"),
    ("FFA_FEATURES", "-"),
    ("FFA_RUN, waiting", "S-EL1"),
    ("FFA_RUN, waiting", "S-EL0"),
    ("interrupt, then FFA_RUN", "S-EL1"),
    ("interrupt, then FFA_RUN", "S-EL0"),
    ("FFA_NOTIFICATION_SET", "to S-EL1"),
    ("share cycle", "S-EL1, 1 page"),
    ("share cycle", "S-EL0, 1 page"),
];

/// A system that is compared with the smallest one, and how its figures are called.
struct Larger {
    boot: Boot,
    called: &'static str,
}

const SMALLEST: Larger = Larger { boot: BENCH, called: "of 2 partitions" };
const LARGER: [Larger; 3] = [
    Larger { boot: BENCH_FOUR, called: "of 4 partitions" },
    Larger { boot: BENCH_EIGHT, called: "of 8 partitions" },
    Larger { boot: BENCH_EIGHT_CORES, called: "beside 7 idle cores" },
];

/// Figures of [`GROWING`] in the smallest system and in larger ones: instances end with what system it was.
///
/// # Errors
/// When something cannot be built, or the normal world of a system is never reached.
pub fn growth(project: &Project, progress: &Progress, spmc: &Spmc) -> Result<Measured> {
    let mut all = Measured::default();
    for Larger { boot, called } in [&SMALLEST].into_iter().chain(&LARGER) {
        let (mut machine, partitions) = suite::bench(project, progress, spmc, boot)?;
        let cores = machine.cpus;
        measure::choose(&mut machine, format!("growth {cores}"));
        let found = measure::count(project, machine, called, &plugin::test_partitions(&partitions), None)?;
        all.failures.extend(found.failures.into_iter().map(|failure| format!("{failure} ({called})")));
        let is_missing = |(operation, instance): &&(&str, &str)| {
            !found.operations.iter().any(|o| o.figures.operation == *operation && o.figures.instance == *instance)
        };
        all.failures.extend(GROWING.iter().filter(is_missing).map(|(operation, instance)| format!("{operation} ({instance}, {called}) was not repeated")));
        for mut operation in found.operations {
            let figures = &mut operation.figures;
            if is_growing(figures) {
                figures.instance += &format!(", {called}");
                all.operations.push(operation);
            }
        }
    }
    Ok(all)
}

fn is_growing(figures: &Figures) -> bool {
    GROWING.iter().any(|(operation, instance)| figures.operation == *operation && figures.instance == *instance)
}

/// Percent of the cost in the smallest system that an operation may have in a larger one.
pub const GROWTH_LIMIT: u64 = 105;

/// What the figures of [`growth`] say: for each operation, in how many percent of its cost with two partitions each larger system does it.
#[must_use]
pub fn in_percent(figures: &[Figures]) -> Vec<(String, [u64; LARGER.len()])> {
    let spmc = |operation: &str, instance: &str, called: &str| {
        let name = format!("{instance}, {called}");
        figures.iter().find(|f| f.operation == operation && f.instance == name).map(|f| f.spmc)
    };
    let mut rows = Vec::new();
    for (operation, instance) in GROWING {
        let Some(least) = spmc(operation, instance, SMALLEST.called) else { continue };
        let row = LARGER.each_ref().map(|l| spmc(operation, instance, l.called).map(|n| (n * 100).div_ceil(least.max(1))));
        if let [Some(a), Some(b), Some(c)] = row {
            let name = if *instance == "-" { (*operation).to_owned() } else { format!("{operation}, {instance}") };
            rows.push((name, [a, b, c]));
        }
    }
    rows
}

/// A table of [`in_percent`] and of what several cores cost each other, for the document.
#[must_use]
pub fn document(figures: &[Figures]) -> String {
    let mut text = String::new();
    let growth = in_percent(figures);
    if !growth.is_empty() {
        text += "\n## Larger systems\n\nInstructions of the SPMC, warm, in percent of what they are with two partitions and one core.\n\n| operation |";
        for larger in &LARGER {
            let _ = write!(text, " {} |", larger.called);
        }
        text += "\n|---|--:|--:|--:|\n";
        for (name, percents) in growth {
            let _ = writeln!(text, "| {name} | {} |", percents.map(|p| p.to_string()).join(" | "));
        }
    }
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let mut of_cores = figures.iter().filter(|f| f.handovers.is_some()).peekable();
    if of_cores.peek().is_some() {
        text += SHARING;
    }
    for f in of_cores {
        let [more, retries, handovers] = [f.beyond_one_core, f.retries, f.handovers].map(number);
        let _ = writeln!(text, "| {} | {} | {} | {more} | {retries} | {handovers} |", f.operation, f.instance, f.spmc);
    }
    let mut timed = figures.iter().filter(|f| f.throughput_percent.is_some()).peekable();
    if timed.peek().is_some() {
        text += RATES;
    }
    let loops = |f: &Figures| {
        let (cores, _) = f.instance.split_once(", ")?;
        figures.iter().find(|other| other.instance == format!("{cores}, {ALONE}"))?.throughput_percent
    };
    for f in timed {
        let percent = f.throughput_percent.unwrap_or_default();
        let of_loops = loops(f).map(|most| percent * 100 / most.max(1));
        let _ = writeln!(text, "| {} | {percent} | {} |", f.instance, number(of_loops));
    }
    text
}

/// Whether a figure is one of [`document`]'s.
#[must_use]
pub fn is_of_larger_system(figures: &Figures) -> bool {
    let called = [&SMALLEST].into_iter().chain(&LARGER).any(|l| figures.instance.ends_with(&format!(", {}", l.called)));
    called || figures.handovers.is_some() || figures.throughput_percent.is_some()
}

const SHARING: &str = "
## Several cores

What direct requests of several cores cost each other in the SPMC, at the most in one request of the second half of 32. *In turns* each core makes one request
after that of the core before it, so that each line that cores share changes hands once a request, if at all; *at once* they all go on as they can. With
*a vCPU each* they ask one partition that has a vCPU for each core, with *a partition each* different ones; *one vCPU for all* has to move from core to core,
with all that it has.

*More than alone* are instructions beyond those of the same request on one core: waiting for locks, and failed attempts. *Retries* are atomic stores
beyond those. *Hand-overs* are accesses to a line of 64 bytes that comes from another core's cache, or is taken from it (`qemu/plugin/cores.c`).

| operation | cores and whom they ask | SPMC | more than alone | retries | hand-overs |
|---|---|--:|--:|--:|--:|
";

const RATES: &str = "
Throughput by wall time, in percent of one core's, as median of seven measurements within one run. This shows the machine that the figures were made on, which other
programs used as well: emulated cores are threads of it, and four of them may have the time of two. *Computing alone* is a loop of the normal world that makes no
calls: what this machine can give. The last column is in percent of that.

| cores and what they do | percent of one core | percent of the loop |
|---|--:|--:|
";

/// What the payload calls a loop that makes no calls.
const ALONE: &str = "computing alone";

/// Requests of several cores, counted together.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// What they cost, at the most, once everything is warm.
    pub figures: Figures,
    /// What was handed over in them: address of the instruction, address of the line, and times.
    kinds: BTreeMap<(u64, u64), u64>,
}

/// A request that the plugin counted.
#[derive(Debug)]
struct Sample {
    core: u64,
    spmc: u64,
    atomics: u64,
    handovers: u64,
    kinds: BTreeMap<(u64, u64), u64>,
}

/// Counts what requests of several cores cost each other, in turns and at once.
///
/// # Errors
/// When something cannot be built, or the boot does not do all that it should.
pub fn sharing(project: &Project, progress: &Progress, spmc: &Spmc) -> Result<Vec<Sharing>> {
    let (mut machine, _) = suite::bench(project, progress, spmc, &BENCH_CORES)?;
    let counts = machine.dir.join("cores.txt");
    let object = plugin::compile(project, &machine.dir, "cores")?;
    measure::choose(&mut machine, "cores".into());
    machine.extra = vec!["-plugin".into(), plugin::cores_option(&object, &counts)];
    let console = measure::console(&machine)?;
    let text = fs::read_to_string(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    parse(&console, &text)
}

/// The plugin's lines put together with what the payload says they are.
fn parse(console: &str, counts: &str) -> Result<Vec<Sharing>> {
    let mut samples = Vec::new();
    let mut kinds = BTreeMap::new();
    for line in counts.lines() {
        let bad = || format!("the plugin wrote '{line}'");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().with_context(bad);
        let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(bad);
        match words[..] {
            ["handover", instruction, line, times] => {
                kinds.insert((address(instruction)?, address(line)?), number(times)?);
            }
            ["sample", core, spmc, atomics, handovers] => samples.push(Sample {
                core: number(core)?,
                spmc: number(spmc)?,
                atomics: number(atomics)?,
                handovers: number(handovers)?,
                kinds: std::mem::take(&mut kinds),
            }),
            _ => bail!(bad()),
        }
    }
    let mut rest = &samples[..];
    let mut all: Vec<Sharing> = Vec::new();
    // Of the last operation on one core: instructions and atomic stores.
    let mut alone = (0, 0);
    for line in console.lines() {
        let Some(Announcement { times, operation, instance, .. }) = Announcement::read(line)? else { continue };
        let Some((own, others)) = rest.split_at_checked(times) else { bail!("{operation} ({instance}): counted {} times, not {times}", rest.len()) };
        rest = others;
        let warm = warm(own);
        let most = |of: fn(&Sample) -> u64| warm.iter().map(|sample| of(sample)).max().unwrap_or_default();
        let (spmc, atomics) = (most(|s| s.spmc), most(|s| s.atomics));
        if own.iter().all(|sample| sample.core == 0) {
            alone = (spmc, atomics);
        }
        let mut kinds = BTreeMap::new();
        for (kind, times) in warm.iter().flat_map(|sample| &sample.kinds) {
            let most = kinds.entry(*kind).or_insert(*times);
            *most = (*most).max(*times);
        }
        let figures = Figures {
            operation: operation.to_owned(),
            instance: instance.to_owned(),
            spmc,
            beyond_one_core: Some(spmc.saturating_sub(alone.0)),
            retries: Some(atomics.saturating_sub(alone.1)),
            handovers: Some(most(|s| s.handovers)),
            ..Figures::default()
        };
        all.push(Sharing { figures, kinds });
    }
    if !rest.is_empty() {
        bail!("{} operations were counted that the payload did not announce", rest.len());
    }
    Ok(all)
}

/// What must hold for each, and whether it does. Cores that ask different vCPUs have nothing to do with each other; and that hand-overs
/// are seen where there are some shows with one vCPU for all.
#[must_use]
pub fn judge(sharing: &[Sharing]) -> Vec<(bool, String)> {
    let verdict = |one: &Sharing| {
        let f = &one.figures;
        let [more, retries, handovers] = [f.beyond_one_core, f.retries, f.handovers].map(Option::unwrap_or_default);
        let is_one_vcpu = f.instance.contains("one vCPU for all");
        let holds = if is_one_vcpu { f.instance.starts_with("1 core") || handovers > 0 } else { more + retries + handovers == 0 };
        (holds, format!("{} ({}) {more} instructions more than alone, {retries} retries, {handovers} hand-overs", f.operation, f.instance))
    };
    sharing.iter().map(verdict).collect()
}

/// The second half of each core's.
fn warm(samples: &[Sample]) -> Vec<&Sample> {
    let mut cores: BTreeMap<u64, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        cores.entry(sample.core).or_default().push(sample);
    }
    cores.into_values().flat_map(|own| own[own.len() / 2..].to_vec()).collect()
}

/// By name, what was handed over.
#[must_use]
pub fn show(sharing: &[Sharing], symbols: &Symbols) -> String {
    let mut text = String::new();
    for one in sharing.iter().filter(|one| !one.kinds.is_empty()) {
        let _ = writeln!(text, "\n{} ({}): lines that cores hand over", one.figures.operation, one.figures.instance);
        for ((instruction, line), times) in &one.kinds {
            let _ = writeln!(text, "{times:>8}  {} at {instruction:#x}: line {line:#x} of {}", symbols.name(*instruction), symbols.name(*line));
        }
    }
    text
}

/// How many more requests more cores get answered in the same time: figures whose `throughput_percent` says it, 100 for one core.
///
/// # Errors
/// When something cannot be built, or the boot does not do all that it should.
pub fn rates(project: &Project, progress: &Progress, spmc: &Spmc) -> Result<Vec<Figures>> {
    let (mut machine, _) = suite::bench(project, progress, spmc, &BENCH_CORES)?;
    measure::choose(&mut machine, "rates".into());
    ratios(&measure::console(&machine)?)
}

/// The payload measures each several times, in turns with the others; of these the median counts.
fn ratios(console: &str) -> Result<Vec<Figures>> {
    let mut measured: Vec<((&str, u64), Vec<u64>)> = Vec::new();
    for line in console.lines().filter_map(|line| line.trim_end().strip_prefix("RATE ")) {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(done), Some(cores), Some(name)) = (number(), number(), words.next()) else { bail!("the payload said 'RATE {line}'") };
        match measured.iter_mut().find(|(key, _)| *key == (name, cores)) {
            Some((_, all)) => all.push(done),
            None => measured.push(((name, cores), vec![done])),
        }
    }
    let median = |key: (&str, u64)| {
        let mut all = measured.iter().find(|(k, _)| *k == key)?.1.clone();
        all.sort_unstable();
        Some(all[all.len() / 2])
    };
    let mut found = Vec::new();
    for ((name, cores), _) in &measured {
        let (Some(one), Some(these)) = (median((name, 1)), median((name, *cores))) else { bail!("{name} was not measured on one core") };
        found.push(Figures {
            operation: "throughput".to_owned(),
            instance: format!("{cores} core{}, {name}", if *cores == 1 { "" } else { "s" }),
            throughput_percent: Some(these * 100 / one.max(1)),
            ..Figures::default()
        });
    }
    if found.is_empty() {
        bail!("the payload measured nothing");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_against_the_smallest_system() {
        let one = |called: &str, spmc| Figures {
            operation: "FFA_FEATURES".into(),
            instance: format!("-, {called}"),
            spmc,
            ..Figures::default()
        };
        let figures = [one("of 2 partitions", 200), one("of 4 partitions", 201), one("of 8 partitions", 220), one("beside 7 idle cores", 200)];
        assert_eq!(in_percent(&figures), [("FFA_FEATURES".to_owned(), [101, 110, 100])]);
        assert!(in_percent(&figures[1..]).is_empty());
        assert!(figures.iter().all(is_of_larger_system) && !is_of_larger_system(&Figures { instance: "S-EL1".into(), ..Figures::default() }));
        assert!(document(&figures).contains("| FFA_FEATURES | 101 | 110 | 100 |\n"));
        assert_eq!(document(&[]), "");
    }

    #[test]
    fn the_second_half_of_each_core_is_held_against_one_core() {
        let console = "BENCH 2 o | 1 core, x\r\nBENCH 4 o | 2 cores, x\r\n";
        let counts = "sample 0 900 9 0\nsample 0 100 1 0\nsample 0 800 9 9\nsample 1 800 9 9\n\
                      handover 0x10 0x40 2\nsample 1 101 1 2\nhandover 0x10 0x40 1\nsample 0 105 3 1\n";
        let found = parse(console, counts).unwrap();
        let of = |n: usize| (found[n].figures.spmc, found[n].figures.beyond_one_core, found[n].figures.retries, found[n].figures.handovers);
        assert_eq!(of(0), (100, Some(0), Some(0), Some(0)));
        assert_eq!(of(1), (105, Some(5), Some(2), Some(2)));
        assert_eq!(found[1].kinds, BTreeMap::from([((0x10, 0x40), 2)]));
        assert_eq!(judge(&found).iter().map(|(holds, _)| *holds).collect::<Vec<_>>(), [true, false]);
        let moving = |handovers| {
            let figures = Figures { instance: "2 cores, one vCPU for all".into(), handovers: Some(handovers), ..Figures::default() };
            judge(&[Sharing { figures, kinds: BTreeMap::new() }])[0].0
        };
        assert!(moving(9) && !moving(0), "a vCPU that moves has to be seen");
        let all: Vec<Figures> = found.iter().map(|one| one.figures.clone()).collect();
        assert!(document(&all).contains("| o | 2 cores, x | 105 | 5 | 2 | 2 |\n"));
        assert!(parse(console, "sample 0 1 1 1\n").unwrap_err().to_string().contains("counted 1 times, not 2"));
        assert!(parse("", "sample 0 1 1 1\n").unwrap_err().to_string().contains("did not announce"));
    }

    #[test]
    fn rates_are_medians_in_relation_to_one_core() {
        let console = "RATE 10 1 x\r\nRATE 25 2 x\r\nRATE 12 1 x\r\nRATE 15 2 x\r\nRATE 1 1 x\r\nRATE 20 2 x\r\n";
        let found = ratios(console).unwrap();
        let of = |n: usize| (found[n].instance.as_str(), found[n].throughput_percent);
        assert_eq!([of(0), of(1)], [("1 core, x", Some(100)), ("2 cores, x", Some(200))]);
        assert!(document(&found).contains("| 2 cores, x | 200 | - |\n"));
        let most = Figures { instance: "2 cores, computing alone".into(), throughput_percent: Some(160), ..Figures::default() };
        assert!(document(&[most, found[1].clone()]).contains("| 2 cores, x | 200 | 125 |\n"));
        assert!(ratios("RATE x\n").is_err() && ratios("").is_err() && ratios("RATE 1 2 x\n").is_err());
    }
}

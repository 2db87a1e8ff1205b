//! Boots on QEMU: the demonstration with the real chain. Each `STEP` line is a test; a boot itself is one more,
//! which holds if the machine powered off, nothing expected is missing, and Linux counted the same steps as we did.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Result;
use regex::Regex;

use super::Tally;
use crate::chain::{Chain, Changes};
use crate::cli::RunOptions;
use crate::console::Port;
use crate::demonstration::{BOOTS, Boot};
use crate::interrupt;
use crate::machine::{CPUS, End, Limits, MEMORY, Machine, Run};
use crate::progress::{self, Progress};
use crate::project::Project;
use crate::system;
use crate::toolchain::Profile;

/// Name of the system that the demonstration's boots share; `run` has another one, with a variable store of its own.
const SYSTEM: &str = "demonstration";

/// How the boots are made.
struct Settings {
    cpus: u32,
    memory: u32,
    profile: Profile,
    full: bool,
    changes: Changes,
}

/// The demonstration: all boots, with the machine that `options` describe. Returns whether everything held.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn demonstration(project: &Project, progress: &Progress, options: &RunOptions) -> Result<bool> {
    let settings = Settings {
        cpus: options.cpus,
        memory: options.memory,
        profile: if options.debug { Profile::Debug } else { Profile::Release },
        full: options.full,
        changes: options.changes(),
    };
    let tally = boots(project, progress, &settings, None)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// The boots that `filter` selects, as `cargo xtask test` runs them.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress, filter: Option<&str>) -> Result<Tally> {
    let settings = Settings { cpus: CPUS, memory: MEMORY, profile: Profile::Release, full: false, changes: Changes::default() };
    boots(project, progress, &settings, filter)
}

fn boots(project: &Project, progress: &Progress, settings: &Settings, filter: Option<&str>) -> Result<Tally> {
    let selected = select(BOOTS, filter);
    let mut tally = Tally::default();
    if selected.is_empty() {
        return Ok(tally);
    }
    let chain = Chain::build(project, progress, settings.profile, settings.changes.clone())?;
    let mut broken: Vec<&str> = Vec::new();
    for boot in selected {
        println!("Boot '{}': {}", boot.name, boot.shows);
        let outcome = match boot.after.filter(|before| broken.contains(before)) {
            Some(before) => Outcome::Bad { tally: Tally::default(), why: format!("not tried, because boot '{before}' did not end well") },
            None => one(project, &chain, settings, boot)?,
        };
        match outcome {
            Outcome::Good { tally: steps, seconds } => {
                tally += steps;
                tally.passed += 1;
                println!("  PASS boot.{} powered off after {seconds}", boot.name);
            }
            Outcome::Bad { tally: steps, why } => {
                tally += steps;
                tally.failed += 1;
                broken.push(boot.name);
                println!("  FAIL boot.{} {why}", boot.name);
            }
        }
    }
    Ok(tally)
}

/// The boots whose name contains `filter`, and those that must come before them.
fn select<'a>(boots: &'a [Boot], filter: Option<&str>) -> Vec<&'a Boot> {
    let mut wanted: Vec<bool> = boots.iter().map(|b| filter.is_none_or(|f| b.name.contains(f))).collect();
    for at in (0..boots.len()).rev() {
        if let (true, Some(before)) = (wanted[at], boots[at].after) {
            if let Some(position) = boots[..at].iter().position(|b| b.name == before) {
                wanted[position] = true;
            }
        }
    }
    boots.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(boot, _)| boot).collect()
}

enum Outcome {
    Good { tally: Tally, seconds: String },
    Bad { tally: Tally, why: String },
}

fn one(project: &Project, chain: &Chain, settings: &Settings, boot: &Boot) -> Result<Outcome> {
    let assembled = chain.assemble(project, SYSTEM, boot.stmm)?;
    if boot.after.is_none() {
        system::forget_variables(&assembled)?;
    }
    let linux = if settings.full { boot.linux_full } else { boot.linux };
    let items = [("opt/bulkhead/uefi", boot.uefi), ("opt/bulkhead/steps", linux)];
    let machine = Machine {
        cpus: settings.cpus,
        memory: settings.memory,
        fw_cfg: items.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..chain.machine(&assembled)?
    };
    let mut run = machine.start()?;
    let limits = Limits { silence: Duration::from_secs(boot.silence), total: Duration::from_secs(boot.total) };
    let mut tally = Tally::default();
    let end = run.watch(&limits, &mut |step| {
        println!("  {}", step.show());
        if step.passed { tally.passed += 1 } else { tally.failed += 1 }
    })?;
    interrupt::check()?;
    let names: Vec<&str> = run.steps().iter().map(|s| s.name.as_str()).collect();
    let problems = problems(boot, &end, &names, &run);
    keep_consoles(&machine, boot);
    Ok(if problems.is_empty() {
        Outcome::Good { tally, seconds: progress::seconds(run.elapsed()) }
    } else {
        Outcome::Bad { tally, why: format!("{}\n{}", problems.join("; "), run.last_words()) }
    })
}

/// Copies the consoles of a boot aside: the next one of the same system writes new ones.
fn keep_consoles(machine: &Machine, boot: &Boot) {
    for log in [machine.console_log(), machine.secure_log()] {
        if let Some(name) = log.file_name().and_then(|n| n.to_str()) {
            // A report that is missing does not change a verdict.
            let _ = std::fs::copy(&log, log.with_file_name(format!("{}-{name}", boot.name)));
        }
    }
}

/// What is wrong with a boot that has ended, besides failed steps.
fn problems(boot: &Boot, end: &End, names: &[&str], run: &Run) -> Vec<String> {
    let mut problems = Vec::new();
    if *end != End::PoweredOff {
        problems.push(end.show());
    }
    let missing: Vec<&str> = boot.expects.iter().copied().filter(|e| !names.contains(e)).collect();
    if !missing.is_empty() {
        problems.push(format!("steps that did not come: {}", missing.join(" ")));
    }
    if !boot.linux.is_empty() {
        let counted = counted_by_linux(run.console(Port::Normal).text());
        let seen = names.iter().filter(|n| !n.starts_with("uefi")).count();
        match counted {
            None => problems.push("Linux did not get to the sum of its steps".into()),
            Some(counted) if counted != seen => problems.push(format!("Linux counted {counted} steps, {seen} were seen")),
            Some(_) => {}
        }
    }
    problems
}

/// How many steps Linux says that it took: `BATCH 3 passed, 1 failed`.
fn counted_by_linux(console: &str) -> Option<usize> {
    static SUM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^BATCH (\d+) passed, (\d+) failed").expect("a constant pattern"));
    let sum = SUM.captures(console)?;
    Some(sum[1].parse::<usize>().ok()? + sum[2].parse::<usize>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_brings_along_the_one_that_it_continues() {
        let names = |filter| select(BOOTS, filter).iter().map(|b| b.name).collect::<Vec<_>>();
        assert_eq!(names(Some("second")), ["first", "second"]);
        assert_eq!(names(Some("first")), ["first"]);
        assert_eq!(names(None).len(), BOOTS.len());
        assert!(names(Some("no such boot")).is_empty());
    }

    #[test]
    fn every_boot_continues_an_earlier_one_or_none() {
        for (at, boot) in BOOTS.iter().enumerate() {
            assert!(boot.after.is_none_or(|before| BOOTS[..at].iter().any(|b| b.name == before)), "{}", boot.name);
            assert!(BOOTS[..at].iter().all(|b| b.name != boot.name), "{} is there twice", boot.name);
        }
    }

    #[test]
    fn linux_sum_is_read() {
        assert_eq!(counted_by_linux("STEP a PASS\r\nBATCH 3 passed, 1 failed\r\n"), Some(4));
        assert_eq!(counted_by_linux("no BATCH 3 passed, 1 failed"), None);
    }
}

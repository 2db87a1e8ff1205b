//! Boots on QEMU: Rust test partitions with the normal-world payload ([`super::payload`]), the benchmark
//! ([`super::bench`]), broken manifests ([`super::refusals`]), an interactive boot of the real chain ([`super::shell`]), then the demonstration's boots.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::boot::{self, Expected};
use super::{Tally, bench, bridge, payload, refusals, shell, third_party, uboot};
use crate::chain::{Chain, Changes, Firmware};
use crate::cli::RunOptions;
use crate::demonstration::{BOOTS, Boot, item};
use crate::machine::{CPUS, Limits, Machine};
use crate::progress::Progress;
use crate::project::Project;
use crate::system;
use crate::toolchain::Profile;

/// Name of the system that the demonstration's boots share; `run` has another one, with a variable store of its own.
const SYSTEM: &str = "demonstration";

/// How the demonstration's boots are made.
struct Settings {
    cpus: u32,
    profile: Profile,
    full: bool,
    /// How long steps last that go on for some time, where that is asked for.
    minutes: Option<u32>,
    changes: Changes,
}

/// The demonstration: all boots, with the machine that `options` describe. Returns whether everything held.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn demonstration(project: &Project, progress: &Progress, options: &RunOptions) -> Result<bool> {
    let settings = Settings {
        cpus: options.cpus,
        profile: if options.debug { Profile::Debug } else { Profile::Release },
        full: options.full,
        minutes: options.minutes,
        changes: options.changes(),
    };
    let tally = match (options.scenario.as_deref(), options.firmware) {
        (Some(bridge::NAME), _) => bridge::run(project, progress)?,
        (Some(uboot::NAME), _) | (None, Firmware::UBoot) => {
            ensure!(options.without.is_empty(), "the demonstration of U-Boot has boots without each partition of its own: leave --without out");
            uboot::run(project, progress, &uboot::Settings { cpus: settings.cpus, profile: settings.profile, memory: options.memory })?
        }
        (scenario, _) => {
            ensure!(!select(BOOTS, scenario).is_empty(), "--scenario {}: {}", scenario.unwrap_or_default(), no_such_scenario());
            chain_boots(project, progress, &settings, scenario)?
        }
    };
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

fn no_such_scenario() -> String {
    let known: Vec<&str> = BOOTS.iter().map(|boot| boot.name).chain([uboot::NAME, bridge::NAME]).collect();
    format!("no part of the demonstration is called so; there are {}", known.join(", "))
}

/// The boots that `filter` selects, as `cargo xtask test` runs them.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress, filter: Option<&str>) -> Result<Tally> {
    let settings = Settings { cpus: CPUS, profile: Profile::Release, full: false, minutes: None, changes: Changes::default() };
    let mut tally = payload::run(project, progress, filter)?;
    if filter.is_none_or(|f| bench::NAME.contains(f)) {
        tally += bench::run(project, progress)?;
    }
    if filter.is_none_or(|f| bench::CORES.contains(f)) {
        tally += bench::run_cores(project, progress)?;
    }
    if filter.is_none_or(|f| refusals::NAME.contains(f)) {
        tally += refusals::run(project, progress)?;
    }
    if filter.is_none_or(|f| third_party::NAME.contains(f)) {
        tally += third_party::run(project, progress)?;
    }
    tally += shell::run(project, progress, filter)?;
    tally += chain_boots(project, progress, &settings, filter)?;
    if filter.is_none_or(|f| uboot::NAME.contains(f)) {
        tally += uboot::run(project, progress, &uboot::Settings::default())?;
    }
    if filter.is_none_or(|f| bridge::NAME.contains(f)) {
        tally += bridge::run(project, progress)?;
    }
    Ok(tally)
}

fn chain_boots(project: &Project, progress: &Progress, settings: &Settings, filter: Option<&str>) -> Result<Tally> {
    let mut tally = Tally::default();
    for alike in select(BOOTS, filter).chunk_by(|a, b| a.second_optee == b.second_optee) {
        let changes = Changes { second_optee: alike[0].second_optee, ..settings.changes.clone() };
        let chain = Chain::build(project, progress, settings.profile, changes)?;
        for one in alike {
            tally += chain_boot(project, &chain, settings, one)?;
        }
    }
    Ok(tally)
}

fn chain_boot(project: &Project, chain: &Chain, settings: &Settings, one: &Boot) -> Result<Tally> {
    println!("Boot '{}': {}", one.name, one.shows);
    let assembled = chain.assemble(project, SYSTEM, one.stmm)?;
    if one.after.is_none() {
        system::forget_variables(&assembled)?;
    }
    let mut linux = if settings.full { one.linux_full } else { one.linux }.to_owned();
    let mut total = Duration::from_secs(one.total);
    if let Some((minutes, steps)) = settings.minutes.and_then(|minutes| Some((minutes, one.linux_for(minutes)?))) {
        linux = steps;
        total += Duration::from_secs(60 * u64::from(minutes));
    }
    let machine = Machine {
        cpus: settings.cpus,
        resets: false,
        fw_cfg: vec![item("uefi", one.uefi), item("steps", &linux)],
        extra: one.qemu(),
        ..chain.machine(&assembled)?
    };
    let limits = Limits { silence: Duration::from_secs(one.silence), total };
    // UEFI's loader does not sum up; Linux sums up its own steps.
    let expected = Expected { name: one.name, steps: one.expects, outside_sum: Some(&["uefi"]), secure: one.secure, limits };
    boot::boot(&machine, &expected)
}

/// The boots whose name contains `filter`, and those that must come before them.
fn select<'a>(boots: &'a [Boot], filter: Option<&str>) -> Vec<&'a Boot> {
    let mut wanted: Vec<bool> = boots.iter().map(|b| filter.is_none_or(|f| b.name.contains(f))).collect();
    for at in (0..boots.len()).rev() {
        if wanted[at] && let Some(position) = boots[..at].iter().position(|b| Some(b.name) == boots[at].after) {
            wanted[position] = true;
        }
    }
    boots.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(boot, _)| boot).collect()
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
    fn minutes_are_for_steps_that_last() {
        let boot = |name| BOOTS.iter().find(|b| b.name == name).unwrap();
        assert_eq!(boot("peers").linux_for(10).as_deref(), Some("peers:600"));
        assert_eq!(boot("first").linux_for(10), None);
    }

    #[test]
    fn every_boot_continues_an_earlier_one_or_none() {
        for (at, boot) in BOOTS.iter().enumerate() {
            assert!(boot.after.is_none_or(|before| BOOTS[..at].iter().any(|b| b.name == before)), "{}", boot.name);
            assert!(BOOTS[..at].iter().all(|b| b.name != boot.name), "{} is there twice", boot.name);
        }
    }
}

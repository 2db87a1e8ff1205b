//! `cargo xtask conformance`: boots the conformance suite (`tests/conformance`) against an SPMC, Bulkhead or any other, and says
//! which checks hold. Nothing here knows what an SPMC prints.
//!
//! [`catalogue`] knows the checks, [`boots`] the systems in which they run, [`record`] follows the payload's console, [`run`] drives
//! the machine, [`report`] writes results; [`mutants`] shows that checks can fail.

pub mod boots;
pub mod catalogue;
mod mutants;
pub mod record;
pub mod report;
pub mod run;

use anyhow::{Result, bail};

use crate::cli::ConformanceOptions;
use crate::progress::{self, Progress};
use crate::project::Project;
use record::{Record, Verdict};
use run::{Spmc, Suite};

/// Runs what `options` ask for and prints results as they come, then a summary. Returns whether no check failed.
///
/// # Errors
/// When the suite cannot be built or started, no check is selected, or a file cannot be read or written.
pub fn command(project: &Project, progress: &Progress, options: &ConformanceOptions) -> Result<bool> {
    if options.mutants {
        return mutants::command(project, progress, options.filter.as_deref(), options.list);
    }
    let suite = Suite::build(project, progress, boots::BOOTS)?;
    let selected = suite.select(boots::BOOTS, options.filter.as_deref())?;
    if selected.is_empty() {
        bail!("no check contains '{}': see --list", options.filter.as_deref().unwrap_or_default());
    }
    if options.list {
        for check in selected.iter().flat_map(|plan| &plan.checks) {
            println!("{}", check.show());
        }
        return Ok(true);
    }
    let spmc = match &options.bl32 {
        Some(image) => Spmc::foreign(project, image, options.spmc_manifest.as_deref())?,
        None if options.no_fast_path => Spmc::general(project, progress, options.spmc_manifest.as_deref())?,
        None => Spmc::own(project, progress, options.spmc_manifest.as_deref())?,
    };
    let mut records = Vec::new();
    for plan in &selected {
        println!("Boot '{}': {}", plan.boot.name, plan.boot.shows);
        let outcome = suite.run(project, &spmc, plan, &mut |record| println!("  {}", record.show()))?;
        println!("  {} checks in {}, {} starts of the machine", outcome.records.len(), progress::seconds(outcome.took), outcome.runs);
        records.extend(outcome.records);
    }
    if let Some(path) = &options.json {
        report::write_json(path, &records)?;
    }
    if let Some(path) = &options.junit {
        report::write_junit(path, &records)?;
    }
    print!("{}", report::summary(&records));
    Ok(records.iter().all(|record: &Record| record.result != Verdict::Fail))
}

//! `cargo xtask bench`: what each operation costs, in executed instructions.
//!
//! One boot of the test payload and two test partitions on one core, with `-icount` and our TCG plugin ([`plugin`]), which
//! counts what each world executes between two markers ([`measure`]). The payload says on its console which operations these were;
//! [`figures`] puts both together. Counts are exact and repeatable: nothing here is timed.

pub mod compare;
mod document;
mod figures;
mod measure;
mod plugin;
mod profile;
pub mod record;
mod real;
pub mod scaling;
mod steps;
mod table;

use std::fs;

use anyhow::{Context, Result, bail};

use crate::cli::BenchOptions;
use crate::conformance::run::Spmc;
use crate::limits;
use crate::progress::Progress;
use crate::project::Project;
use crate::toolchain::Profile;
use figures::{Figures, Measured};
use table::Beside;

/// What can be measured by itself: a filter that is the name of one of these boots only what that needs.
const PARTS: [&str; 5] = ["single", "real", "growth", "cores", "rates"];

/// Builds, boots, counts, and reports what `options` ask for. Returns whether all operations were done.
///
/// # Errors
/// When something cannot be built, the normal world is never reached, or a file cannot be read or written.
pub fn run(project: &Project, progress: &Progress, options: &BenchOptions) -> Result<bool> {
    let earlier = options.compare.as_deref().map(figures::read).transpose()?;
    let own = Spmc::own(project, progress, None)?;
    let spmc = match &options.bl32 {
        Some(image) => Spmc::foreign(project, image, options.spmc_manifest.as_deref())?,
        None => Spmc::own(project, progress, options.spmc_manifest.as_deref())?,
    };
    println!("Counting ...");
    let beside = match earlier {
        Some(earlier) => Some(Beside { name: "then", figures: earlier }),
        // Another SPMC's figures say little without ours.
        None if options.bl32.is_some() => {
            let ours = measure::measure(project, progress, &own, false)?;
            Some(Beside { name: "Bulkhead", figures: ours.operations.into_iter().map(|o| o.figures).collect() })
        }
        None => None,
    };
    let filter = options.filter.as_deref();
    let part = filter.filter(|filter| PARTS.contains(filter));
    // The rest is about this repository's SPMC: its cores' data, and the system that it is for.
    let is_wanted = |name: &str| part.is_none_or(|part| part == name) && (name == "single" || options.bl32.is_none());
    // Steps are a part of the document.
    let profiled = options.profile || options.write_docs;
    let wanted = |f: &Figures| part.is_some() || filter.is_none_or(|text| f.operation.contains(text) || f.instance.contains(text));
    // Whoever asks for an operation of one part does not wait for the others.
    let is_enough = |measured: &Measured| filter.is_some() && measured.operations.iter().any(|o| wanted(&o.figures));
    let mut measured = Measured::default();
    if is_wanted("single") {
        measured = measure::measure(project, progress, &spmc, profiled)?;
    }
    if is_wanted("real") && !is_enough(&measured) {
        measured.extend(real::measure(project, progress, profiled)?);
    }
    if is_wanted("growth") && !is_enough(&measured) {
        measured.extend(scaling::growth(project, progress, &spmc)?);
    }
    let sharing = if is_wanted("cores") && !is_enough(&measured) { scaling::sharing(project, progress, &spmc)? } else { Vec::new() };
    let rates = if is_wanted("rates") && !is_enough(&measured) { scaling::rates(project, progress, &spmc)? } else { Vec::new() };
    let elf = limits::build_spmc(project, progress, Profile::Release)?.elf;
    for operation in measured.operations.iter_mut().filter(|o| steps::describe(&o.figures) && !o.profile.is_empty()) {
        operation.figures.steps = steps::of(&elf, &operation.profile)?;
    }
    let mut all: Vec<Figures> = measured.operations.iter().map(|o| o.figures.clone()).collect();
    all.extend(sharing.iter().map(|one| one.figures.clone()));
    all.extend(rates);
    let chosen: Vec<Figures> = all.iter().filter(|f| wanted(f)).cloned().collect();
    if chosen.is_empty() {
        bail!("nothing that was measured contains '{}'\n{}", options.filter.as_deref().unwrap_or_default(), measured.failures.join("\n"));
    }
    print!("{}", table::show(&chosen, beside.as_ref()));
    for failure in &measured.failures {
        println!("not measured: {failure}");
    }
    if options.profile {
        let symbols = profile::Symbols::read(&elf)?;
        for operation in measured.operations.iter().filter(|o| wanted(&o.figures) && !o.profile.is_empty()) {
            print!("{}", symbols.show(operation));
        }
        print!("{}", scaling::show(&sharing, &symbols));
    }
    if let Some(path) = &options.json {
        figures::write(path, &chosen)?;
    }
    if options.write_docs {
        if !measured.failures.is_empty() {
            bail!("{} and docs/performance.md were not written: not all operations were measured", record::PATH);
        }
        figures::write(&project.root.join(record::PATH), &all)?;
        let path = project.root.join("docs/performance.md");
        fs::write(&path, document::text(&all)).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {} and {}", record::PATH, path.display());
    }
    Ok(measured.failures.is_empty())
}

/// All figures of this repository's SPMC as shipped that are the same each time, and what could not be measured.
///
/// # Errors
/// As [`run`].
pub fn own(project: &Project, progress: &Progress) -> Result<(Vec<Figures>, Vec<String>)> {
    let spmc = Spmc::own(project, progress, None)?;
    let mut measured = measure::measure(project, progress, &spmc, false)?;
    measured.extend(real::measure(project, progress, false)?);
    measured.extend(scaling::growth(project, progress, &spmc)?);
    Ok((measured.operations.into_iter().map(|o| o.figures).collect(), measured.failures))
}

/// What cores cost each other, and what lines they hand over by name.
///
/// # Errors
/// As [`run`].
pub fn cores(project: &Project, progress: &Progress) -> Result<(Vec<scaling::Sharing>, String)> {
    let sharing = scaling::sharing(project, progress, &Spmc::own(project, progress, None)?)?;
    let symbols = profile::Symbols::read(&limits::build_spmc(project, progress, Profile::Release)?.elf)?;
    let names = scaling::show(&sharing, &symbols);
    Ok((sharing, names))
}

/// The recorded figures.
///
/// # Errors
/// When they cannot be read.
pub fn recorded(project: &Project) -> Result<Vec<Figures>> {
    figures::read(&project.root.join(record::PATH)).context("`cargo xtask bench --write-docs` writes it")
}

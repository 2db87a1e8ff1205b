//! `cargo xtask bench`: what each operation costs, in executed instructions.
//!
//! One boot of the test payload and two test partitions on one core, with `-icount` and our TCG plugin ([`plugin`]), which
//! counts what each world executes between two markers. The payload says on its console which operations these were;
//! [`figures`] puts both together. Counts are exact and repeatable: nothing here is timed.

mod document;
mod figures;
mod plugin;
mod profile;
mod table;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::BenchOptions;
use crate::console::Port;
use crate::machine::{End, Limits};
use crate::progress::Progress;
use crate::project::Project;
use crate::conformance::run as suite;
use figures::Figures;

/// Builds, boots, counts, and reports what `options` ask for.
///
/// # Errors
/// When something cannot be built, the boot fails, an operation fails in it, or a file cannot be read or written.
pub fn run(project: &Project, progress: &Progress, options: &BenchOptions) -> Result<()> {
    let earlier = options.compare.as_deref().map(figures::read).transpose()?;
    let (mut machine, spmc, partitions) = suite::bench(project, progress)?;
    let counts = machine.dir.join("counts.txt");
    let object = plugin::compile(project, &machine.dir)?;
    machine.extra = ["-icount", "shift=0", "-plugin"].map(Into::into).to_vec();
    machine.extra.push(plugin::option(&object, &counts, &partitions, options.profile.then_some(spmc.bytes)));
    println!("Counting ...");
    let mut run = machine.start()?;
    let mut failures = Vec::new();
    let limits = Limits { silence: Duration::from_secs(120), total: Duration::from_secs(600) };
    let end = run.watch(&limits, &mut |step| {
        if !step.passed {
            failures.push(step.show());
        }
    })?;
    if end != End::PoweredOff || !failures.is_empty() {
        bail!("the machine {}\n{}\n{}", end.show(), failures.join("\n"), run.last_words());
    }
    let text = fs::read_to_string(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    let operations = figures::operations("two partitions", run.console(Port::Normal).text(), &text)?;
    let all: Vec<Figures> = operations.iter().map(|o| o.figures.clone()).collect();
    let wanted = |f: &Figures| options.filter.as_deref().is_none_or(|text| f.operation.contains(text) || f.instance.contains(text));
    let chosen: Vec<Figures> = all.iter().filter(|f| wanted(f)).cloned().collect();
    if chosen.is_empty() {
        bail!("no operation or instance contains '{}'", options.filter.as_deref().unwrap_or_default());
    }
    print!("{}", table::show(&chosen, earlier.as_deref()));
    if options.profile {
        let symbols = profile::Symbols::read(&spmc.elf)?;
        for operation in operations.iter().filter(|o| wanted(&o.figures)) {
            print!("{}", symbols.show(operation));
        }
    }
    if let Some(path) = &options.json {
        figures::write(path, &chosen)?;
    }
    if options.write_docs {
        let path = project.root.join("docs/performance.md");
        fs::write(&path, document::text(&all)).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

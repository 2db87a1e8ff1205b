//! One boot of the benchmark's system under QEMU's `-icount` with our plugin: what the SPMC and everybody else executed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::figures::{self, Measured};
use super::plugin;
use crate::conformance::run::{self as suite, Spmc};
use crate::console::Port;
use crate::machine::{End, Limits};
use crate::progress::Progress;
use crate::project::Project;

/// What the system consists of, beside TF-A and the SPMC.
pub const SYSTEM: &str = "two partitions";

/// How long a boot may take: nothing in it waits, so it depends on the host alone.
const LIMITS: Limits = Limits { silence: Duration::from_secs(30), total: Duration::from_secs(600) };

/// Builds the system with this SPMC, boots it, and counts; with `profiled`, each instruction of its image too. What kept an
/// operation from being done is among what was measured, also the end of a machine that did not come to the end.
///
/// # Errors
/// When something cannot be built, QEMU cannot be started, the normal world is never reached, or on Ctrl-C.
pub fn measure(project: &Project, progress: &Progress, spmc: &Spmc, profiled: bool) -> Result<Measured> {
    let (mut machine, partitions) = suite::bench(project, progress, spmc)?;
    let bytes = fs::metadata(&spmc.image).with_context(|| format!("cannot read {}", spmc.image.display()))?.len();
    let counts = machine.dir.join("counts.txt");
    let object = plugin::compile(project, &machine.dir)?;
    machine.extra = ["-icount", "shift=0", "-plugin"].map(Into::into).to_vec();
    machine.extra.push(plugin::option(&object, &counts, &partitions, profiled.then_some(bytes)));
    let mut run = machine.start()?;
    let mut failures = Vec::new();
    let end = run.watch(&LIMITS, &mut |step| {
        if !step.passed {
            failures.push(format!("{}: {}", step.name, step.detail));
        }
    })?;
    if end != End::PoweredOff {
        failures.push(format!("the machine {}; {}", end.show(), run.last_words()));
    }
    let text = fs::read_to_string(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    if !text.lines().any(|line| line.starts_with("boot ")) {
        bail!("the normal world was not reached: {}\n{}", end.show(), run.last_words());
    }
    let mut measured = figures::operations(SYSTEM, run.console(Port::Normal).text(), &text)?;
    measured.failures.extend(failures);
    Ok(measured)
}

//! A boot of the benchmark's system under QEMU's `-icount` with our plugin: what the SPMC and everybody else executed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::figures::{self, Measured};
use super::plugin;
use crate::conformance::boots::BENCH;
use crate::conformance::run::{self as suite, Spmc};
use crate::console::Port;
use crate::machine::{End, Limits, Machine, Run};
use crate::progress::Progress;
use crate::project::Project;

/// What the system consists of, beside TF-A and the SPMC.
pub const SYSTEM: &str = "two partitions";

/// How long a boot may take: nothing in it waits, so it depends on the host alone.
const LIMITS: Limits = Limits { silence: Duration::from_secs(30), total: Duration::from_secs(600) };

/// The fw_cfg item by which the payload is told what to repeat.
const CHOICE: &str = "opt/conformance/bench";

/// Tells the payload of a machine what to repeat, where that is not all.
pub fn choose(machine: &mut Machine, what: String) {
    machine.fw_cfg.push((CHOICE.into(), what));
}

/// Builds the system with this SPMC, boots it, and counts; with `profiled`, each instruction of its image too. What kept an
/// operation from being done is among what was measured, also the end of a machine that did not come to the end.
///
/// # Errors
/// When something cannot be built, QEMU cannot be started, the normal world is never reached, or on Ctrl-C.
pub fn measure(project: &Project, progress: &Progress, spmc: &Spmc, profiled: bool) -> Result<Measured> {
    let (machine, partitions) = suite::bench(project, progress, spmc, &BENCH)?;
    let bytes = fs::metadata(&spmc.image).with_context(|| format!("cannot read {}", spmc.image.display()))?.len();
    count(project, machine, SYSTEM, &plugin::test_partitions(&partitions), profiled.then_some(bytes))
}

/// Boots a machine with a system that is called `system`, and counts. `partitions` are names and address ranges; `profiled` is the size
/// of the SPMC's image, if its instructions are to be counted one by one.
///
/// # Errors
/// As [`measure`].
pub fn count(project: &Project, machine: Machine, system: &str, partitions: &[(&str, (u64, u64))], profiled: Option<u64>) -> Result<Measured> {
    count_typed(project, machine, system, partitions, profiled, &LIMITS, &mut |_| Ok(()))
}

/// The same, for a machine to which `typing` says something before it does what it is to do, within `limits`.
///
/// # Errors
/// As [`measure`], and those of `typing`.
pub fn count_typed(
    project: &Project,
    mut machine: Machine,
    system: &str,
    partitions: &[(&str, (u64, u64))],
    profiled: Option<u64>,
    limits: &Limits,
    typing: &mut dyn FnMut(&mut Run) -> Result<()>,
) -> Result<Measured> {
    let counts = machine.dir.join("counts.txt");
    let object = plugin::compile(project, &machine.dir, "count")?;
    // With several cores, QEMU takes whichever translates a block for the one that executes it if it may run them one at a time.
    if machine.cpus == 1 {
        machine.extra = ["-icount", "shift=0"].map(Into::into).to_vec();
    }
    machine.extra.extend(["-plugin".into(), plugin::option(&object, &counts, partitions, profiled)]);
    let mut run = machine.start()?;
    typing(&mut run)?;
    let (end, failures) = to_end(&mut run, limits)?;
    let text = fs::read_to_string(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    if !text.lines().any(|line| line.starts_with("boot ")) {
        bail!("the normal world was not reached: {}\n{}", end.show(), run.last_words());
    }
    let mut measured = figures::operations(system, run.console(Port::Normal).text(), &text)?;
    measured.failures.extend(failures);
    Ok(measured)
}

/// Boots a machine that is to do all that it should; returns what its normal world said.
///
/// # Errors
/// When QEMU cannot be started, it does less, or on Ctrl-C.
pub fn console(machine: &Machine) -> Result<String> {
    let mut run = machine.start()?;
    let (_, failures) = to_end(&mut run, &LIMITS)?;
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(run.console(Port::Normal).text().to_owned())
}

/// Waits for a machine's end: how it ended, and what went wrong.
fn to_end(run: &mut Run, limits: &Limits) -> Result<(End, Vec<String>)> {
    let mut failures = Vec::new();
    let end = run.watch(limits, &mut |step| {
        if !step.passed {
            failures.push(format!("{}: {}", step.name, step.detail));
        }
    })?;
    if end != End::PoweredOff {
        failures.push(format!("the machine {}; {}", end.show(), run.last_words()));
    }
    Ok((end, failures))
}

//! What `cargo xtask run` promises: the chain boots to a Linux shell with OP-TEE and UEFI variables, and `poweroff` ends it. With the
//! loader's step `shell` it stops at UEFI's shell. A program types here what a person would.

use std::time::Duration;

use anyhow::{Context, Result};
use regex::Regex;

use super::Tally;
use crate::chain::{Chain, Changes, OpteeKind, StmmImage};
use crate::console::{Port, plain};
use crate::demonstration::item;
use crate::machine::{End, Limits, Machine, Run};
use crate::progress::{self, Progress};
use crate::project::Project;
use crate::system;
use crate::toolchain::Profile;

/// Name for reports, and of the system.
const NAME: &str = "shell";
/// Name of the boot to UEFI's shell.
const UEFI: &str = "uefi-shell";
/// From power-on to the shell.
const BOOT: Duration = Duration::from_secs(300);
/// For an answer of the shell.
const ANSWER: Duration = Duration::from_secs(60);

/// What is typed, what must appear, and what that shows.
type Line = (&'static str, &'static str, &'static str);

const DIALOGUE: [Line; 3] = [
    ("echo answer $((6 * 7))", r"(?m)^answer 42", "shell.prompt"),
    ("ls /dev/tee*", r"(?m)^/dev/tee0", "shell.tee"),
    ("efivar -l | grep -c 8be4df61-93ca-11d2-aa0d-00e098032b8c", r"(?m)^[1-9]\d*\r?\n", "shell.variables"),
];

/// At UEFI's shell, where OP-TEE may be ended by its clients.
const UEFI_DIALOGUE: [Line; 9] = [
    ("FS0:\\optee-list.efi", r"random +[0-9A-F]{16}, then [0-9A-F]{16}", "uefi-shell.random"),
    ("", r"ta +E6A33ED4-\S+ answers: kept by a trusted application", "uefi-shell.ta"),
    // Of the run-time driver that uses it.
    ("setvar OpteeRandom -guid d94a6e37-1c58-4f02-a61b-7e30c9852df4", "OpteeRandom - 0020 Bytes", "uefi-shell.driver"),
    ("FS0:\\optee-list.efi overreach", "ends +a call in which OP-TEE is ended: Aborted", "uefi-shell.ends"),
    ("", "ended +the next call: Aborted", "uefi-shell.ended"),
    // The SPMC does not list a partition that has ended.
    ("FS0:\\optee-list.efi", "no partition is OP-TEE: the secure console says which came up", "uefi-shell.says-so"),
    ("setvar OpteeRandom -guid d94a6e37-1c58-4f02-a61b-7e30c9852df4", "Unable to get - .*OpteeRandom", "uefi-shell.driver-ended"),
    ("setvar Afterwards -guid 6f1e5c0a-3b7d-4c52-9a84-2d1f0b97c6e5 -nv -bs -rt =L\"kept without OP-TEE\"", "> ", "uefi-shell.write"),
    ("setvar Afterwards -guid 6f1e5c0a-3b7d-4c52-9a84-2d1f0b97c6e5", r"Afterwards - 0026 Bytes\s+6B 00 65 00 70 00 74 00", "uefi-shell.read"),
];

/// The boots that `filter` selects, each with its dialogue and powered off.
///
/// # Errors
/// When a part cannot be built, QEMU cannot be started, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress, filter: Option<&str>) -> Result<Tally> {
    let selected = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let mut tally = Tally::default();
    if selected(NAME) {
        println!("Boot '{NAME}': an interactive boot, with somebody typing");
        let banner = Regex::new(r"leave +poweroff").context("a constant pattern")?;
        tally += boot(project, progress, &Dialogue { name: NAME, optee: OpteeKind::Plain, steps: "", greeting: &banner, lines: &DIALOGUE, enter: "\n", off: "poweroff" })?;
    }
    if selected(UEFI) {
        println!("Boot '{UEFI}': somebody typing at UEFI's shell, where OP-TEE is used and ended");
        let prompt = Regex::new("Shell> ").context("a constant pattern")?;
        tally += boot(project, progress, &Dialogue { name: UEFI, optee: OpteeKind::Overreaching, steps: "shell", greeting: &prompt, lines: &UEFI_DIALOGUE, enter: "\r", off: "reset -s" })?;
    }
    Ok(tally)
}

/// A boot with somebody typing.
struct Dialogue<'a> {
    name: &'a str,
    optee: OpteeKind,
    /// Steps of the loader.
    steps: &'a str,
    /// What appears when something may be typed.
    greeting: &'a Regex,
    lines: &'a [Line],
    /// The key that ends a line.
    enter: &'a str,
    /// What is typed in the end.
    off: &'a str,
}

fn boot(project: &Project, progress: &Progress, dialogue: &Dialogue<'_>) -> Result<Tally> {
    let chain = Chain::build(project, progress, Profile::Release, Changes { optee: dialogue.optee, ..Changes::default() })?;
    let assembled = chain.assemble(project, NAME, StmmImage::Plain)?;
    system::forget_variables(&assembled)?;
    let fw_cfg = if dialogue.steps.is_empty() { Vec::new() } else { vec![item("uefi", dialogue.steps)] };
    let mut run = Machine { resets: false, fw_cfg, ..chain.machine(&assembled)? }.start()?;
    let mut tally = Tally::default();
    let mut report = |name: &str, outcome: Result<String>| match outcome {
        Ok(detail) => {
            tally.passed += 1;
            println!("  PASS {name} {detail}");
            true
        }
        Err(error) => {
            tally.failed += 1;
            println!("  FAIL {name} {error:#}");
            false
        }
    };
    let booted = run.expect(Port::Normal, dialogue.greeting, BOOT).map(|_| format!("the shell's greeting after {}", progress::seconds(run.elapsed())));
    let mut alive = report(&format!("{}.boot", dialogue.name), booted);
    for (typed, answer, name) in dialogue.lines {
        alive = alive && report(name, ask(&mut run, typed, dialogue.enter, answer));
    }
    if alive {
        report(&format!("{}.poweroff", dialogue.name), power_off(&mut run, dialogue));
    }
    crate::interrupt::check()?;
    Ok(tally)
}

/// Types a command, if there is one, and waits for its answer.
fn ask(run: &mut Run, typed: &str, enter: &str, answer: &str) -> Result<String> {
    let what = if typed.is_empty() { "it also".to_owned() } else { format!("`{typed}`") };
    if !typed.is_empty() {
        run.send(Port::Normal, &format!("{typed}{enter}"))?;
    }
    let found = run.expect(Port::Normal, &Regex::new(answer)?, ANSWER)?;
    Ok(format!("{what} says {}", plain(found[0].trim())))
}

fn power_off(run: &mut Run, dialogue: &Dialogue<'_>) -> Result<String> {
    run.send(Port::Normal, &format!("{}{}", dialogue.off, dialogue.enter))?;
    let end = run.watch(&Limits { silence: ANSWER, total: run.elapsed() + ANSWER }, &mut |_| ())?;
    anyhow::ensure!(end == End::PoweredOff, "{}\n{}", end.show(), run.last_words());
    Ok("the machine is off and QEMU has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_valid() {
        for (_, answer, name) in DIALOGUE.iter().chain(&UEFI_DIALOGUE) {
            assert!(Regex::new(answer).is_ok(), "{name}");
        }
    }
}

//! What `cargo xtask run` promises: the chain boots to a Linux shell with OP-TEE and UEFI variables, and `poweroff` ends it.
//! A program types here what a person would.

use std::time::Duration;

use anyhow::{Context, Result};
use regex::Regex;

use super::Tally;
use crate::chain::{Chain, StmmImage};
use crate::console::Port;
use crate::machine::{End, Limits, Machine, Run};
use crate::progress;
use crate::project::Project;
use crate::system;

/// Name for reports and filters, and of the system.
pub const NAME: &str = "shell";
/// From power-on to the shell.
const BOOT: Duration = Duration::from_secs(300);
/// For an answer of the shell.
const ANSWER: Duration = Duration::from_secs(60);

/// What is typed, what must appear, and what that shows.
const DIALOGUE: [(&str, &str, &str); 3] = [
    ("echo answer $((6 * 7))", r"(?m)^answer 42", "shell.prompt"),
    ("ls /dev/tee*", r"(?m)^/dev/tee0", "shell.tee"),
    ("efivar -l | grep -c 8be4df61-93ca-11d2-aa0d-00e098032b8c", r"(?m)^[1-9]\d*\r?\n", "shell.variables"),
];

/// Boots, has the dialogue, powers off.
///
/// # Errors
/// When QEMU cannot be started, or on Ctrl-C.
pub fn run(project: &Project, chain: &Chain) -> Result<Tally> {
    println!("Boot '{NAME}': an interactive boot, with somebody typing");
    let assembled = chain.assemble(project, NAME, StmmImage::Plain)?;
    system::forget_variables(&assembled)?;
    let mut run = Machine { resets: false, ..chain.machine(&assembled)? }.start()?;
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
    let banner = Regex::new(r"leave +poweroff").context("a constant pattern")?;
    let booted = run.expect(Port::Normal, &banner, BOOT).map(|_| format!("the shell's greeting after {}", progress::seconds(run.elapsed())));
    let mut alive = report("shell.boot", booted);
    for (typed, answer, name) in DIALOGUE {
        alive = alive && report(name, ask(&mut run, typed, answer));
    }
    if alive {
        report("shell.poweroff", power_off(&mut run));
    }
    crate::interrupt::check()?;
    Ok(tally)
}

/// Types a command and waits for its answer.
fn ask(run: &mut Run, typed: &str, answer: &str) -> Result<String> {
    run.send(Port::Normal, &format!("{typed}\n"))?;
    let found = run.expect(Port::Normal, &Regex::new(answer)?, ANSWER)?;
    Ok(format!("`{typed}` says {}", found[0].trim()))
}

fn power_off(run: &mut Run) -> Result<String> {
    run.send(Port::Normal, "poweroff\n")?;
    let end = run.watch(&Limits { silence: ANSWER, total: run.elapsed() + ANSWER }, &mut |_| ())?;
    anyhow::ensure!(end == End::PoweredOff, "{}\n{}", end.show(), run.last_words());
    Ok("the machine is off and QEMU has ended".to_owned())
}

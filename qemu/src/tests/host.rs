//! Host tests: `cargo test` of the crates that build for the host, counted from its closing lines, and the core once more
//! with what cores share replaced, for the tests that interleave cores.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Tally;
use crate::exec;
use crate::interrupt::{self, Group};
use crate::progress::Progress;
use crate::project::Project;

/// What cargo is told: the features that replace atomics and locks change all of the core, so that they get a build each, in
/// which only the tests that are about interleavings are run.
const PASSES: [(&str, &[&str], Option<&str>); 3] = [
    ("host tests", &[], None),
    ("interleavings of calls", &["-p", "bulkhead-core", "--features", "shuttle"], Some("interleavings")),
    ("memory orderings", &["-p", "bulkhead-core", "--features", "loom"], Some("interleavings")),
];

/// Runs them; prints one line for each test binary, and everything that cargo says about those that fail.
///
/// # Errors
/// When cargo cannot start or does not get as far as running tests.
pub fn run(project: &Project, progress: &Progress, filter: Option<&str>) -> Result<Tally> {
    println!("Host tests");
    let mut tally = Tally::default();
    let mut binaries = 0;
    for (name, arguments, only) in PASSES {
        let (results, counted) = pass(project, progress, name, arguments, filter.or(only))?;
        binaries += results;
        tally += counted;
    }
    println!("  {binaries} test binaries: {} passed, {} failed", tally.passed, tally.failed);
    Ok(tally)
}

/// One run of cargo: how many test binaries reported, and what.
fn pass(project: &Project, progress: &Progress, name: &str, arguments: &[&str], filter: Option<&str>) -> Result<(usize, Tally)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&project.root).args(["test", "--quiet", "--no-fail-fast"]).args(arguments).args(filter);
    let task = progress.task_bar(name, "compiling and running");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::show(&command)))?;
    let group = Group::of(&child);
    let mut tally = Tally::default();
    let mut results = 0;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        if let Some(result) = closing_line(&line) {
            results += 1;
            tally += result;
        } else if worth_showing(&line) {
            progress.line(&line);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    drop((group, task));
    interrupt::check()?;
    if results == 0 || (!status.success() && tally.failed == 0) {
        bail!("`{}` did not get as far as running all tests (its messages are above)", exec::show(&command));
    }
    Ok((results, tally))
}

/// The counts of `test result: ok. 3 passed; 0 failed; ...`.
fn closing_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some(Tally { passed: count(" passed")?, failed: count(" failed")? })
}

/// Not the lines that only say that all is well: blank ones, `running 3 tests` and rows of dots.
fn worth_showing(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with("running ") || line.starts_with('.') || line.starts_with("Doc-tests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_from_cargos_closing_lines() {
        let line = "test result: FAILED. 39 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.21s";
        assert_eq!(closing_line(line), Some(Tally { passed: 39, failed: 2 }));
        assert_eq!(closing_line("running 41 tests"), None);
        assert_eq!(closing_line("test result: odd"), None);
    }

    #[test]
    fn failures_are_shown_and_dots_are_not() {
        assert!(worth_showing("thread 'x' panicked at src/lib.rs:1:1:"));
        assert!(worth_showing("closing_line --- FAILED"));
        assert!(!worth_showing("running 3 tests"));
        assert!(!worth_showing("........ 88/90"));
        assert!(!worth_showing(""));
    }
}

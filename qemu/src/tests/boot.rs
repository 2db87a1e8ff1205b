//! One boot of a machine as a test: its steps are printed and counted as they come. The boot itself is one more test, which
//! holds if the machine powered off, no step that was expected is missing, and the world that sums up its steps counted
//! the same as we did.

use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::Tally;
use crate::console::Port;
use crate::machine::{End, Limits, Machine, Run};
use crate::progress;

/// What a boot must show.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Name in reports.
    pub name: &'a str,
    /// Steps without which the boot is not complete.
    pub steps: &'a [&'a str],
    /// Beginnings of the names of steps that are not in the sum which the normal world prints in the end; `None` if it
    /// prints no sum.
    pub outside_sum: Option<&'a [&'a str]>,
    /// Patterns that must appear on the secure console.
    pub secure: &'a [&'a str],
    /// How long it may take.
    pub limits: Limits,
}

/// Boots `machine` and prints what it shows. The tally includes the boot itself.
///
/// # Errors
/// When QEMU cannot be started, or on Ctrl-C.
pub fn boot(machine: &Machine, expected: &Expected<'_>) -> Result<Tally> {
    to_the_end(machine, machine.start()?, expected)
}

/// Prints what a machine that has been started shows from now on. The tally includes the boot itself.
///
/// # Errors
/// On Ctrl-C.
pub fn to_the_end(machine: &Machine, mut run: Run, expected: &Expected<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let end = run.watch(&expected.limits, &mut |step| {
        println!("  {}", step.show());
        if step.passed { tally.passed += 1 } else { tally.failed += 1 }
    })?;
    keep_consoles(machine, expected.name);
    let problems = problems(expected, &end, &run);
    if problems.is_empty() {
        tally.passed += 1;
        println!("  PASS boot.{} powered off after {}", expected.name, progress::seconds(run.elapsed()));
    } else {
        tally.failed += 1;
        println!("  FAIL boot.{} {}\n{}", expected.name, problems.join("; "), run.last_words());
    }
    Ok(tally)
}

/// Copies the consoles of a boot aside: the next one of the same system writes new ones.
fn keep_consoles(machine: &Machine, name: &str) {
    for log in [machine.console_log(), machine.secure_log()] {
        if let Some(file) = log.file_name().and_then(|n| n.to_str()) {
            // A log that cannot be kept does not change a verdict.
            let _ = std::fs::copy(&log, log.with_file_name(format!("{name}-{file}")));
        }
    }
}

/// What is wrong with a boot that has ended, besides failed steps.
fn problems(expected: &Expected<'_>, end: &End, run: &Run) -> Vec<String> {
    let names: Vec<&str> = run.steps().iter().map(|s| s.name.as_str()).collect();
    let mut problems = Vec::new();
    if *end != End::PoweredOff {
        problems.push(end.show());
    }
    let missing = missing(expected.steps, &names);
    if !missing.is_empty() {
        problems.push(format!("steps that did not come: {}", missing.join(" ")));
    }
    problems.extend(unsaid(expected.secure, run.console(Port::Secure).text()));
    if let Some(outside) = expected.outside_sum {
        let seen = names.iter().filter(|n| !outside.iter().any(|o| n.starts_with(o))).count();
        problems.extend(wrong_sum(run.console(Port::Normal).text(), seen));
    }
    problems
}

fn missing<'a>(expected: &[&'a str], seen: &[&str]) -> Vec<&'a str> {
    expected.iter().copied().filter(|e| !seen.contains(e)).collect()
}

/// Patterns that `console` does not have.
pub(super) fn unsaid(patterns: &[&str], console: &str) -> Vec<String> {
    let has = |pattern: &str| Regex::new(&format!("(?m){pattern}")).is_ok_and(|r| r.is_match(console));
    patterns.iter().filter(|p| !has(p)).map(|p| format!("the secure console does not say '{p}'")).collect()
}

/// Compares what the normal world counted (`BATCH 3 passed, 1 failed` or `DONE ...`, the last such line) with what we saw.
fn wrong_sum(console: &str, seen: usize) -> Option<String> {
    static SUM: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)^(?:BATCH|DONE) (\d+) passed, (\d+) failed").expect("a constant pattern"));
    let Some(sum) = SUM.captures_iter(console).last() else { return Some("the normal world did not get to the sum of its steps".into()) };
    let count = |group: usize| sum[group].parse::<usize>().unwrap_or(usize::MAX / 2);
    let counted = count(1) + count(2);
    (counted != seen).then(|| format!("the normal world counted {counted} steps, {seen} were seen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_worlds_own_sum_must_agree() {
        let console = "STEP a PASS\r\nBATCH 3 passed, 1 failed\r\n";
        assert_eq!(wrong_sum(console, 4), None);
        assert_eq!(wrong_sum(console, 3).unwrap(), "the normal world counted 4 steps, 3 were seen");
        assert_eq!(wrong_sum("DONE 2 passed, 0 failed", 2), None);
        assert!(wrong_sum("no BATCH 3 passed, 1 failed", 4).unwrap().contains("did not get to"));
    }

    #[test]
    fn what_the_secure_console_does_not_say_is_a_problem() {
        assert!(unsaid(&["^one .*1$", "two"], "zero\none is 1\ntwo").is_empty());
        assert_eq!(unsaid(&["three", "("], "two"), ["the secure console does not say 'three'", "the secure console does not say '('"]);
    }

    #[test]
    fn steps_that_did_not_come_are_named() {
        assert_eq!(missing(&["a", "b"], &["b", "c"]), ["a"]);
    }
}

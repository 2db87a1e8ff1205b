//! The conformance suite as a part of `cargo xtask test`: all its checks, and what Bulkhead's own console must say about them, which
//! the suite itself knows nothing of.

use anyhow::Result;

use super::Tally;
use super::boot::unsaid;
use crate::conformance::boots::{BOOTS, Boot, HARNESS, OWN_BOOTS};
use crate::conformance::record::{Record, Verdict};
use crate::conformance::run::{Outcome, Spmc, Suite};
use crate::progress::{self, Progress};
use crate::project::Project;

/// Patterns that must appear on the secure console, by boot.
const SAYS: &[(&str, &[&str])] = &[
    ("calls", &["all partitions are up"]),
    ("one-core", &["all partitions are up"]),
    ("template", &["adder: the SPMC speaks 1.2", "adder: 0x0000 asked for a sum: 0xa"]),
    ("versions-1.0", &["partition 0x8001 up: FF-A 1.0", "partition 0x8004 up: FF-A 1.1"]),
    ("versions-1.1", &["partition 0x8002 up: FF-A 1.1", "partition 0x8003 up: FF-A 1.0"]),
    ("bad-init-1", &["victim-el1.*it did not finish within its time limit", "victim-el0.*read.*0xe100000", "2 of 4 partitions are up"]),
    ("bad-init-2", &["victim-el1.*its initialisation reported FFA_ERROR -3", "victim-el0.*its initialisation ended with call 0xc4000070"]),
];

/// The boots that `filter` selects, by name.
///
/// # Errors
/// When something cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress, filter: Option<&str>) -> Result<Tally> {
    let mut tally = Tally::default();
    let boots: Vec<Boot> = BOOTS.iter().chain(OWN_BOOTS).filter(|b| filter.is_none_or(|f| b.name.contains(f))).copied().collect();
    if boots.is_empty() {
        return Ok(tally);
    }
    let suite = Suite::build(project, progress, &boots)?;
    let spmc = Spmc::own(project, progress, None)?;
    for plan in suite.select(&boots, None)? {
        println!("Boot '{}': {}", plan.boot.name, plan.boot.shows);
        if plan.boot.name == HARNESS.name {
            let outcome = suite.run(project, &spmc, &plan, &mut |_| ())?;
            tally += judge_harness(&outcome.records);
            continue;
        }
        let outcome = suite.run(project, &spmc, &plan, &mut |record| {
            println!("  {}", record.show());
            match record.result {
                Verdict::Pass => tally.passed += 1,
                Verdict::Fail => tally.failed += 1,
                Verdict::Skip => {}
            }
        })?;
        tally += judge(plan.boot.name, &outcome);
    }
    Ok(tally)
}

/// What the secure console says: one test for each boot.
fn judge(boot: &str, outcome: &Outcome) -> Tally {
    let mut problems: Vec<String> = Vec::new();
    for (_, patterns) in SAYS.iter().filter(|(name, _)| *name == boot) {
        problems.extend(unsaid(patterns, &outcome.secure));
    }
    let ended: Vec<&str> = outcome.normal.lines().filter_map(|line| line.trim_end().strip_prefix("ENDED ")).collect();
    problems.extend(missing_reports(&ended, &outcome.secure).iter().map(|what| format!("the secure console does not report '{what}'")));
    if problems.is_empty() {
        let count = ended.len();
        println!("  PASS boot.{boot} {} in {} starts, {count} reports on the secure console", progress::seconds(outcome.took), outcome.runs);
        return Tally { passed: 1, failed: 0 };
    }
    println!("  FAIL boot.{boot} {}", problems.join("; "));
    Tally { passed: 0, failed: 1 }
}

/// What must have become of the checks that break the machine: verdict, and a part of what the record says.
const BREAKS: &[(&str, Verdict, &str)] = &[
    ("hang", Verdict::Fail, "without a word"),
    ("goes_on_after_a_hang", Verdict::Pass, "here"),
    ("reset", Verdict::Fail, "powered off"),
    ("goes_on_after_a_reset", Verdict::Pass, "here"),
    ("start_again", Verdict::Fail, "started again by itself"),
    ("panic", Verdict::Fail, "asked to"),
    ("need_a_fresh_machine", Verdict::Fail, "just started"),
    ("leave_out", Verdict::Skip, "asked to"),
    ("goes_on_after_all", Verdict::Pass, "here"),
];

/// One test for each.
fn judge_harness(records: &[Record]) -> Tally {
    let mut tally = Tally::default();
    for (n, (name, verdict, part)) in BREAKS.iter().enumerate() {
        let record = records.get(n).filter(|record| record.name == *name && record.result == *verdict && record.show().contains(part));
        match record {
            Some(record) => {
                tally.passed += 1;
                println!("  PASS harness.{name} is recorded as: {}", record.show());
            }
            None => {
                tally.failed += 1;
                println!("  FAIL harness.{name} is recorded as: {}", records.get(n).map_or_else(|| "nothing".to_owned(), Record::show));
            }
        }
    }
    tally
}

/// The payload says which partition it saw end, how and where (`<partition> | <how> | <address>`). Bulkhead reports each: those of
/// which it has no line; each line serves once.
fn missing_reports<'a>(ended: &[&'a str], secure: &str) -> Vec<&'a str> {
    let mut lines: Vec<&str> = secure.lines().collect();
    let reported = |what: &&str| {
        let has = |line: &&str| what.split(" | ").all(|piece| line.contains(bulkheads_word(piece)));
        lines.iter().position(has).map(|at| lines.remove(at)).is_some()
    };
    let mut reported = reported;
    ended.iter().copied().filter(|what| !reported(what)).collect()
}

/// How Bulkhead's reports call what ended a partition.
fn bulkheads_word(piece: &str) -> &str {
    match piece {
        "execute" => "instruction fetch",
        "undefined" => "undefined instruction",
        "abort" => "FFA_ABORT",
        "time" => "time limit",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_needs_a_report_of_its_own() {
        let ended = ["one | read | 0x10", "one | read | 0x10"];
        assert_eq!(missing_reports(&ended, "partition one: read at 0x10\npartition one: read at 0x10\n"), Vec::<&str>::new());
        assert_eq!(missing_reports(&ended, "partition one: read at 0x10\n"), ["one | read | 0x10"]);
        assert_eq!(missing_reports(&ended, "partition two: read at 0x10\n").len(), 2);
        assert!(missing_reports(&["one | execute | 0x10"], "partition one: instruction fetch at 0x10").is_empty());
    }

    #[test]
    fn what_the_secure_console_does_not_say_is_a_problem() {
        assert!(unsaid(&["^one .*1$", "two"], "zero\none is 1\ntwo").is_empty());
        assert_eq!(unsaid(&["three", "("], "two").len(), 2);
    }

    #[test]
    fn what_is_said_belongs_to_boots_that_there_are() {
        for (name, _) in SAYS {
            assert!(BOOTS.iter().chain(OWN_BOOTS).any(|boot| boot.name == *name), "{name}");
        }
    }
}

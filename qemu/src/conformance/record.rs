//! Follows the payload's console through one run of the machine and keeps a record of each check (the protocol is described in
//! tests/conformance/README.md). A check that was begun and not ended when the run is over is the one that broke the machine.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::catalogue::Check;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// The SPMC says that it does not have what the check needs.
    Skip,
}

/// The result of a check: what `--json` writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The rule.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Which side made the call under test.
    pub instance: String,
    /// The version that it spoke.
    pub version: String,
    /// The section of the specification.
    pub section: String,
    /// The verdict.
    pub result: Verdict,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Why it was skipped, or what became of the machine.
    pub reason: String,
    /// How long it took, as its lines came.
    #[serde(skip)]
    pub took: Duration,
}

/// How the reason begins of a check that was not even tried.
pub const NOT_STARTED: &str = "the system did not start";

impl Record {
    fn new(check: &Check, result: Verdict, found: &str, reason: &str) -> Self {
        Self {
            name: check.name.clone(),
            group: check.group.clone(),
            instance: check.instance.clone(),
            version: check.version.clone(),
            section: check.section.clone(),
            result,
            expected: check.expected.clone(),
            found: found.to_owned(),
            reason: reason.to_owned(),
            took: Duration::ZERO,
        }
    }

    /// A check that failed because of what became of the machine.
    #[must_use]
    pub fn broken(check: &Check, reason: &str) -> Self {
        Self::new(check, Verdict::Fail, "", reason)
    }

    /// One line about it.
    #[must_use]
    pub fn show(&self) -> String {
        let verdict = match self.result {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "SKIP",
        };
        let mut text = format!("{verdict} {}.{} {} {}", self.group, self.name, self.instance, self.version);
        match self.result {
            Verdict::Pass => text += &format!(" {}", self.found),
            Verdict::Skip => text += &format!(" {}", self.reason),
            Verdict::Fail => {
                text += &format!(" ({}) expected: {}", self.section, self.expected);
                for (what, value) in [("found", &self.found), ("reason", &self.reason)] {
                    if !value.is_empty() {
                        text += &format!("; {what}: {value}");
                    }
                }
            }
        }
        text.trim_end().to_owned()
    }
}

/// What to do after a console line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on reading.
    Read,
    /// This run tells no more: end the machine.
    Stop,
}

/// One run of the machine with a plan of checks.
pub struct Follower<'a> {
    plan: &'a [Check],
    /// Checks of the plan that are settled.
    settled: usize,
    begun: Option<Instant>,
    expected: Option<String>,
    ready: bool,
    done: bool,
    again: bool,
    crash: Option<String>,
}

impl<'a> Follower<'a> {
    /// A run that is to do all of `plan`.
    #[must_use]
    pub fn new(plan: &'a [Check]) -> Self {
        Self { plan, settled: 0, begun: None, expected: None, ready: false, done: false, again: false, crash: None }
    }

    /// Takes a line of the normal world's console; hands on the result that it completes.
    pub fn line(&mut self, line: &str, on_record: &mut dyn FnMut(Record)) -> Next {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "READY" if self.ready => return self.crashed("the machine started again by itself"),
            "READY" => self.ready = true,
            "BEGIN" => return self.begin(rest),
            "EXPECTED" => self.expected = Some(rest.to_owned()),
            "END" if self.begun.is_some() => self.end(rest, on_record),
            "CRASH" => return self.crashed(&format!("the payload crashed: {rest}")),
            "AGAIN" => {
                self.again = true;
                return Next::Stop;
            }
            "DONE" => {
                self.done = true;
                return Next::Stop;
            }
            _ => {}
        }
        Next::Read
    }

    fn crashed(&mut self, how: &str) -> Next {
        self.crash = Some(how.to_owned());
        Next::Stop
    }

    fn begin(&mut self, rest: &str) -> Next {
        let expected = self.plan.get(self.settled).map(|c| format!("{} {}.{} {} {}", c.number, c.group, c.name, c.instance, c.version));
        if self.begun.is_some() || expected.as_deref() != Some(rest) {
            return self.crashed(&format!("the payload began '{rest}', not '{}'", expected.unwrap_or_default()));
        }
        self.begun = Some(Instant::now());
        Next::Read
    }

    fn end(&mut self, rest: &str, on_record: &mut dyn FnMut(Record)) {
        let (verdict, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let check = &self.plan[self.settled];
        let mut record = match verdict {
            "pass" => Record::new(check, Verdict::Pass, text, ""),
            "skip" => Record::new(check, Verdict::Skip, "", text),
            _ => Record::new(check, Verdict::Fail, text, ""),
        };
        if let Some(expected) = self.expected.take() {
            record.expected = expected;
        }
        record.took = self.begun.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        self.settled += 1;
        on_record(record);
    }

    /// The run is over, for the reason `how`: settles what it broke, and returns how many checks of the plan are settled.
    pub fn close(mut self, how: &str, on_record: &mut dyn FnMut(Record)) -> usize {
        let how = self.crash.take().unwrap_or_else(|| how.to_owned());
        if self.done || self.settled >= self.plan.len() {
            // The payload said that all is done: what it left out, it does not know.
            for check in &self.plan[self.settled..] {
                on_record(Record::broken(check, "the payload left it out"));
            }
            return self.plan.len();
        }
        if self.again && self.settled > 0 {
            return self.settled;
        }
        if !self.ready {
            // Nothing of this boot can be tried at all.
            for check in &self.plan[self.settled..] {
                on_record(Record::broken(check, &format!("{NOT_STARTED}: {how}")));
            }
            return self.plan.len();
        }
        let how = if self.again { "it asks for a machine that has just started, and this one has".to_owned() } else { how };
        let how = if self.begun.is_some() || self.again { how } else { format!("before it began: {how}") };
        on_record(Record::broken(&self.plan[self.settled], &how));
        self.settled + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Vec<Check> {
        ["one", "two", "three"]
            .iter()
            .enumerate()
            .map(|(number, name)| Check {
                number,
                group: "g".into(),
                name: (*name).into(),
                instance: "NS".into(),
                version: "1.2".into(),
                section: "13.2".into(),
                expected: "DENIED".into(),
            })
            .collect()
    }

    /// Runs the machine's console texts one after another, as `run` does: one line for each record.
    fn follow(runs: &[(&str, &str)]) -> Vec<String> {
        let plan = plan();
        let mut shown = Vec::new();
        let mut at = 0;
        for (n, (console, how)) in runs.iter().enumerate() {
            assert!(at < plan.len(), "run {n} has nothing to do");
            let mut follower = Follower::new(&plan[at..]);
            let mut keep = |record: Record| shown.push(record.show());
            for line in console.lines() {
                if follower.line(line, &mut keep) == Next::Stop {
                    break;
                }
            }
            at += follower.close(how, &mut keep);
        }
        assert_eq!(at, plan.len(), "{shown:?}");
        shown
    }

    const ONE: &str = "NOTICE: BL31\nREADY\r\nBEGIN 0 g.one NS 1.2\r\nnoise\nEND pass fine\r\n";

    #[test]
    fn results_come_with_what_was_found() {
        let console = format!(
            "{ONE}BEGIN 1 g.two NS 1.2\nEXPECTED Busy\nEND fail Denied for case 3\nBEGIN 2 g.three NS 1.2\nEND skip it has none\nDONE\n"
        );
        assert_eq!(
            follow(&[(&console, "powered off")]),
            ["PASS g.one NS 1.2 fine", "FAIL g.two NS 1.2 (13.2) expected: Busy; found: Denied for case 3", "SKIP g.three NS 1.2 it has none"]
        );
    }

    #[test]
    fn a_hang_is_the_fault_of_the_check_that_was_begun_and_the_rest_goes_on() {
        let hang = format!("{ONE}BEGIN 1 g.two NS 1.2\n");
        let shown = follow(&[(&hang, "ended after 60 s without a word"), ("READY\nBEGIN 2 g.three NS 1.2\nEND pass\nDONE", "powered off")]);
        assert_eq!(shown[1], "FAIL g.two NS 1.2 (13.2) expected: DENIED; reason: ended after 60 s without a word");
        assert_eq!(shown[2], "PASS g.three NS 1.2");
    }

    #[test]
    fn a_silent_reboot_and_a_crash_are_found_out() {
        let reboot = format!("{ONE}BEGIN 1 g.two NS 1.2\nNOTICE: BL31\nREADY\nBEGIN 0 g.one NS 1.2\n");
        let shown = follow(&[(&reboot, "-"), ("READY\nBEGIN 2 g.three NS 1.2\nCRASH panicked\n", "powered off")]);
        assert!(shown[1].contains("g.two") && shown[1].ends_with("reason: the machine started again by itself"), "{shown:?}");
        assert!(shown[2].contains("g.three") && shown[2].ends_with("reason: the payload crashed: panicked"), "{shown:?}");
    }

    #[test]
    fn a_power_off_between_checks_is_blamed_on_the_one_that_did_not_begin() {
        let shown = follow(&[(ONE, "powered off"), ("READY\nBEGIN 2 g.three NS 1.2\nEND pass\nDONE", "powered off")]);
        assert!(shown[1].ends_with("reason: before it began: powered off"), "{shown:?}");
    }

    #[test]
    fn a_system_that_does_not_start_fails_all_its_checks_at_once() {
        let shown = follow(&[("NOTICE: BL31\n", "QEMU failed")]);
        assert_eq!(shown.len(), 3);
        assert!(shown.iter().all(|line| line.ends_with("reason: the system did not start: QEMU failed")), "{shown:?}");
    }

    #[test]
    fn a_check_that_needs_a_fresh_machine_gets_it_once() {
        let again = format!("{ONE}BEGIN 1 g.two NS 1.2\nAGAIN\n");
        let shown = follow(&[(&again, "powered off"), ("READY\nBEGIN 1 g.two NS 1.2\nAGAIN", "-"), ("READY\nBEGIN 2 g.three NS 1.2\nEND pass\nDONE", "-")]);
        assert!(shown[1].contains("g.two") && shown[1].contains("just started"), "{shown:?}");
    }

    #[test]
    fn a_payload_that_does_something_else_than_planned_is_not_believed() {
        let shown = follow(&[("READY\nBEGIN 1 g.two NS 1.2\n", "-"), ("READY\nBEGIN 1 g.two NS 1.2\nEND pass\nDONE\n", "-")]);
        assert!(shown[0].contains("g.one") && shown[0].contains("began '1 g.two NS 1.2', not '0 g.one NS 1.2'"), "{shown:?}");
        assert!(shown[2].contains("g.three") && shown[2].contains("left it out"), "{shown:?}");
    }
}

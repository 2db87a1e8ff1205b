//! Results for people and for programs: a summary by group, JSON, and JUnit's XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::record::{Record, Verdict};

const INSTANCES: [&str; 3] = ["NS", "S-EL1", "S-EL0"];

/// Passed, failed and skipped checks.
#[derive(Clone, Copy, Default)]
struct Counts([usize; 3]);

impl Counts {
    fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    fn show(self) -> String {
        let [pass, fail, skip] = self.0;
        if pass + fail + skip == 0 { "-".into() } else { format!("{pass}/{fail}/{skip}") }
    }
}

/// A table of passed/failed/skipped checks by group and instance, the failed checks once more, and the sum.
#[must_use]
pub fn summary(records: &[Record]) -> String {
    let mut groups: Vec<&str> = Vec::new();
    let mut counts: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    let mut all = Counts::default();
    for record in records {
        if !groups.contains(&record.group.as_str()) {
            groups.push(&record.group);
        }
        counts.entry((&record.group, &record.instance)).or_default().add(record.result);
        all.add(record.result);
    }
    let mut text = format!("{:<18} {:>10} {:>10} {:>10}   pass/fail/skip\n", "group", INSTANCES[0], INSTANCES[1], INSTANCES[2]);
    for group in groups {
        let of = |instance: &str| counts.get(&(group, instance)).copied().unwrap_or_default().show();
        let _ = writeln!(text, "{group:<18} {:>10} {:>10} {:>10}", of(INSTANCES[0]), of(INSTANCES[1]), of(INSTANCES[2]));
    }
    for record in records.iter().filter(|record| record.result == Verdict::Fail) {
        let _ = writeln!(text, "{}", record.show());
    }
    let [pass, fail, skip] = all.0;
    let _ = writeln!(text, "{pass} passed, {fail} failed, {skip} skipped");
    text
}

/// Writes an array with one object for each check.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, records: &[Record]) -> Result<()> {
    let text = serde_json::to_string_pretty(records).context("records are text")?;
    fs::write(path, text + "\n").with_context(|| format!("--json: cannot write {}", path.display()))
}

/// Writes JUnit's XML: a suite for each group, a case for each check.
///
/// # Errors
/// When the file cannot be written.
pub fn write_junit(path: &Path, records: &[Record]) -> Result<()> {
    fs::write(path, junit(records)).with_context(|| format!("--junit: cannot write {}", path.display()))
}

fn junit(records: &[Record]) -> String {
    let count = |of: &[&Record], verdict| of.iter().filter(|record| record.result == verdict).count();
    let attributes = |of: &[&Record]| {
        format!("tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\"", of.len(), count(of, Verdict::Fail), count(of, Verdict::Skip))
    };
    let all: Vec<&Record> = records.iter().collect();
    let mut groups: Vec<(&str, Vec<&Record>)> = Vec::new();
    for record in records {
        match groups.iter_mut().find(|(group, _)| *group == record.group) {
            Some((_, members)) => members.push(record),
            None => groups.push((&record.group, vec![record])),
        }
    }
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"FF-A conformance\" {}>\n", attributes(&all));
    for (group, members) in groups {
        let _ = writeln!(text, "  <testsuite name=\"{}\" {}>", escape(group), attributes(&members));
        for record in members {
            let name = escape(&format!("{} {} {}", record.name, record.instance, record.version));
            let case = format!("<testcase classname=\"{}\" name=\"{name}\" time=\"{:.3}\"", escape(group), record.took.as_secs_f64());
            let details = escape(&format!("section {}; expected: {}; found: {}; {}", record.section, record.expected, record.found, record.reason));
            let _ = match record.result {
                Verdict::Pass => writeln!(text, "    {case}/>"),
                Verdict::Fail => writeln!(text, "    {case}><failure message=\"{details}\"/></testcase>"),
                Verdict::Skip => writeln!(text, "    {case}><skipped message=\"{}\"/></testcase>", escape(&record.reason)),
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// Text for an XML attribute. Control characters have no place in XML.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(group: &str, instance: &str, result: Verdict) -> Record {
        Record {
            name: "a<b".into(),
            group: group.into(),
            instance: instance.into(),
            version: "1.2".into(),
            section: "13.2".into(),
            result,
            expected: "\"DENIED\"".into(),
            found: "BUSY & more".into(),
            reason: String::new(),
            took: std::time::Duration::from_millis(1500),
        }
    }

    fn three() -> Vec<Record> {
        vec![record("g", "NS", Verdict::Pass), record("g", "S-EL0", Verdict::Fail), record("h", "NS", Verdict::Skip)]
    }

    #[test]
    fn the_summary_counts_by_group_and_instance() {
        let text = summary(&three());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["g", "1/0/0", "-", "0/1/0"]);
        assert_eq!(lines[2], ["h", "0/0/1", "-", "-"]);
        assert_eq!(lines[3][0], "FAIL");
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn json_has_exactly_the_promised_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        write_json(&path, &three()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut keys: Vec<&String> = value[1].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["expected", "found", "group", "instance", "name", "reason", "result", "section", "version"]);
        assert_eq!((value[0]["result"].as_str(), value[1]["result"].as_str(), value[2]["result"].as_str()), (Some("pass"), Some("fail"), Some("skip")));
        assert!(write_json(&dir.path().join("no/such"), &[]).unwrap_err().to_string().starts_with("--json: "));
    }

    #[test]
    fn junit_escapes_and_counts() {
        let text = junit(&three());
        assert!(text.contains("<testsuite name=\"g\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\">"), "{text}");
        assert!(text.contains("name=\"a&lt;b S-EL0 1.2\"") && text.contains("expected: &quot;DENIED&quot;; found: BUSY &amp; more"), "{text}");
        assert!(text.contains("name=\"a&lt;b NS 1.2\" time=\"1.500\"/>"), "{text}");
        assert!(text.contains("<skipped message=\"\"/>") && text.ends_with("</testsuites>\n"), "{text}");
    }
}

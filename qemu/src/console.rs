//! Consoles of a running machine, as text: complete lines without terminal escapes, patterns to wait for, and the test
//! protocol that every world speaks: a line `STEP <name> PASS|FAIL <detail>`.

use std::sync::LazyLock;

use regex::Regex;

/// Which console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Serial port 0: TF-A's boot messages, then the normal world.
    Normal,
    /// Serial port 1: Bulkhead and its partitions.
    Secure,
}

/// A verdict that a world printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was tried: one word.
    pub name: String,
    /// Whether it held.
    pub passed: bool,
    /// What was seen, or expected and seen.
    pub detail: String,
}

impl Step {
    /// The step in a console's line, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.trim().strip_prefix("STEP ")?.split_once(' ')?;
        let (verdict, detail) = rest.split_once(' ').unwrap_or((rest, ""));
        let passed = match verdict {
            "PASS" => true,
            "FAIL" => false,
            _ => return None,
        };
        Some(Self { name: name.to_owned(), passed, detail: detail.trim().to_owned() })
    }

    /// The step for a report.
    #[must_use]
    pub fn show(&self) -> String {
        format!("{} {} {}", if self.passed { "PASS" } else { "FAIL" }, self.name, self.detail).trim_end().to_owned()
    }
}

/// What a console has said so far.
#[derive(Debug, Default)]
pub struct Console {
    text: String,
    /// Bytes of a character that is not complete yet.
    rest: Vec<u8>,
    /// Up to where lines were handed out.
    lines_to: usize,
    /// Up to where patterns were searched and found.
    found_to: usize,
}

impl Console {
    /// Takes what the machine has sent; returns the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => self.rest.len(),
        };
        self.text.push_str(&String::from_utf8_lossy(&self.rest[..whole]));
        self.rest.drain(..whole);
        let mut lines = Vec::new();
        while let Some(length) = self.text[self.lines_to..].find('\n') {
            lines.push(plain(&self.text[self.lines_to..self.lines_to + length]));
            self.lines_to += length + 1;
        }
        lines
    }

    /// The first match of `pattern` after the last one found, with its groups; later searches begin behind it.
    pub fn find(&mut self, pattern: &Regex) -> Option<Vec<String>> {
        let captures = pattern.captures_at(&self.text, self.found_to)?;
        self.found_to = captures.get(0)?.end();
        Some(captures.iter().map(|m| m.map_or_else(String::new, |m| m.as_str().to_owned())).collect())
    }

    /// Everything so far, as it came.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What has come of a line that is not complete yet.
    #[must_use]
    pub fn unfinished(&self) -> String {
        plain(&self.text[self.lines_to..])
    }

    /// The last `count` lines.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines: Vec<String> = self.text.lines().map(plain).filter(|l| !l.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A line without escape sequences and control characters.
#[must_use]
pub fn plain(line: &str) -> String {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\x1b(\[[0-9;?=>]*[A-Za-z]|[()][A-Z0-9]|[=>78])").expect("a constant pattern"));
    ESCAPE.replace_all(line, "").chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_with_and_without_detail() {
        let step = |line: &str| Step::parse(line).map(|s| (s.name, s.passed, s.detail));
        assert_eq!(step("STEP linux.tee0 PASS /dev/tee0 is there\r"), Some(("linux.tee0".into(), true, "/dev/tee0 is there".into())));
        assert_eq!(step("STEP a FAIL"), Some(("a".into(), false, String::new())));
        for other in ["STEP", "STEP a", "STEP a MAYBE", "a STEP b PASS", "STEPS a PASS"] {
            assert_eq!(step(other), None, "{other}");
        }
    }

    #[test]
    fn lines_come_whole_and_plain_however_they_are_cut() {
        let mut console = Console::default();
        let mut lines = Vec::new();
        for byte in "\x1b[2J\x1b[0mSTEP a PASS caf\u{e9}\r\nhalf".as_bytes() {
            lines.extend(console.push(&[*byte]));
        }
        assert_eq!(lines, ["STEP a PASS caf\u{e9}"]);
        assert_eq!(console.unfinished(), "half");
        assert_eq!(console.push(b" done\nx"), ["half done"]);
        assert_eq!(console.push(b"\xff\n"), ["x\u{fffd}"], "bytes that are no text do not stop the console");
    }

    #[test]
    fn patterns_are_found_once_and_in_order() {
        let mut console = Console::default();
        console.push(b"one 1\ntwo 2\n");
        let number = Regex::new(r"[a-z]+ (\d)").unwrap();
        assert_eq!(console.find(&number).unwrap(), ["one 1", "1"]);
        assert_eq!(console.find(&number).unwrap()[1], "2");
        assert_eq!(console.find(&number), None);
        assert_eq!(console.tail(1), "two 2");
    }
}

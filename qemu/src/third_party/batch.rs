//! A boot without a terminal: both consoles go to files, the normal world's to this terminal as well, and a pattern on either of
//! them ends it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use regex::Regex;

use crate::console::Port;
use crate::machine::{End, Machine, Run};
use crate::progress;

/// When a boot is over.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A line on either console that ends it well; without one, the machine's own power-off does.
    pub until: Option<Regex>,
    /// Longest time in all.
    pub timeout: Duration,
    /// After so long without a character on either console the machine is reset.
    pub reset_on_silence: Option<Duration>,
}

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pattern appeared in this line.
    Found(String),
    /// The machine ended before.
    Ended(End),
    /// Neither in time.
    TimedOut,
}

/// For the rest of a line whose beginning matches.
const REST_OF_LINE: Duration = Duration::from_secs(1);

/// What a boot did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// How often the machine was reset for its silence.
    pub resets: u32,
    /// Time that it took.
    pub elapsed: Duration,
}

impl Report {
    /// Whether it ended well by `rules`.
    #[must_use]
    pub fn holds(&self, rules: &Rules) -> bool {
        match &self.outcome {
            Outcome::Found(_) => true,
            Outcome::Ended(end) => rules.until.is_none() && *end == End::PoweredOff,
            Outcome::TimedOut => false,
        }
    }

    /// The closing line.
    #[must_use]
    pub fn show(&self, rules: &Rules) -> String {
        let pattern = rules.until.as_ref().map_or_else(String::new, |pattern| format!(" without '{pattern}'"));
        let what = match &self.outcome {
            Outcome::Found(line) => format!("found: {line}"),
            Outcome::Ended(end) if self.holds(rules) => end.show(),
            Outcome::Ended(end) => format!("failed: {}{pattern}", end.show()),
            Outcome::TimedOut => format!("failed: --timeout {}{pattern}", progress::seconds(rules.timeout)),
        };
        let resets = match self.resets {
            0 => String::new(),
            1 => ", 1 reset on silence".to_owned(),
            n => format!(", {n} resets on silence"),
        };
        format!("{what} (after {}{resets})", progress::seconds(self.elapsed))
    }
}

/// Boots `machine` and follows it to its end by `rules`. What the normal world says is printed as it comes, if `shown`.
/// Returns whether all went well.
///
/// # Errors
/// When QEMU cannot be started or reset, or on Ctrl-C.
pub fn run(machine: &Machine, rules: &Rules) -> Result<bool> {
    println!("normal world's console: {}", machine.console_log().display());
    println!("secure world's console: {}", machine.secure_log().display());
    let mut run = machine.start()?;
    let report = follow(&mut run, rules, &mut |port, bytes| {
        if port == Port::Normal {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        }
    })?;
    let holds = report.holds(rules);
    if !holds {
        println!("\n{}", run.last_words());
    }
    println!("\n{}", report.show(rules));
    Ok(holds)
}

/// Follows a running machine to its end by `rules`; `said` gets what the consoles say.
///
/// # Errors
/// When it cannot be reset, or on Ctrl-C.
pub fn follow(run: &mut Run, rules: &Rules, said: &mut dyn FnMut(Port, &[u8])) -> Result<Report> {
    let start = Instant::now();
    let deadline = start + rules.timeout;
    let mut last_word = start;
    let mut resets = 0;
    // A line that matches before it is complete: a prompt, perhaps, whose end does not come.
    let mut begun: Option<(String, Instant)> = None;
    let outcome = loop {
        let mut found = None;
        let silent_at = rules.reset_on_silence.map_or(deadline, |silence| last_word + silence);
        let wake = silent_at.min(deadline).min(begun.as_ref().map_or(deadline, |(_, until)| *until));
        let alive = run.hear(wake, &mut |port, bytes, lines| {
            last_word = Instant::now();
            said(port, bytes);
            if let (Some(pattern), None) = (&rules.until, &found) {
                found = lines.iter().find(|line| pattern.is_match(line)).cloned();
            }
        })?;
        if let Some(line) = found {
            break Outcome::Found(line);
        }
        let now = Instant::now();
        match (&begun, &rules.until) {
            (Some((line, until)), _) if now >= *until || !alive => break Outcome::Found(line.clone()),
            (None, Some(pattern)) => {
                let line = [Port::Normal, Port::Secure].into_iter().map(|port| run.console(port).unfinished()).find(|l| !l.is_empty() && pattern.is_match(l));
                begun = line.map(|line| (line, now + REST_OF_LINE));
                if begun.is_some() {
                    continue;
                }
            }
            _ => {}
        }
        if !alive {
            break Outcome::Ended(run.end()?);
        }
        if now >= deadline {
            break Outcome::TimedOut;
        }
        if let Some(silence) = rules.reset_on_silence
            && now >= last_word + silence
        {
            run.reset().context("cannot reset the silent machine")?;
            resets += 1;
            last_word = Instant::now();
        }
    };
    Ok(Report { outcome, resets, elapsed: start.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::scripted;

    fn rules(until: Option<&str>, timeout: u64, silence: Option<u64>) -> Rules {
        Rules {
            until: until.map(|pattern| Regex::new(pattern).unwrap()),
            timeout: Duration::from_millis(timeout),
            reset_on_silence: silence.map(Duration::from_millis),
        }
    }

    fn boot(script: &str, rules: &Rules) -> (Report, String) {
        let (_dir, mut run) = scripted(script);
        let mut said = Vec::new();
        let report = follow(&mut run, rules, &mut |port, bytes| {
            if port == Port::Normal {
                said.extend_from_slice(bytes);
            }
        });
        (report.unwrap(), String::from_utf8(said).unwrap())
    }

    #[test]
    fn a_line_of_either_console_ends_it_well() {
        let until = rules(Some("^ALL (TESTS|DONE)"), 20_000, None);
        let (report, said) = boot("echo no ALL DONE; echo ALL TESTS passed; sleep 100", &until);
        assert_eq!((&report.outcome, report.holds(&until)), (&Outcome::Found("ALL TESTS passed".into()), true));
        assert!(said.starts_with("no ALL DONE\nALL TESTS passed"));
        let (report, _) = boot("echo ALL DONE >>$LOG; sleep 100", &until);
        assert_eq!(report.outcome, Outcome::Found("ALL DONE".into()));
    }

    #[test]
    fn a_prompt_counts_and_a_line_that_is_cut_is_waited_for() {
        let until = rules(Some("^(shell>|DONE)"), 20_000, None);
        assert_eq!(boot("printf 'shell> '; sleep 100", &until).0.outcome, Outcome::Found("shell> ".into()));
        assert_eq!(boot("printf DONE; sleep 0.05; echo ' 3 passed'; sleep 100", &until).0.outcome, Outcome::Found("DONE 3 passed".into()));
    }

    #[test]
    fn an_end_without_the_pattern_or_too_late_fails() {
        let until = rules(Some("never"), 20_000, None);
        let (report, _) = boot("echo something", &until);
        assert_eq!((&report.outcome, report.holds(&until)), (&Outcome::Ended(End::PoweredOff), false));
        assert!(report.show(&until).starts_with("failed: powered off without 'never'"), "{}", report.show(&until));
        let late = rules(Some("never"), 300, None);
        let (report, _) = boot("while :; do echo something; sleep 0.05; done", &late);
        assert_eq!((&report.outcome, report.holds(&late)), (&Outcome::TimedOut, false));
    }

    #[test]
    fn without_a_pattern_powering_off_is_the_good_end() {
        let power_off = rules(None, 20_000, None);
        assert!(boot("echo bye", &power_off).0.holds(&power_off));
        assert!(!boot("echo 'bad option' >&2; exit 1", &power_off).0.holds(&power_off));
    }

    #[test]
    fn silence_resets_through_the_control_socket() {
        // A control socket that answers as QEMU does, and says on the secure console what it was asked.
        let server = r#"python3 -c "
import os, socket
s = socket.socket(socket.AF_UNIX); s.bind(os.environ['CONTROL']); s.listen()
open(os.environ['LOG'] + '.listens', 'w')
log = open(os.environ['LOG'], 'a')
for n in range(2):
    c, _ = s.accept(); c.sendall(b'{\"QMP\": {}}\n'); f = c.makefile()
    for command in ('qmp_capabilities', 'system_reset'):
        assert command in f.readline()
        c.sendall(b'{\"event\": \"RESET\"}\n{\"return\": {}}\n')
    log.write('reset %d\n' % n); log.flush()
" & until [ -e $LOG.listens ]; do echo starting; sleep 0.1; done; wait"#;
        let rules = rules(Some("^reset 1"), 60_000, Some(3_000));
        let (report, _) = boot(server, &rules);
        assert_eq!((&report.outcome, report.resets), (&Outcome::Found("reset 1".into()), 2));
        assert!(report.show(&rules).contains("2 resets on silence"));
    }
}

//! Running other programs: logged with the tail of the log on failure, or quietly with captured output.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::interrupt::{self, Group};
use crate::progress::Task;

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 30;

/// Runs `command` with its output appended to `log`. Its process group ends with us.
///
/// # Errors
/// When it cannot start or fails; the message has the log's last lines and its path.
pub fn run_logged(command: &mut Command, log: &Path, task: &Task) -> Result<()> {
    interrupt::check()?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write the log {}", log.display()))?;
    writeln!(file, "$ {}", show(command))?;
    let from = file.seek(SeekFrom::End(0))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| cannot_start(command))?;
    task.follow(log);
    let group = Group::of(&child);
    let status = child.wait();
    drop(group);
    let status = status.with_context(|| format!("cannot wait for `{}`", show(command)))?;
    interrupt::check()?;
    if !status.success() {
        bail!(
            "`{}` {}\nthe last lines of its log:\n{}\nwhole log: {}",
            show(command),
            describe(status),
            indent(&tail(log, from, TAIL_LINES)),
            log.display()
        );
    }
    Ok(())
}

/// Runs `command` and returns its standard output as text.
///
/// # Errors
/// When it cannot start or fails; the message has its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    interrupt::check()?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| cannot_start(command))?;
    let group = Group::of(&child);
    let out = child.wait_with_output();
    drop(group);
    let out = out.with_context(|| format!("cannot read the output of `{}`", show(command)))?;
    interrupt::check()?;
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        let stdout = String::from_utf8_lossy(&out.stdout);
        let text = if stderr.trim().is_empty() { stdout } else { stderr };
        bail!("`{}` {}\n{}", show(command), describe(out.status), indent(text.trim_end()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The command as one could type it.
#[must_use]
pub fn show(command: &Command) -> String {
    std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}` (is it installed? `cargo xtask doctor` tells)", command.get_program().to_string_lossy())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The last `lines` lines of `path` after byte `from`.
#[must_use]
pub fn tail(path: &Path, from: u64, lines: usize) -> String {
    /// Enough for the lines that are asked for, whatever the size of the log.
    const WINDOW: u64 = 64 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(WINDOW))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|e| format!("(cannot read {}: {e})", path.display()));
    last_lines(&text, lines)
}

/// The last `count` lines of `text`.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// `text` with four spaces before each line.
#[must_use]
pub fn indent(text: &str) -> String {
    text.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    fn task() -> Task {
        Progress::quiet().task("test")
    }

    #[test]
    fn a_failing_command_shows_its_own_log_lines_and_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("build.log");
        run_logged(Command::new("sh").args(["-c", "echo before"]), &log, &task()).unwrap();
        let error = run_logged(Command::new("sh").args(["-c", "echo it broke >&2; exit 3"]), &log, &task()).unwrap_err().to_string();
        assert!(error.contains("exit status 3"), "{error}");
        assert!(error.contains("it broke"), "{error}");
        assert!(!error.contains("before"), "an earlier command's output is not this one's: {error}");
        assert!(error.contains(log.to_str().unwrap()), "{error}");
        assert!(std::fs::read_to_string(&log).unwrap().contains("before"), "the log keeps all commands");
    }

    #[test]
    fn a_missing_program_points_to_doctor() {
        let error = output(&mut Command::new("no-such-program-of-ours")).unwrap_err().to_string();
        assert!(error.contains("no-such-program-of-ours") && error.contains("doctor"), "{error}");
    }

    #[test]
    fn grandchildren_do_not_outlive_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}", pid_file.display());
        run_logged(Command::new("sh").args(["-c", &script]), &dir.path().join("log"), &task()).unwrap();
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            // Gone, or a zombie that nobody has reaped yet.
            std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z "))
        });
        assert!(gone, "process {} is still there", pid.trim());
    }

    #[test]
    fn commands_are_shown_as_typed() {
        assert_eq!(show(Command::new("make").args(["PLAT=qemu", "a b", "it's"])), r"make PLAT=qemu 'a b' 'it'\''s'");
    }

    #[test]
    fn tail_gives_the_last_lines_only() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 5), "a");
    }
}

//! QEMU's virt machine with both worlds: how it is started for a person at a terminal, and how tests drive it.
//!
//! ```text
//! let mut run = Machine { fw_cfg: vec![("opt/x".into(), "y".into())], ..Machine::new(&assembled) }.start()?;
//! run.expect(Port::Secure, &Regex::new("OP-TEE .*ready")?, Duration::from_secs(60))?;   // waits for a line
//! run.send(Port::Normal, "poweroff\n")?;                                                // types on a console
//! let end = run.watch(&Limits::default(), &mut |step| println!("{}", step.show()))?;    // collects STEP lines to the end
//! ```
//!
//! Both consoles are kept in files of the system's directory: `console.log` (normal world) and `secure.log`. A machine ends
//! with its [`Run`], on every way out, and on Ctrl-C: QEMU is in a process group that [`crate::interrupt`] knows.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;
use tempfile::TempDir;

use crate::console::{Console, Port, Step};
use crate::doctor::QEMU;
use crate::exec;
use crate::interrupt::{self, Group};
use crate::reset;
use crate::system::{self, Assembled};

/// Memory of the normal world unless told otherwise, in MiB.
pub const MEMORY: u32 = 2048;
/// Cores unless told otherwise.
pub const CPUS: u32 = 4;
/// How long a machine that has nothing more to tell may take to power itself off.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a console in an error.
const TAIL: usize = 25;
/// For QEMU's answer to a command.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Directory for its consoles.
    pub dir: PathBuf,
    /// The secure flash bank.
    pub flash: PathBuf,
    /// A disk of the normal world; what is written to it is forgotten.
    pub disk: Option<PathBuf>,
    /// Cores, 1 to 8.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Whether a reset starts it anew; else it ends the machine like a power-off.
    pub resets: bool,
    /// Items that software in the machine reads by name.
    pub fw_cfg: Vec<(String, String)>,
    /// Device tree source that is appended to the normal world's device tree, which QEMU makes.
    pub device_tree: Option<PathBuf>,
    /// Further arguments for QEMU.
    pub extra: Vec<OsString>,
}

/// How a person uses a machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Say how another terminal shows the secure console.
    pub show_secure_socket: bool,
    /// Wait for a debugger before the first instruction.
    pub gdb: bool,
}

impl Machine {
    /// The machine for an assembled system, with defaults.
    #[must_use]
    pub fn new(assembled: &Assembled) -> Self {
        Self {
            dir: assembled.dir.clone(),
            flash: assembled.flash.clone(),
            disk: None,
            cpus: CPUS,
            memory: assembled.memory,
            resets: true,
            fw_cfg: Vec::new(),
            device_tree: None,
            extra: Vec::new(),
        }
    }

    /// The normal world's console, as a file.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// The secure world's console, as a file.
    #[must_use]
    pub fn secure_log(&self) -> PathBuf {
        self.dir.join("secure.log")
    }

    /// What all ways of starting have in common: everything but the consoles.
    fn command(&self) -> Result<Command> {
        let mut command = self.hardware();
        if let Some(addition) = &self.device_tree {
            command.arg("-dtb").arg(self.extended_device_tree(addition)?);
        }
        Ok(command)
    }

    /// The device tree that QEMU would make for this machine, with `addition` appended, as a file.
    fn extended_device_tree(&self, addition: &Path) -> Result<PathBuf> {
        let dumped = self.dir.join("machine-qemu.dtb");
        exec::output(self.hardware().args(&self.extra).arg("-machine").arg(option("dumpdtb=", &dumped, ""))).context("cannot ask QEMU for its device tree")?;
        let mut source = exec::output(Command::new("dtc").args(["-q", "-I", "dtb", "-O", "dts"]).arg(&dumped)).context("cannot read QEMU's device tree")?;
        source += &std::fs::read_to_string(addition).with_context(|| format!("cannot read {}", addition.display()))?;
        let (extended, name) = (self.dir.join("machine.dts"), "machine");
        std::fs::write(&extended, source).with_context(|| format!("cannot write {}", extended.display()))?;
        system::compile(&self.dir, name, &extended)?;
        Ok(self.dir.join(name).with_extension("dtb"))
    }

    fn hardware(&self) -> Command {
        let mut command = Command::new(QEMU);
        command.args(["-machine", "virt,secure=on,virtualization=on,gic-version=3,acpi=off"]);
        command.arg("-cpu").arg(format!("max,sme=on,pauth-impdef=on,rvbar={:#x}", reset::OFFSET));
        command.args(["-smp", &self.cpus.to_string(), "-m", &self.memory.to_string()]);
        command.args(["-display", "none", "-monitor", "none", "-nic", "none"]);
        if !self.resets {
            command.arg("-no-reboot");
        }
        command.arg("-drive").arg(option("if=pflash,unit=0,format=raw,file=", &self.flash, ""));
        if let Some(disk) = &self.disk {
            command.arg("-drive").arg(option("if=none,id=disk,format=raw,snapshot=on,file=", disk, ""));
            command.args(["-device", "virtio-blk-device,drive=disk"]);
        }
        // Only so that QEMU's main loop never sleeps for more than a second: a write to the flash can swallow the signal by which
        // another core tells it of a new timer (block I/O in a core's thread drains the same event), and with all cores idle that
        // timer would never fire. A network's polling bounds the sleep; nothing in the machine uses this one.
        command.args(["-netdev", "user,id=wake,restrict=on", "-device", "virtio-net-device,netdev=wake"]);
        for (name, value) in &self.fw_cfg {
            command.arg("-fw_cfg").arg(format!("name={name},string={}", value.replace(',', ",,")));
        }
        command
    }

    /// Starts the machine for a program: see [`Run`].
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(&self) -> Result<Run> {
        let sockets = sockets()?;
        let mut command = self.command()?;
        command.arg("-chardev").arg(option("stdio,id=normal,signal=off,logfile=", &self.console_log(), "")).args(["-serial", "chardev:normal"]);
        self.secure_console(&mut command, &sockets);
        command.arg("-qmp").arg(option("unix:", &control_socket(&sockets), ",server=on,wait=off"));
        command.args(&self.extra);
        Run::spawn(command, &self.secure_log(), &self.dir.join("qemu.log"), sockets)
    }

    /// The secure world's serial port: its file, and a socket for whoever wants to see and type.
    fn secure_console(&self, command: &mut Command, sockets: &TempDir) {
        let mut text = option("socket,id=secure,server=on,wait=off,path=", &socket(sockets), ",logfile=");
        text.push(option("", &self.secure_log(), ""));
        command.arg("-chardev").arg(text).args(["-serial", "chardev:secure"]);
    }

    /// Runs the machine with its console on this terminal until it ends: by power-off, Ctrl-A X or Ctrl-C.
    ///
    /// # Errors
    /// When QEMU cannot be started or fails.
    pub fn interact(&self, terminal: Terminal) -> Result<()> {
        let mut command = self.command()?;
        command.arg("-chardev").arg(option("stdio,id=normal,mux=on,signal=on,logfile=", &self.console_log(), ""));
        command.args(["-serial", "chardev:normal", "-mon", "chardev=normal,mode=readline"]);
        let sockets = sockets()?;
        self.secure_console(&mut command, &sockets);
        if terminal.show_secure_socket {
            println!("secure console, in another terminal: socat -,rawer,escape=0x1d UNIX-CONNECT:{} (Ctrl-] leaves)", socket(&sockets).display());
        }
        if terminal.gdb {
            command.args(["-gdb", "tcp:127.0.0.1:1234", "-S"]);
        }
        command.args(&self.extra);
        // QEMU owns the terminal, so it stays in our process group: Ctrl-C reaches both, and a signal to us alone is passed on.
        let stdin = std::io::stdin();
        let attributes = stdin.is_terminal().then(|| rustix::termios::tcgetattr(&stdin).ok()).flatten();
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", exec::show(&command)))?;
        let status = wait_interactively(&mut child);
        if let Some(attributes) = attributes {
            let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &attributes);
        }
        let status = status?;
        interrupt::check()?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }
}

/// Waits for an interactive QEMU; ends it when we are asked to end.
fn wait_interactively(child: &mut Child) -> Result<ExitStatus> {
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for QEMU")? {
            return Ok(status);
        }
        if interrupt::requested() {
            let since = *asked.get_or_insert_with(Instant::now);
            let pid = rustix::process::Pid::from_child(child);
            let signal = if since.elapsed() < Duration::from_secs(3) { rustix::process::Signal::TERM } else { rustix::process::Signal::KILL };
            let _ = rustix::process::kill_process(pid, signal);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A QEMU option with a path in it, whose commas are doubled as QEMU wants them.
fn option(before: &str, path: &Path, after: &str) -> OsString {
    let mut text = OsString::from(before);
    text.push(path.to_string_lossy().replace(',', ",,"));
    text.push(after);
    text
}

/// A directory for sockets: their paths must be short, which a clone's need not be.
fn sockets() -> Result<TempDir> {
    tempfile::Builder::new().prefix("bulkhead-").tempdir().context("cannot make a directory for sockets")
}

fn socket(sockets: &TempDir) -> PathBuf {
    sockets.path().join("secure")
}

/// Where QEMU takes commands.
fn control_socket(sockets: &TempDir) -> PathBuf {
    sockets.path().join("control")
}

/// Gets what a console says, and the lines that this completes.
pub type Said<'a> = dyn FnMut(Port, &[u8], &[String]) + 'a;

/// How long a machine may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time without a character on either console.
    pub silence: Duration,
    /// Longest time in all.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { silence: Duration::from_secs(120), total: Duration::from_secs(900) }
    }
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It powered itself off (or reset, where that ends it).
    PoweredOff,
    /// QEMU failed; its message.
    Failed(String),
    /// It was ended because it said nothing for so long.
    Silent(Duration),
    /// It was ended because it took so long.
    TooLong(Duration),
}

impl End {
    /// What happened, for a report.
    #[must_use]
    pub fn show(&self) -> String {
        match self {
            Self::PoweredOff => "powered off".to_owned(),
            Self::Failed(message) => format!("QEMU failed: {message}"),
            Self::Silent(limit) => format!("ended after {} without a word", crate::progress::seconds(*limit)),
            Self::TooLong(limit) => format!("ended because it took longer than {}", crate::progress::seconds(*limit)),
        }
    }
}

/// A machine that runs, without a terminal.
pub struct Run {
    child: Child,
    group: Option<Group>,
    stdin: Option<ChildStdin>,
    sockets: TempDir,
    secure_input: Option<UnixStream>,
    events: Receiver<(Port, Vec<u8>)>,
    stop_tail: Arc<AtomicBool>,
    normal: Console,
    secure: Console,
    steps: Vec<Step>,
    started: Instant,
    last_word: Instant,
    messages: PathBuf,
}

impl Run {
    fn spawn(mut command: Command, secure_log: &Path, messages: &Path, sockets: TempDir) -> Result<Self> {
        interrupt::check()?;
        File::create(secure_log).with_context(|| format!("cannot write {}", secure_log.display()))?;
        let stderr = File::create(messages).with_context(|| format!("cannot write {}", messages.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::show(&command)))?;
        let group = Group::of(&child);
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("QEMU has no standard output")?;
        let (sender, events) = channel();
        let stop_tail = Arc::new(AtomicBool::new(false));
        forward(stdout, sender.clone());
        tail(File::open(secure_log).with_context(|| format!("cannot read {}", secure_log.display()))?, sender, Arc::clone(&stop_tail));
        let now = Instant::now();
        Ok(Self {
            child,
            group: Some(group),
            stdin,
            sockets,
            secure_input: None,
            events,
            stop_tail,
            normal: Console::default(),
            secure: Console::default(),
            steps: Vec::new(),
            started: now,
            last_word: now,
            messages: messages.to_path_buf(),
        })
    }

    /// Types `text` on a console.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn send(&mut self, port: Port, text: &str) -> Result<()> {
        let sent = match (port, &mut self.stdin, &mut self.secure_input) {
            (Port::Normal, Some(stdin), _) => stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()),
            (Port::Normal, None, _) => bail!("the normal world's console is closed"),
            (Port::Secure, _, Some(stream)) => stream.write_all(text.as_bytes()),
            (Port::Secure, _, input @ None) => UnixStream::connect(socket(&self.sockets)).and_then(|stream| {
                // What it says arrives through the log; here it is only taken, lest the machine waits for a reader.
                let mut unread = stream.try_clone()?;
                std::thread::spawn(move || std::io::copy(&mut unread, &mut std::io::sink()));
                input.insert(stream).write_all(text.as_bytes())
            }),
        };
        sent.context("cannot type on the machine's console: has it ended?")
    }

    /// A console with all that it has said so far.
    #[must_use]
    pub fn console(&self, port: Port) -> &Console {
        match port {
            Port::Normal => &self.normal,
            Port::Secure => &self.secure,
        }
    }

    /// All steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Time since power-on.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until `pattern` appears on `port` (behind what an earlier call found) and returns its groups.
    ///
    /// # Errors
    /// When it does not appear in time, or the machine ends before.
    pub fn expect(&mut self, port: Port, pattern: &Regex, timeout: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + timeout;
        loop {
            let console = if port == Port::Normal { &mut self.normal } else { &mut self.secure };
            if let Some(found) = console.find(pattern) {
                return Ok(found);
            }
            let alive = self.hear(deadline, &mut |_, _, _| ())?;
            let console = if port == Port::Normal { &mut self.normal } else { &mut self.secure };
            if let Some(found) = console.find(pattern) {
                return Ok(found);
            }
            if !alive || Instant::now() >= deadline {
                let why = if alive { format!("within {}", crate::progress::seconds(timeout)) } else { "before the machine ended".into() };
                bail!("'{pattern}' did not appear {why}\n{}", self.last_words());
            }
        }
    }

    /// Waits for the end; hands each step to `on_step` as it comes (those that came before this call included).
    ///
    /// # Errors
    /// When interrupted.
    pub fn watch(&mut self, limits: &Limits, on_step: &mut dyn FnMut(&Step)) -> Result<End> {
        let mut handed = 0;
        loop {
            let deadline = (self.last_word + limits.silence).min(self.started + limits.total);
            let alive = self.hear(deadline, &mut |_, _, _| ())?;
            for step in &self.steps[handed..] {
                on_step(step);
            }
            handed = self.steps.len();
            if !alive {
                return self.end();
            }
            if self.started.elapsed() >= limits.total {
                return Ok(End::TooLong(limits.total));
            }
            if self.last_word.elapsed() >= limits.silence {
                return Ok(End::Silent(limits.silence));
            }
        }
    }

    /// Hands out the lines of the normal world's console as they come, until `on_line` says that there is no need for more (then
    /// the machine may power itself off, and is ended if it does not), or the machine ends. Silence is the normal world's: a partition
    /// that says the same for ever hangs, too.
    ///
    /// # Errors
    /// When interrupted.
    pub fn follow(&mut self, limits: &Limits, on_line: &mut dyn FnMut(&str) -> bool) -> Result<End> {
        let mut last_word = self.last_word;
        loop {
            let deadline = (last_word + limits.silence).min(self.started + limits.total);
            let mut enough = false;
            let alive = self.hear(deadline, &mut |port, _, lines| {
                if port == Port::Normal {
                    last_word = Instant::now();
                    // What comes after the last line that matters does not.
                    enough = enough || lines.iter().any(|line| !on_line(line));
                }
            })?;
            if enough {
                let soon = Limits { silence: GRACE, total: self.started.elapsed() + GRACE };
                return self.watch(&soon, &mut |_| ());
            }
            if !alive {
                return self.end();
            }
            if self.started.elapsed() >= limits.total {
                return Ok(End::TooLong(limits.total));
            }
            if last_word.elapsed() >= limits.silence {
                return Ok(End::Silent(limits.silence));
            }
        }
    }

    /// The last lines of both consoles and of QEMU itself.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut text = String::new();
        for (name, lines) in [
            ("normal world's console", self.normal.tail(TAIL)),
            ("secure console", self.secure.tail(TAIL)),
            ("QEMU", exec::tail(&self.messages, 0, TAIL)),
        ] {
            if !lines.trim().is_empty() {
                text += &format!("last lines of the {name}:\n{}\n", exec::indent(&lines));
            }
        }
        text
    }

    /// Takes what the consoles say until something was said or `deadline` (or a moment has passed); false when the machine has
    /// ended and all that it said is taken. `said` gets what was said and the lines that it completes.
    ///
    /// # Errors
    /// On Ctrl-C.
    pub fn hear(&mut self, deadline: Instant, said: &mut Said<'_>) -> Result<bool> {
        interrupt::check()?;
        let mut ended = self.child.try_wait().context("cannot wait for QEMU")?.is_some();
        // Short waits: Ctrl-C and the machine's end are noticed in between.
        let wait = deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
        match self.events.recv_timeout(wait) {
            Ok(event) => {
                self.take_event(&event, said);
                while let Ok(event) = self.events.try_recv() {
                    self.take_event(&event, said);
                }
                ended = false;
            }
            Err(RecvTimeoutError::Timeout) => {
                if ended && !self.stop_tail.swap(true, Ordering::SeqCst) {
                    // The thread that follows the secure console reads its file once more and ends.
                    ended = false;
                }
            }
            Err(RecvTimeoutError::Disconnected) => ended = true,
        }
        Ok(!ended)
    }

    fn take_event(&mut self, (port, bytes): &(Port, Vec<u8>), said: &mut Said<'_>) {
        self.last_word = Instant::now();
        let console = if *port == Port::Normal { &mut self.normal } else { &mut self.secure };
        let lines = console.push(bytes);
        self.steps.extend(lines.iter().filter_map(|line| Step::parse(line)));
        said(*port, bytes, &lines);
    }

    /// Resets the machine, as its reset button would: RAM and flash keep their content.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn reset(&mut self) -> Result<()> {
        let connect = || -> std::io::Result<()> {
            let mut control = UnixStream::connect(control_socket(&self.sockets))?;
            control.set_read_timeout(Some(CONTROL_TIMEOUT))?;
            let mut answers = BufReader::new(control.try_clone()?);
            // The greeting, then an answer to each command; events may come in between.
            let mut await_line = |with: &str| -> std::io::Result<()> {
                let mut line = String::new();
                while !line.contains(with) {
                    line.clear();
                    if answers.read_line(&mut line)? == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(())
            };
            await_line("QMP")?;
            for command in ["qmp_capabilities", "system_reset"] {
                control.write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
                await_line("\"return\"")?;
            }
            Ok(())
        };
        connect().context("QEMU's control socket does not answer")
    }

    /// How the machine ended, once [`Self::hear`] says that it has.
    ///
    /// # Errors
    /// When its status cannot be read.
    pub fn end(&mut self) -> Result<End> {
        let status = self.child.wait().context("cannot wait for QEMU")?;
        Ok(if status.success() {
            End::PoweredOff
        } else {
            End::Failed(format!("{status}: {}", exec::tail(&self.messages, 0, 3)))
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop_tail.store(true, Ordering::SeqCst);
        if let Some(group) = self.group.take() {
            group.kill();
        }
        let _ = self.child.wait();
    }
}

/// Forwards what a pipe brings until its end.
fn forward(mut pipe: impl Read + Send + 'static, sender: Sender<(Port, Vec<u8>)>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n) = pipe.read(&mut buffer) {
            if n == 0 || sender.send((Port::Normal, buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// Follows a growing file until told to stop, then to its end.
fn tail(mut file: File, sender: Sender<(Port, Vec<u8>)>, stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let last = stop.load(Ordering::SeqCst);
            match file.read(&mut buffer) {
                Ok(0) if last => return,
                Ok(0) => std::thread::sleep(Duration::from_millis(20)),
                Ok(n) => {
                    if sender.send((Port::Secure, buffer[..n].to_vec())).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
}

/// A shell script in QEMU's place: its standard output is the normal console, `$LOG` the secure one, `$CONTROL` the path of
/// the control socket.
#[cfg(test)]
pub fn scripted(script: &str) -> (TempDir, Run) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("secure.log");
    let sockets = sockets().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("LOG", &log).env("CONTROL", control_socket(&sockets));
    let run = Run::spawn(command, &log, &dir.path().join("qemu.log"), sockets).unwrap();
    (dir, run)
}

#[cfg(test)]
mod tests {
    use super::scripted as run;
    use super::*;

    fn limits(silence: u64) -> Limits {
        Limits { silence: Duration::from_millis(silence), total: Duration::from_secs(20) }
    }

    #[test]
    fn steps_of_both_consoles_are_collected_to_the_last() {
        let (_dir, mut run) = run("echo STEP one PASS fine; echo STEP two FAIL 'not so' >>$LOG; echo STEP three PASS");
        let mut seen = Vec::new();
        assert_eq!(run.watch(&limits(10_000), &mut |s| seen.push((s.name.clone(), s.passed))).unwrap(), End::PoweredOff);
        seen.sort();
        assert_eq!(seen, [("one".into(), true), ("three".into(), true), ("two".into(), false)]);
    }

    #[test]
    fn a_dialogue_waits_for_patterns_and_types_answers() {
        let (_dir, mut run) = run("echo login:; read name; echo hello $name; echo welcome $name >>$LOG");
        let wait = Duration::from_secs(10);
        run.expect(Port::Normal, &Regex::new("login:").unwrap(), wait).unwrap();
        run.send(Port::Normal, "root\n").unwrap();
        assert!(run.send(Port::Secure, "x").is_err(), "nobody listens on the secure console's socket");
        assert_eq!(run.expect(Port::Normal, &Regex::new("hello (.*)").unwrap(), wait).unwrap()[1], "root");
        run.expect(Port::Secure, &Regex::new("welcome root").unwrap(), wait).unwrap();
        let error = run.expect(Port::Normal, &Regex::new("never").unwrap(), wait).unwrap_err().to_string();
        assert!(error.contains("before the machine ended") && error.contains("hello root"), "{error}");
    }

    #[test]
    fn a_silent_machine_is_ended_and_leaves_nothing_behind() {
        let (dir, mut run) = run("echo $$ >$LOG.pid; sleep 100 & wait");
        let end = run.watch(&limits(300), &mut |_| ()).unwrap();
        assert_eq!(end, End::Silent(Duration::from_millis(300)));
        drop(run);
        let pid = std::fs::read_to_string(dir.path().join("secure.log.pid")).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
    }

    #[test]
    fn to_a_follower_a_secure_world_that_goes_on_talking_is_silence() {
        let (_dir, mut run) = scripted("echo one; while :; do echo chatter >>$LOG; sleep 0.05; done");
        let mut heard = Vec::new();
        let end = run.follow(&limits(1_000), &mut |line| {
            heard.push(line.to_owned());
            true
        });
        assert_eq!((end.unwrap(), heard), (End::Silent(Duration::from_secs(1)), vec!["one".to_owned()]));
    }

    #[test]
    fn a_failing_qemu_is_quoted() {
        let (_dir, mut run) = run("echo 'no such device' >&2; exit 1");
        let End::Failed(message) = run.watch(&limits(10_000), &mut |_| ()).unwrap() else { panic!("it failed") };
        assert!(message.contains("no such device"), "{message}");
    }

    #[test]
    fn commas_in_values_are_doubled_for_qemu() {
        let assembled = Assembled { dir: "/o".into(), flash: "/o/a,b.img".into(), memory: MEMORY };
        let machine = Machine { fw_cfg: vec![("opt/x".into(), "a,b".into())], disk: Some("/d".into()), ..Machine::new(&assembled) };
        let shown = exec::show(&machine.command().unwrap());
        assert!(shown.contains("file=/o/a,,b.img") && shown.contains("string=a,,b"), "{shown}");
        assert!(shown.contains("snapshot=on,file=/d"), "{shown}");
    }
}

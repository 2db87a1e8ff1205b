//! What the user sees while things are fetched and built: bars on a terminal, plain lines elsewhere.
//!
//! Without a terminal (CI) each task prints a line when it starts a stage and when it ends, and every half minute the
//! tasks that still run are named with their elapsed time, so that a log shows where time goes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often tasks that still run are named when there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);

enum Display {
    Bars(MultiProgress),
    Lines,
    Nothing,
}

struct Shared {
    display: Display,
    running: Mutex<Vec<Weak<State>>>,
}

struct State {
    name: String,
    start: Instant,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    stage: String,
    bytes: Option<(u64, u64)>,
    log: Option<PathBuf>,
}

/// The whole display.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

/// One line of it: a download, a build.
pub struct Task {
    shared: Arc<Shared>,
    state: Arc<State>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines.
    #[must_use]
    pub fn new() -> Self {
        let display = if std::io::stderr().is_terminal() { Display::Bars(MultiProgress::new()) } else { Display::Lines };
        let progress = Self::with(display);
        progress.start_heartbeat();
        progress
    }

    /// Shows nothing.
    #[cfg(test)]
    #[must_use]
    pub fn quiet() -> Self {
        Self::with(Display::Nothing)
    }

    fn with(display: Display) -> Self {
        Self(Arc::new(Shared { display, running: Mutex::default() }))
    }

    fn start_heartbeat(&self) {
        if !matches!(self.0.display, Display::Lines) {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(HEARTBEAT);
                let Some(shared) = shared.upgrade() else { return };
                let running: Vec<_> = lock(&shared.running).iter().filter_map(Weak::upgrade).collect();
                for state in running.iter().filter(|s| s.start.elapsed() >= HEARTBEAT) {
                    eprintln!("  ... {}: {} ({})", state.name, state.describe(), elapsed(state.start));
                }
            }
        });
    }

    /// A new task.
    #[must_use]
    pub fn task(&self, name: &str) -> Task {
        let state = Arc::new(State { name: name.to_owned(), start: Instant::now(), now: Mutex::default() });
        let mut running = lock(&self.0.running);
        running.retain(|s| s.strong_count() > 0);
        running.push(Arc::downgrade(&state));
        let bar = match &self.0.display {
            Display::Bars(multi) => {
                let bar = multi.add(ProgressBar::new_spinner());
                bar.set_style(spinner());
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(200));
                Some(bar)
            }
            Display::Lines | Display::Nothing => None,
        };
        Task { shared: Arc::clone(&self.0), state, bar }
    }

    /// A task that shows nothing: for work that is usually instantaneous.
    #[must_use]
    pub fn task_silent(&self, name: &str) -> Task {
        Self::with(Display::Nothing).task(name)
    }

    /// A task whose stage shows as a bar only: for work that usually takes no time, where lines would be noise.
    #[must_use]
    pub fn task_bar(&self, name: &str, stage: &str) -> Task {
        let task = self.task(name);
        if let Some(bar) = &task.bar {
            bar.set_message(stage.to_owned());
        }
        stage.clone_into(&mut lock(&task.state.now).stage);
        task
    }

    /// Prints a line above the bars.
    pub fn line(&self, text: &str) {
        self.0.line(text);
    }
}

impl Shared {
    fn line(&self, text: &str) {
        match &self.display {
            // indicatif would swallow the line when its bars are hidden.
            Display::Bars(multi) => multi.suspend(|| eprintln!("{text}")),
            Display::Lines => eprintln!("{text}"),
            Display::Nothing => {}
        }
    }
}

impl State {
    fn describe(&self) -> String {
        let now = lock(&self.now);
        match now.bytes {
            Some((done, total)) => format!("{} {} of {}", now.stage, bytes(done), bytes(total)),
            None => now.stage.clone(),
        }
    }
}

impl Task {
    /// The task enters a new stage.
    pub fn stage(&self, stage: &str) {
        {
            let mut now = lock(&self.state.now);
            stage.clone_into(&mut now.stage);
            now.bytes = None;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_style(spinner());
                bar.set_message(stage.to_owned());
            }
            None => self.shared.line(&format!("  {}: {stage}", self.state.name)),
        }
    }

    /// Bytes of a download so far.
    pub fn bytes(&self, done: u64, total: u64) {
        lock(&self.state.now).bytes = Some((done, total));
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_style(byte_bar());
                bar.set_length(total);
            }
            bar.set_position(done);
        }
    }

    /// The log that the running command writes; its last line appears beside the stage on a terminal.
    pub fn follow(&self, log: &Path) {
        lock(&self.state.now).log = Some(log.to_path_buf());
    }

    /// The task is done: its bar goes, one line stays.
    pub fn done(self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.shared.line(&format!("  {}: {text} ({})", self.state.name, elapsed(self.state.start)));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("  {spinner} {prefix:<14} {elapsed:>4}  {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn byte_bar() -> ProgressStyle {
    ProgressStyle::with_template("  {spinner} {prefix:<14} {elapsed:>4}  [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Elapsed time in the shortest readable form.
#[must_use]
pub fn elapsed(start: Instant) -> String {
    seconds(start.elapsed())
}

/// A duration as `0.4 s`, `12 s` or `3 min 5 s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    let s = duration.as_secs();
    if s < 10 {
        format!("{:.1} s", duration.as_secs_f64())
    } else if s < 120 {
        format!("{s} s")
    } else {
        format!("{} min {} s", s / 60, s % 60)
    }
}

/// A size as `12 B`, `3.4 kB` or `28.3 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let c = count as f64;
    if count < 1000 {
        format!("{count} B")
    } else if count < 1_000_000 {
        format!("{:.1} kB", c / 1e3)
    } else {
        format!("{:.1} MB", c / 1e6)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(61)), "61 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(29_646_336), "29.6 MB");
    }
}

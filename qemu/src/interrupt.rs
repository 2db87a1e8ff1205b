//! Ctrl-C and SIGTERM: every process group that we started is ended, temporary files go, and the tool says so.
//!
//! Children run in process groups of their own (see [`crate::exec`]), so that the terminal's Ctrl-C reaches only this
//! process and one place decides what ends. Exception: an interactive QEMU must own the terminal (see [`crate::run`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that waits for signals. A second signal ends the tool at once.
///
/// # Errors
/// When signals cannot be handled.
pub fn install() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                let second = INTERRUPTED.swap(true, Ordering::SeqCst);
                let signal = if second { Signal::KILL } else { Signal::TERM };
                for &group in groups().iter() {
                    let _ = kill_process_group(group, signal);
                }
                if second {
                    std::process::exit(130);
                }
            }
        })
        .context("cannot start the signal thread")?;
    Ok(())
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Fails when the user asked to stop.
///
/// # Errors
/// "interrupted".
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// A running process group; ended with the guard, if it is still there, and on Ctrl-C.
pub struct Group(Pid);

impl Group {
    /// Registers the group that `child` leads.
    #[must_use]
    pub fn of(child: &std::process::Child) -> Self {
        let pid = Pid::from_child(child);
        groups().push(pid);
        if requested() {
            // The signal came between the last check and the start of this child.
            let _ = kill_process_group(pid, Signal::TERM);
        }
        Self(pid)
    }

    /// Sends SIGKILL to the whole group.
    pub fn kill(&self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        groups().retain(|p| *p != self.0);
        // Grandchildren that outlive their leader end here.
        self.kill();
    }
}

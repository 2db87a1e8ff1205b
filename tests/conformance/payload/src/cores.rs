//! The other cores: turned on when a check needs them, each runs one function at a time for the boot core.
#![expect(unsafe_code, reason = "a function goes to another core as a number")]

use crate::board;
use bulkhead_sdk::secondary_entry;
use conformance_testkit::spin::{ticks, ticks_per_millisecond};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Cores at the most.
pub const MAX: usize = 8;

/// How long another core is waited for: the emulator may have other things to do.
const PATIENCE_MS: u64 = 20_000;

/// What a core is asked to run.
pub type Job = fn(u64) -> u64;

struct Desk {
    job: AtomicUsize,
    argument: AtomicU64,
    result: AtomicU64,
    /// 0: not there, 1: idle, 2: has a job, 3: has a result.
    state: AtomicU64,
}

static DESKS: [Desk; MAX] =
    [const { Desk { job: AtomicUsize::new(0), argument: AtomicU64::new(0), result: AtomicU64::new(0), state: AtomicU64::new(0) } }; MAX];

const ABSENT: u64 = 0;
const IDLE: u64 = 1;
const ASKED: u64 = 2;
const DONE: u64 = 3;

/// Turns core `core` on, unless it is on. `false`: it did not come.
pub fn start(core: usize) -> bool {
    if DESKS[core].state.load(Ordering::Acquire) != ABSENT {
        return true;
    }
    let end = ticks() + PATIENCE_MS * ticks_per_millisecond();
    // A core that is about to leave is still on for a moment.
    while !board::cpu_on(core, secondary_entry(true), core as u64) {
        if ticks() > end {
            return false;
        }
    }
    wait_for(core, IDLE)
}

fn wait_for(core: usize, state: u64) -> bool {
    let end = ticks() + PATIENCE_MS * ticks_per_millisecond();
    while DESKS[core].state.load(Ordering::Acquire) != state {
        if ticks() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Gives an idle core something to run.
pub fn ask(core: usize, job: Job, argument: u64) {
    let desk = &DESKS[core];
    desk.job.store(job as usize, Ordering::Relaxed);
    desk.argument.store(argument, Ordering::Relaxed);
    desk.state.store(ASKED, Ordering::Release);
}

/// Its result, when it came.
pub fn result(core: usize) -> Option<u64> {
    wait_for(core, DONE).then(|| {
        let result = DESKS[core].result.load(Ordering::Relaxed);
        DESKS[core].state.store(IDLE, Ordering::Release);
        result
    })
}

/// Runs something on a core, which may be this one, core 0, and waits for its result.
pub fn on(core: usize, job: Job, argument: u64) -> Option<u64> {
    if core == 0 {
        return Some(job(argument));
    }
    ask(core, job, argument);
    result(core)
}

/// What a secondary core does.
pub fn serve(core: usize) -> ! {
    let desk = &DESKS[core % MAX];
    desk.state.store(IDLE, Ordering::Release);
    loop {
        while desk.state.load(Ordering::Acquire) != ASKED {
            core::hint::spin_loop();
        }
        let job = desk.job.load(Ordering::Relaxed);
        // SAFETY: `ask` stored a `Job`.
        let job: Job = unsafe { core::mem::transmute::<usize, Job>(job) };
        let result = job(desk.argument.load(Ordering::Relaxed));
        desk.result.store(result, Ordering::Relaxed);
        desk.state.store(DONE, Ordering::Release);
    }
}

/// Whether a core still runs what it was asked to.
pub fn is_at_work(core: usize) -> bool {
    DESKS[core].state.load(Ordering::Acquire) == ASKED
}

/// Turns an idle core off; [`start`] turns it on again. `false`: it stayed.
pub fn stop(core: usize) -> bool {
    ask(core, leave, core as u64);
    wait_for(core, ABSENT)
}

/// A job: turns the core off.
fn leave(core: u64) -> u64 {
    DESKS[core as usize].state.store(ABSENT, Ordering::Release);
    board::cpu_off();
    0
}

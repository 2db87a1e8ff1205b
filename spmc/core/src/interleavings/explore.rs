//! Tries schedules: half of them at random, half with few but deep changes of priority (PCT), which find what needs one core
//! to be late at a certain place. The seeds are fixed, so that what fails fails again.
//!
//! The variable `SCHEDULES` sets how many; `SEED` another start. A failure prints its schedule for `shuttle::replay`.

use crate::fake::Bench;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// Schedules of each test, unless `SCHEDULES` says otherwise.
const SCHEDULES: usize = 300;
/// Changes of priority of a PCT schedule.
const DEPTH: usize = 4;
/// Accesses of one schedule, at the most: more than that is a livelock.
const STEPS: usize = 100_000;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run(scheduler: impl Scheduler + 'static, test: Arc<dyn Fn() + Send + Sync>) {
    let mut config = Config::new();
    config.stack_size = 1 << 23;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || test());
}

/// Runs `test` in many schedules.
pub fn explore(test: impl Fn() + Send + Sync + 'static) {
    explore_times(1, test);
}

/// Runs `test` in `times` as many, for a mistake that takes a rare coincidence to show.
pub fn explore_times(times: usize, test: impl Fn() + Send + Sync + 'static) {
    let (schedules, seed) = (times * number("SCHEDULES", SCHEDULES), number("SEED", 0x5eed) as u64);
    let test: Arc<dyn Fn() + Send + Sync> = Arc::new(test);
    run(RandomScheduler::new_from_seed(seed, schedules.div_ceil(2)), test.clone());
    run(PctScheduler::new_from_seed(seed, DEPTH, schedules / 2), test);
}

/// Runs `test` in one schedule, for what no schedule changes.
pub fn explore_once(test: impl Fn() + Send + Sync + 'static) {
    run(RandomScheduler::new_from_seed(0, 1), Arc::new(test));
}

/// Runs `cores[n]` on core n, all at the same time; their results in order.
pub fn together<T: Send + 'static>(bench: &Bench, cores: Vec<Part<Bench, T>>) -> Vec<T> {
    at_once(cores.into_iter().enumerate().map(|(n, core)| (bench.on(n), core)).collect())
}

/// What a core does with what belongs to it.
pub type Part<B, T> = Box<dyn FnOnce(B) -> T + Send>;

/// Runs each of these with what belongs to it, all at the same time; their results in order.
pub fn at_once<B: Send + 'static, T: Send + 'static>(cores: Vec<(B, Part<B, T>)>) -> Vec<T> {
    let threads: Vec<_> = cores.into_iter().map(|(bench, core)| shuttle::thread::spawn(move || core(bench))).collect();
    threads.into_iter().map(|thread| thread.join().expect("no core finds fault")).collect()
}

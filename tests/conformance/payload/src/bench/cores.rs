//! What cores cost each other when all of them send direct requests: in turns and at once, for the host's plugin to count; and how many
//! more requests more cores get answered in the same time.
use super::{Operations, counted};
use crate::check::Outcome;
use crate::cores;
use crate::instance::Instance;
use crate::probes::SELF;
use crate::{board, ensure, pass, say};
use bulkhead_sdk::Line;
use bulkhead_sdk::call;
use bulkhead_sdk::ffa::function;
use bulkhead_sdk::message::{Convention, request};
use conformance_testkit::spin::{spin, ticks, ticks_per_millisecond};
use conformance_testkit::{Command, FURTHER, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL1};
use core::sync::atomic::{AtomicU64, Ordering};

/// What the plugin counts.
pub const COUNTED: &Operations = &[("in_turns", in_turns), ("at_once", at_once)];
/// What is timed.
pub const TIMED: &Operations = &[("rates", rates)];

/// Whom each of four cores asks.
struct Case {
    name: &'static str,
    targets: [Probe; CORES],
}

const CORES: usize = 4;
/// Core counts that are compared.
const COUNTS: [usize; 3] = [1, 2, CORES];
const CASES: [Case; 3] = [
    Case { name: "a vCPU each", targets: [PROBE_EL1; CORES] },
    Case { name: "a partition each", targets: [PROBE_EL1, VICTIM_EL1, FURTHER[0], FURTHER[2]] },
    // Only one core at a time can have it.
    Case { name: "one vCPU for all", targets: [PROBE_EL0; CORES] },
];
/// Requests of each core; the host leaves the first half out, in which tables are built and lines come from memory.
const TRIPS: u64 = 32;

/// Requests made in turns so far, or cores that are ready to begin at once.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// What a core is asked to do, in a word.
#[derive(Clone, Copy)]
struct Task {
    case: usize,
    cores: usize,
    core: usize,
}

impl Task {
    fn to_word(self) -> u64 {
        (self.case << 16 | self.cores << 8 | self.core) as u64
    }

    fn from_word(word: u64) -> Self {
        let byte = |n: u32| (word >> (8 * n)) as usize & 0xff;
        Self { case: byte(2), cores: byte(1), core: byte(0) }
    }

    /// One request of this core. Whether it was answered.
    #[inline(always)]
    fn trip(self) -> bool {
        let probe = CASES[self.case].targets[self.core];
        let regs = request(Convention::Direct64, SELF, probe.id, probe.uuid, &[Command::Echo as u64, 2, 3, 4]);
        counted(|| call(regs)).function() == function::MSG_SEND_DIRECT_RESP_64
    }
}

fn wait_for(progress: u64) {
    while PROGRESS.load(Ordering::Acquire) != progress {
        core::hint::spin_loop();
    }
}

/// Waits until all `cores` are here.
fn meet(cores: usize) {
    PROGRESS.fetch_add(1, Ordering::AcqRel);
    wait_for(cores as u64);
}

/// A job: requests in turns with the other cores. How many were not answered.
fn take_turns(word: u64) -> u64 {
    let task = Task::from_word(word);
    let mut failures = 0;
    for round in 0..TRIPS {
        wait_for(round * task.cores as u64 + task.core as u64);
        failures += u64::from(!task.trip());
        PROGRESS.fetch_add(1, Ordering::AcqRel);
    }
    failures
}

/// A job: requests while the other cores make theirs. How many were not answered.
fn rush(word: u64) -> u64 {
    let task = Task::from_word(word);
    meet(task.cores);
    (0..TRIPS).map(|_| u64::from(!task.trip())).sum()
}

/// Milliseconds of a measurement.
const SPAN: u64 = 60;
/// Times that each is measured: other programs of the host disturb some.
const MEASUREMENTS: usize = 7;

/// A job: requests for so long. How many were answered.
fn ask_on(word: u64) -> u64 {
    let task = Task::from_word(word);
    meet(task.cores);
    let end = ticks() + SPAN * ticks_per_millisecond();
    let mut trips = 0;
    while ticks() < end {
        trips += u64::from(task.trip());
    }
    trips
}

/// A job: computes for so long, and calls nobody. How far it got.
fn compute(word: u64) -> u64 {
    let task = Task::from_word(word);
    meet(task.cores);
    spin(SPAN, 1, || false).0
}

/// A job on the first `count` cores at a time: the sum of their results.
fn on_cores(count: usize, case: usize, job: cores::Job) -> Result<u64, Line> {
    let task = |core| Task { case, cores: count, core }.to_word();
    PROGRESS.store(0, Ordering::Release);
    for core in 1..count {
        ensure!(cores::start(core), "core {core} did not come");
        cores::ask(core, job, task(core));
    }
    let mut sum = job(task(0));
    for core in 1..count {
        let Some(result) = cores::result(core) else { return Err(Line::new(format_args!("core {core} does not come back"))) };
        sum += result;
    }
    Ok(sum)
}

fn repeat(operation: &str, cases: &[Case], job: cores::Job) -> Outcome {
    for (n, case) in cases.iter().enumerate() {
        for count in COUNTS {
            let failures = on_cores(count, n, job)?;
            ensure!(failures == 0, "{count} cores, {}: {failures} requests failed", case.name);
            let plural = if count == 1 { "" } else { "s" };
            say!("BENCH {} {operation} | {count} core{plural}, {}", TRIPS * count as u64, case.name);
        }
    }
    pass!("{} cases", cases.len() * COUNTS.len())
}

fn in_turns(_: Instance) -> Outcome {
    repeat("direct request, in turns", &CASES, take_turns)
}

fn at_once(_: Instance) -> Outcome {
    repeat("direct request, at once", &CASES[..2], rush)
}

fn rates(_: Instance) -> Outcome {
    let jobs: [(&str, usize, cores::Job); 3] = [("computing alone", 0, compute), (CASES[0].name, 0, ask_on), (CASES[1].name, 1, ask_on)];
    for _ in 0..MEASUREMENTS {
        for (name, case, job) in jobs {
            for count in COUNTS {
                let done = on_cores(count, case, job)?;
                say!("RATE {done} {count} {name}");
            }
        }
    }
    pass!("{MEASUREMENTS} times")
}

/// Turns cores on until there are `count`; the others than this one then wait for interrupts that do not come.
pub fn rest(count: usize) {
    for core in 1..count {
        if cores::start(core) {
            cores::ask(core, idle, 0);
        } else {
            say!("STEP bench.rest FAIL core {core} did not come");
        }
    }
}

fn idle(_: u64) -> u64 {
    loop {
        board::wait_for_interrupt();
    }
}

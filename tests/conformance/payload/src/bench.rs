//! Operations that the host counts instruction by instruction (`cargo xtask bench`). An operation lies between two markers,
//! hints that are NOPs to the CPU and that the host's plugin sees; it is repeated, and `BENCH <times> <operation> | <instance>`
//! says what the last so many were. `UNMEASURED <times> <operation> | <instance> | <problem>` says that they are not to be taken for that
//! operation, as it failed. Nothing here knows which SPMC is measured. The host chooses in the fw_cfg item
//! `opt/conformance/bench` what is repeated: `growth <cores>` a few operations with so many cores turned on, [`cores`] what several cores
//! cost each other, [`real`] calls of OP-TEE and StMM; all of this file without it.
#![expect(unsafe_code, reason = "a call without anything around it")]

mod cores;
mod real;

use crate::checks::{indirect, interrupts};
use crate::checks::memory::{give, give_back, retrieve_from, with_buffers};
use crate::check::{Outcome, Problem};
use crate::instance::{Instance, call_from};
use crate::probes::{SELF, describe, finish, resume, send};
use crate::fw_cfg::{self, Word};
use crate::{board, ensure, gic, pass, say};
use bulkhead_sdk::ffa::{Regs, Version, function};
use bulkhead_sdk::memory::{Kind, Range};
use bulkhead_sdk::message::{Convention, request, response_payload};
use bulkhead_sdk::{Line, PAGE, call};
use conformance_testkit::{Command, Drive, PROBE_EL0, PROBE_EL1, Probe};
use conformance_testkit::marked::marked;
use core::sync::atomic::{AtomicU32, Ordering};

/// One operation or several like it, by name.
type Operations = [(&'static str, fn(Instance) -> Outcome)];

const ALL: &Operations = &[
    ("discovery", discovery),
    ("direct_requests", direct_requests),
    ("bare_requests", bare_requests),
    ("nested_requests", nested_requests),
    ("run_of_a_waiting_partition", run_of_a_waiting_partition),
    ("yield_and_run", yield_and_run),
    ("preempted_requests", preempted_requests),
    ("secure_interrupts", secure_interrupts),
    ("notifications", notifications),
    ("indirect_messages", indirect_messages),
    ("memory_shares", memory_shares),
    ("memory_shares_among_others", memory_shares_among_others),
];

/// Those whose costs must not grow with the system.
const GROWTH: &Operations = &[
    ("discovery", discovery),
    ("direct_requests", direct_requests),
    ("run_of_a_waiting_partition", run_of_a_waiting_partition),
    ("preempted_requests", preempted_requests),
    ("notifications", notifications),
    ("smallest_memory_share", smallest_memory_share),
];

/// Runs what the host wants: `STEP bench.<name> PASS|FAIL <detail>` for each.
pub fn run() {
    let mut words = fw_cfg::item(b"opt/conformance/bench");
    let mut word = || words.as_mut().and_then(fw_cfg::Item::word);
    match word().as_ref().map(Word::as_str) {
        None => perform(ALL),
        Some("growth") => {
            cores::rest(word().and_then(|count| count.as_str().parse().ok()).unwrap_or(0));
            perform(GROWTH);
        }
        Some("cores") => perform(cores::COUNTED),
        Some("rates") => perform(cores::TIMED),
        Some("real") => perform(real::ALL),
        Some(other) => say!("STEP bench.choice FAIL nothing is called {other}"),
    }
}

fn perform(operations: &Operations) {
    for (name, operation) in operations {
        match operation(Instance::Ns) {
            Ok(remark) => say!("STEP bench.{name} PASS {remark}"),
            Err(Problem::Found(problem)) => say!("STEP bench.{name} FAIL {problem}"),
            Err(_) => say!("STEP bench.{name} FAIL it cannot be done here"),
        }
    }
}

const BOTH: [(Probe, &str); 2] = [(PROBE_EL1, "S-EL1"), (PROBE_EL0, "S-EL0")];
/// Times that an operation is repeated: the first is cold, the last is warm.
const TIMES: u32 = 16;
/// Normal memory that nobody uses, at a boundary of 2 MiB.
const UNUSED: u64 = 0x8000_0000;
const TAG: u64 = 0x7a67;
const BITS: u64 = 1;

/// What happens in `work` is counted.
#[inline(always)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    UNANNOUNCED.fetch_add(1, Ordering::Relaxed);
    marked(work)
}

/// Times that something was counted and the host was not told yet what it was.
static UNANNOUNCED: AtomicU32 = AtomicU32::new(0);

/// Repeats `once`, which has one [`counted`] operation, and says so; or says what kept it from being done.
fn repeat(operation: &str, instance: &str, mut once: impl FnMut() -> Result<(), Line>) {
    let done = (0..TIMES).try_for_each(|_| once());
    let times = UNANNOUNCED.swap(0, Ordering::Relaxed);
    match done {
        Ok(()) => say!("BENCH {times} {operation} | {instance}"),
        Err(problem) => say!("UNMEASURED {times} {operation} | {instance} | {problem}"),
    }
}

/// One call, which must be answered by `answer`.
fn one_call(regs: Regs, answer: u32) -> Result<(), Line> {
    let reply = counted(|| call(regs));
    ensure!(reply.function() == answer, "{}", describe(&reply));
    Ok(())
}

fn discovery(_: Instance) -> Outcome {
    repeat("FFA_VERSION", "-", || {
        let reply = counted(|| call(Regs::new(&[u64::from(function::VERSION), u64::from(Version::V1_2.0)])));
        ensure!(Version(reply.w(0)).major() == 1, "answered {:#x}", reply.0[0]);
        Ok(())
    });
    let requests = [u64::from(function::FEATURES), u64::from(function::MSG_SEND_DIRECT_REQ_64)];
    repeat("FFA_FEATURES", "-", || one_call(Regs::new(&requests), function::SUCCESS_32));
    repeat("FFA_ID_GET", "-", || one_call(Regs::new(&[u64::from(function::ID_GET)]), function::SUCCESS_32));
    let count = [u64::from(function::PARTITION_INFO_GET), 0, 0, 0, 0, 1];
    repeat("FFA_PARTITION_INFO_GET", "count", || one_call(Regs::new(&count), function::SUCCESS_32));
    let regs = [u64::from(function::PARTITION_INFO_GET_REGS)];
    repeat("FFA_PARTITION_INFO_GET_REGS", "all", || one_call(Regs::new(&regs), function::SUCCESS_64));
    pass!("5 calls")
}

fn direct_requests(_: Instance) -> Outcome {
    let conventions = [
        ("direct request", Convention::Direct64, function::MSG_SEND_DIRECT_RESP_64),
        ("direct request 2", Convention::Direct2, function::MSG_SEND_DIRECT_RESP2),
    ];
    for (name, convention, answer) in conventions {
        for (probe, instance) in BOTH {
            let regs = request(convention, SELF, probe.id, probe.uuid, &[Command::Echo as u64, 2, 3, 4]);
            repeat(name, instance, || one_call(regs, answer));
        }
    }
    pass!("both kinds, both partitions")
}

/// Requests between parties that do nothing else: what is left is what carries them.
fn bare_requests(_: Instance) -> Outcome {
    for (probe, instance) in BOTH {
        let first = send(&probe, Convention::Direct64, &[Command::Bounce as u64, u64::from(TIMES) + 1]);
        ensure!(first.function() == function::MSG_SEND_DIRECT_RESP_64, "{}", describe(&first));
        let regs = request(Convention::Direct64, SELF, probe.id, probe.uuid, &[11, 12, 13, 14, 15]);
        repeat("direct request, bare", instance, || {
            let reply = counted_bare(&regs);
            let answer = response_payload(Convention::Direct64, &reply);
            ensure!(answer == Some(&[11, 12, 13, 14, 15]), "{}", describe(&reply));
            Ok(())
        });
        let last = send(&probe, Convention::Direct64, &[Command::Nothing as u64]);
        ensure!(last.function() == function::MSG_SEND_DIRECT_RESP_64, "{}", describe(&last));
    }
    pass!("both partitions")
}

/// A call of which nothing but the SMC is counted here; x0 to x7 of its reply.
fn counted_bare(regs: &Regs) -> Regs {
    UNANNOUNCED.fetch_add(1, Ordering::Relaxed);
    let mut reply = Regs::default();
    let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = &mut reply.0;
    // SAFETY: the hints do nothing, and what an FF-A call may change is named.
    unsafe {
        core::arch::asm!(
            "hint #0x7e", "smc #0", "hint #0x7f",
            inout("x0") regs.0[0] => *x0, inout("x1") regs.0[1] => *x1, inout("x2") regs.0[2] => *x2, inout("x3") regs.0[3] => *x3,
            inout("x4") regs.0[4] => *x4, inout("x5") regs.0[5] => *x5, inout("x6") regs.0[6] => *x6, inout("x7") regs.0[7] => *x7,
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack)
        );
    }
    reply
}

/// From partition to partition.
fn nested_requests(_: Instance) -> Outcome {
    for (from, to, instance) in [(PROBE_EL1, PROBE_EL0, "S-EL1 asks S-EL0"), (PROBE_EL0, PROBE_EL1, "S-EL0 asks S-EL1")] {
        let regs = request(Convention::Direct64, SELF, from.id, from.uuid, &[Command::Nested as u64, u64::from(to.id.0), 7]);
        repeat("direct request, between partitions", instance, || {
            // The partition that asks counts.
            UNANNOUNCED.fetch_add(1, Ordering::Relaxed);
            let reply = call(regs);
            let answer = response_payload(Convention::Direct64, &reply).map(|words| words[0]);
            ensure!(answer == Some(u64::from(function::MSG_SEND_DIRECT_RESP_64)), "{}", describe(&reply));
            Ok(())
        });
    }
    pass!("both ways round")
}

fn run_of_a_waiting_partition(_: Instance) -> Outcome {
    for (probe, instance) in BOTH {
        let regs = Regs::new(&[u64::from(function::RUN), u64::from(probe.id.0) << 16]);
        repeat("FFA_RUN, waiting", instance, || one_call(regs, function::MSG_WAIT));
    }
    pass!("both partitions")
}

fn yield_and_run(_: Instance) -> Outcome {
    for (probe, instance) in BOTH {
        let mut yielded = send(&probe, Convention::Direct64, &[Command::Yield as u64, u64::from(TIMES) + 1]);
        repeat("FFA_RUN, then FFA_YIELD", instance, || {
            ensure!(yielded.function() == function::YIELD, "{}", describe(&yielded));
            yielded = counted(|| resume(&yielded));
            Ok(())
        });
        let answer = finish(yielded);
        ensure!(answer.function() == function::MSG_SEND_DIRECT_RESP_64, "{}", describe(&answer));
    }
    pass!("both partitions")
}

/// An interrupt is pending when the partition is entered: it goes back at once, the normal world takes the interrupt and resumes it.
fn preempted_requests(_: Instance) -> Outcome {
    for (probe, instance) in BOTH {
        let regs = request(Convention::Direct64, SELF, probe.id, probe.uuid, &[Command::Echo as u64, 2, 3, 4]);
        repeat("interrupt, then FFA_RUN", instance, || {
            let before = gic::timer_interrupts();
            gic::start_timer_once(0);
            board::wait_for_interrupt();
            let (first, last) = counted(|| {
                let first = call(regs);
                board::interrupts(true);
                board::interrupts(false);
                (first, resume(&first))
            });
            ensure!(first.function() == function::INTERRUPT, "{}", describe(&first));
            ensure!(gic::timer_interrupts() == before + 1, "{} interrupts came", gic::timer_interrupts() - before);
            ensure!(last.function() == function::MSG_SEND_DIRECT_RESP_64, "{}", describe(&last));
            Ok(())
        });
    }
    gic::stop_timer();
    pass!("both partitions")
}

/// A partition's timer fires while the partition waits and the normal world waits for an interrupt.
fn secure_interrupts(_: Instance) -> Outcome {
    const TIMER: u64 = 3;
    const PHYSICAL: u64 = 1;
    interrupts::enable(TIMER)?;
    repeat("secure interrupt, waiting", "S-EL1", || {
        let before = interrupts::drive(&[Drive::TAKEN])?[0];
        interrupts::drive(&[Drive::TIMER, PHYSICAL, 1, 0])?;
        // If it does not come, this one ends the wait.
        gic::start_timer_once(100_000);
        counted(board::wait_for_interrupt);
        gic::stop_timer();
        let taken = interrupts::drive(&[Drive::TAKEN])?[0] - before;
        ensure!(taken == 1, "taken {taken} times");
        Ok(())
    });
    interrupts::disable(TIMER)?;
    pass!("1 ms after it was asked for")
}

/// A call by which the partition takes part in setting up, with interrupts let in: its notifications raise one.
fn prepare(regs: &[u64]) -> Result<(), Line> {
    board::interrupts(true);
    let reply = call_from(&PROBE_EL1, regs);
    board::interrupts(false);
    let reply = reply?;
    ensure!(reply.as_error().is_none(), "{}: {}", function::name(regs[0] as u32).unwrap_or("?"), describe(&reply));
    Ok(())
}

fn own(regs: &[u64]) -> Result<(), Line> {
    let reply = call(Regs::new(regs));
    ensure!(reply.as_error().is_none(), "{}: {}", function::name(regs[0] as u32).unwrap_or("?"), describe(&reply));
    Ok(())
}

fn notifications(_: Instance) -> Outcome {
    let id = u64::from(PROBE_EL1.id.0);
    own(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 1])?;
    own(&[u64::from(function::NOTIFICATION_BIND), id << 16, 0, BITS, 0])?;
    prepare(&[u64::from(function::NOTIFICATION_BIND), id, 0, BITS, 0])?;
    let set = [u64::from(function::NOTIFICATION_SET), id, 0, BITS, 0];
    let to_normal_world = [u64::from(function::NOTIFICATION_SET), id << 16, 0, BITS, 0];
    let get = [u64::from(function::NOTIFICATION_GET), 0, 1];
    let information = [u64::from(function::NOTIFICATION_INFO_GET_64)];
    repeat("FFA_NOTIFICATION_SET", "to S-EL1", || {
        one_call(Regs::new(&set), function::SUCCESS_32)?;
        prepare(&[u64::from(function::NOTIFICATION_GET), id, 2])
    });
    repeat("FFA_NOTIFICATION_INFO_GET", "one pending", || {
        prepare(&to_normal_world)?;
        one_call(Regs::new(&information), function::SUCCESS_64)?;
        own(&get)
    });
    repeat("FFA_NOTIFICATION_GET", "one pending", || {
        prepare(&to_normal_world)?;
        one_call(Regs::new(&get), function::SUCCESS_32)
    });
    prepare(&[u64::from(function::NOTIFICATION_UNBIND), id, 0, BITS, 0])?;
    own(&[u64::from(function::NOTIFICATION_UNBIND), id << 16, 0, BITS, 0])?;
    pass!("set, asked for and got")
}

fn indirect_messages(_: Instance) -> Outcome {
    indirect::with_buffers(|| {
        for (probe, instance) in [(PROBE_EL1, "to S-EL1"), (PROBE_EL0, "to S-EL0")] {
            repeat("FFA_MSG_SEND2", instance, || {
                indirect::prepare(SELF, probe.id);
                // The interrupt that tells of it is taken afterwards.
                board::interrupts(false);
                let sent = one_call(Regs::new(&[u64::from(function::MSG_SEND2)]), function::SUCCESS_32);
                board::interrupts(true);
                sent?;
                // The one at S-EL0 takes no notifications, and is told of none.
                let _ = indirect::told(&probe)?;
                ensure!(indirect::release_by(&probe)?, "{} could not release RX", probe.name);
                Ok(())
            });
        }
        pass!("to both partitions")
    })
}

/// Share, then by request to the partition retrieve and relinquish, then reclaim.
fn share_cycle(probe: &Probe, ranges: &[Range]) -> Result<(), Line> {
    let handle = give(Kind::Share, probe, ranges, PAGE).map_err(|s| Line::new(format_args!("MEM_SHARE: {s:?}")))?;
    let [_, pages, ..] = retrieve_from(probe, Kind::Share, handle, SELF, TAG)?;
    let shared: u32 = ranges.iter().map(|range| range.pages).sum();
    ensure!(pages == u64::from(shared), "{pages} pages came of {shared}");
    give_back(probe, handle)
}

fn smallest_memory_share(_: Instance) -> Outcome {
    with_buffers(|| {
        let ranges = [Range { address: UNUSED, pages: 1 }];
        for (probe, instance) in [(PROBE_EL1, "S-EL1, 1 page"), (PROBE_EL0, "S-EL0, 1 page")] {
            repeat("share cycle", instance, || counted(|| share_cycle(&probe, &ranges)));
        }
        pass!("1 page")
    })
}

/// Shares of all sizes with these partitions; `beside` says what else is shared meanwhile.
fn share_cycles(probes: &[(Probe, &str)], beside: &str) {
    let scattered: [Range; 128] = core::array::from_fn(|n| Range { address: UNUSED + (2 * n * PAGE) as u64, pages: 1 });
    let long: [Range; 512] = core::array::from_fn(|n| Range { address: UNUSED + (9 * n * PAGE) as u64, pages: 8 });
    let cases: [(&[Range], &str); 5] = [
        (&[Range { address: UNUSED, pages: 1 }], "1 page"),
        (&[Range { address: UNUSED, pages: 512 }], "512 pages at 2 MiB"),
        (&[Range { address: UNUSED + PAGE as u64, pages: 512 }], "512 pages at 2 MiB + 4 KiB"),
        (&scattered, "128 scattered pages"),
        (&long, "4,096 pages in fragments"),
    ];
    for (ranges, size) in cases {
        for (probe, level) in probes {
            repeat("share cycle", Line::new(format_args!("{level}, {size}{beside}")).as_str(), || counted(|| share_cycle(probe, ranges)));
        }
    }
}

fn memory_shares(_: Instance) -> Outcome {
    with_buffers(|| {
        share_cycles(&BOTH, "");
        pass!("all sizes, both partitions")
    })
}

/// Where other shares are, far from [`UNUSED`].
const ELSEWHERE: u64 = UNUSED + 0x400_0000;
/// Shares that stay meanwhile.
const ALIVE: usize = 1000;

/// While `count` other pages from `first` on, every second one, are shared with the one at S-EL1.
fn beside_others(count: usize, first: u64, work: impl FnOnce()) -> Result<(), Line> {
    let mut handles = [0; ALIVE];
    for (n, handle) in handles[..count].iter_mut().enumerate() {
        let ranges = [Range { address: first + (2 * n * PAGE) as u64, pages: 1 }];
        *handle = give(Kind::Share, &PROBE_EL1, &ranges, PAGE).map_err(|s| Line::new(format_args!("share {n}: {s:?}")))?;
        retrieve_from(&PROBE_EL1, Kind::Share, *handle, SELF, TAG)?;
    }
    work();
    handles[..count].iter().try_for_each(|handle| give_back(&PROBE_EL1, *handle))
}

fn memory_shares_among_others(_: Instance) -> Outcome {
    let ranges = [Range { address: UNUSED, pages: 1 }];
    let once = |instance| repeat("share cycle", instance, || counted(|| share_cycle(&PROBE_EL1, &ranges)));
    // With one neighbour already, the tables of the neighbourhood stay.
    let neighbours = UNUSED + 2 * PAGE as u64;
    with_buffers(|| {
        beside_others(1, neighbours, || once("S-EL1, 1 page beside 1 neighbour"))?;
        beside_others(ALIVE, neighbours, || once("S-EL1, 1 page beside 1,000 neighbours"))?;
        beside_others(ALIVE, ELSEWHERE, || share_cycles(&BOTH[..1], " beside 1,000 shares"))?;
        pass!("beside 1 and 1,000")
    })
}

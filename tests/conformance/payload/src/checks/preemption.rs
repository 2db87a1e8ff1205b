//! Interrupts of the normal world while a partition runs, and FFA_RUN.

use super::prelude::*;
use crate::probes::{ask, begin, describe, finish, results, resume, resumed, send, serves};
use crate::{board, cores, gic};
use bulkhead_sdk::call;
use bulkhead_sdk::ffa::{Regs, Status, function};
use bulkhead_sdk::message::Convention;
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe};

checks! { "preemption":
    "9.2" interrupt_returns_the_core_and_run_resumes [Ns] ANY "FFA_INTERRUPT that names the partition; FFA_RUN resumes it";
    "14.3" interrupted_partition_is_busy_for_others [Ns] ANY "BUSY";
    "9.2" many_interrupts_lose_nothing [Ns] ANY "no register changed";
    "8.3" interrupted_chain_resumes_at_its_tail [Ns] ANY "the response of the chain's tail";
    "14.3" interrupted_partition_moves_to_another_core [Ns] ANY "FFA_RUN resumes it there";
    "14.3" pinned_vcpu_is_resumed_by_its_core_only [Ns] ANY "INVALID_PARAMETERS or DENIED on another core";
    "14.3" chain_with_a_pinned_vcpu_is_resumed_by_its_core_only [Ns] SINCE_1_2 "INVALID_PARAMETERS or DENIED on another core";
    "14.3" run_of_a_waiting_partition_returns_at_its_wait [Ns] ANY "FFA_MSG_WAIT";
}

const BOTH: [Probe; 2] = [PROBE_EL1, PROBE_EL0];

/// Milliseconds that are long enough for an interrupt to come, whatever else the emulator's machine is busy with.
const LONG: u64 = 500;

pub fn interrupt_returns_the_core_and_run_resumes(_: Instance) -> Outcome {
    for probe in BOTH {
        let before = gic::timer_interrupts();
        gic::start_timer_once(5_000);
        let reply = begin(&probe, Command::Spin, &[LONG, 3]);
        let pending = gic::timer_interrupts();
        board::interrupts(true);
        board::interrupts(false);
        gic::stop_timer();
        let after = gic::timer_interrupts();
        let is_interrupt = reply.function() == function::INTERRUPT;
        let first = describe(&reply);
        let target = reply.w(1);
        let reply = if is_interrupt { finish(resume(&reply)) } else { reply };
        ensure!(is_interrupt, "{}: {first}", probe.name);
        ensure!(target == u32::from(probe.id.0) << 16, "FFA_INTERRUPT names {target:#x}");
        ensure!(pending == before && after == before + 1, "{}: the interrupt was taken {} times", probe.name, after - before);
        let words = results(&probe, &reply);
        ensure!(words.is_some_and(|w| w[0] > 0 && w[1] == 0), "{}: {}", probe.name, describe(&reply));
    }
    pass!("both partitions")
}

fn interrupted_partition_is_busy_for_others(_: Instance) -> Outcome {
    for probe in BOTH {
        gic::start_timer_once(3_000);
        let reply = begin(&probe, Command::Spin, &[LONG, 3]);
        gic::stop_timer();
        let busy = send(&probe, Convention::Direct64, &[Command::Echo as u64]);
        let is_interrupt = reply.function() == function::INTERRUPT;
        let last = finish(reply);
        ensure!(is_interrupt, "{}: no interrupt", probe.name);
        ensure!(busy.as_error() == Some(Status::Busy), "{}: {}", probe.name, describe(&busy));
        ensure!(last.as_error().is_none(), "{}: {}", probe.name, describe(&last));
    }
    pass!("BUSY")
}

fn many_interrupts_lose_nothing(_: Instance) -> Outcome {
    let before = resumed();
    for probe in BOTH {
        gic::start_timer(500);
        let result = ask(&probe, Command::Spin, &[200, 11]);
        gic::stop_timer();
        let words = result?;
        ensure!(words[1] == 0, "{}: {} registers changed", probe.name, words[1]);
    }
    let count = resumed() - before;
    ensure!(count >= 3, "only {count} interrupts came");
    pass!("{count} times interrupted")
}

fn interrupted_chain_resumes_at_its_tail(_: Instance) -> Outcome {
    for (head, tail) in [(PROBE_EL1, PROBE_EL0), (PROBE_EL0, PROBE_EL1)] {
        let before = resumed();
        // On a host with other work the emulator's timer may miss a whole request: a few more give it another chance.
        for _ in 0..8 {
            gic::start_timer(500);
            let ids = u64::from(head.id.0) << 16 | u64::from(tail.id.0);
            let spin = [u64::from(function::MSG_SEND_DIRECT_REQ_64), ids, 0, Command::Spin as u64, LONG, 5];
            let reply = call_from(&head, &spin);
            gic::stop_timer();
            let reply = reply?;
            ensure!(reply.function() == function::MSG_SEND_DIRECT_RESP_64, "{}: {}", head.name, describe(&reply));
            ensure!(reply.0[3] > 0 && reply.0[4] == 0, "{}: {} registers changed", tail.name, reply.0[4]);
            if resumed() > before {
                break;
            }
        }
        ensure!(resumed() > before, "no interrupt came");
        serves(&head)?;
        serves(&tail)?;
    }
    pass!("both ways round")
}

/// On another core: FFA_RUN of the target, once; the status, or 0 where there was none.
fn run_once(target: u64) -> u64 {
    let reply = call(Regs::new(&[u64::from(function::RUN), target]));
    reply.as_error().map_or(0, Status::code)
}

/// On another core: FFA_RUN of the target until it answers; registers that changed.
fn run_to_the_end(target: u64) -> u64 {
    let reply = finish(call(Regs::new(&[u64::from(function::RUN), target])));
    results(&PROBE_EL0, &reply).map_or(u64::MAX, |words| words[1])
}

fn interrupted_partition_moves_to_another_core(_: Instance) -> Outcome {
    ensure!(cores::start(1) && cores::start(2), "no more cores");
    for core in [1, 2] {
        gic::start_timer_once(5_000);
        let reply = begin(&PROBE_EL0, Command::Spin, &[LONG, 21]);
        gic::stop_timer();
        ensure!(reply.function() == function::INTERRUPT, "{}", describe(&reply));
        cores::ask(core, run_to_the_end, u64::from(reply.w(1)));
        let changed = cores::result(core);
        ensure!(changed == Some(0), "core {core}: {changed:x?} registers changed");
        serves(&PROBE_EL0)?;
    }
    pass!("to cores 1 and 2")
}

/// Resumes what an interrupt took from this core: core 1 is refused, here it goes on to its answer.
fn finish_here_alone(reply: &Regs) -> Result<Regs, Problem> {
    cores::ask(1, run_once, u64::from(reply.w(1)));
    let elsewhere = cores::result(1).map(|code| Status::from_code(code as u32));
    let last = finish(resume(reply));
    ensure!(matches!(elsewhere, Some(Some(Status::InvalidParameters | Status::Denied))), "core 1 gets {elsewhere:?}");
    Ok(last)
}

fn pinned_vcpu_is_resumed_by_its_core_only(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    gic::start_timer_once(5_000);
    let reply = begin(&PROBE_EL1, Command::Spin, &[LONG, 22]);
    gic::stop_timer();
    ensure!(reply.function() == function::INTERRUPT, "{}", describe(&reply));
    let last = finish_here_alone(&reply)?;
    let words = results(&PROBE_EL1, &last);
    ensure!(words.is_some_and(|w| w[1] == 0), "{}", describe(&last));
    pass!("refused on core 1, resumed on core 0")
}

/// The head may run on any core, the partition that it asked has a vCPU for each. The interrupt comes late, as a chain that is not whole yet, on a
/// busy machine, may go on anywhere.
fn chain_with_a_pinned_vcpu_is_resumed_by_its_core_only(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    gic::start_timer_once(LONG * 1_000 / 2);
    let ids = u64::from(PROBE_EL0.id.0) << 16 | u64::from(PROBE_EL1.id.0);
    let spin = [u64::from(function::MSG_SEND_DIRECT_REQ_64), ids, 0, Command::Spin as u64, LONG, 23];
    let reply = begin(&PROBE_EL0, Command::Call, &spin);
    gic::stop_timer();
    ensure!(reply.function() == function::INTERRUPT, "{}", describe(&reply));
    let last = finish_here_alone(&reply)?;
    let words = results(&PROBE_EL0, &last);
    let answered = |w: &[u64]| w[0] == u64::from(function::MSG_SEND_DIRECT_RESP_64) && w[3] > 0 && w[4] == 0;
    ensure!(words.is_some_and(answered), "{}", describe(&last));
    pass!("refused on core 1, resumed on core 0")
}

fn run_of_a_waiting_partition_returns_at_its_wait(_: Instance) -> Outcome {
    for probe in BOTH {
        let reply = call(Regs::new(&[u64::from(function::RUN), u64::from(probe.id.0) << 16]));
        ensure!(reply.function() == function::MSG_WAIT, "{}: {}", probe.name, describe(&reply));
        serves(&probe)?;
    }
    pass!("FFA_MSG_WAIT")
}

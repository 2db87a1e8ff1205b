//! The other two answers to a normal-world interrupt that a manifest may choose: `victim-el1` is asked for a managed exit,
//! for `victim-el0` interrupts wait.

use super::prelude::*;
use crate::probes::{ask_for_error, begin, describe, results, serves};
use crate::{gic, say};
use bulkhead_sdk::ffa::Status;
use conformance_testkit::spin::{ticks, ticks_per_millisecond};
use conformance_testkit::{Command, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "managed-exit":
    "9.2" managed_exit_ends_the_request_soon [Ns] ANY "the partition is asked to leave, and answers";
    "9.2" interrupt_waits_for_a_partition_that_queues_it [Ns] ANY "the interrupt comes after the answer";
    "9.2" partition_that_holds_interrupts_too_long_is_ended [Ns] ANY "ABORTED";
}

/// Computes in a partition while the timer fires once: the response, the milliseconds it took, the interrupts taken
/// meanwhile and those taken afterwards.
fn compute(probe: &Probe, milliseconds: u64) -> Result<([u64; 3], u64, u64, u64), bulkhead_sdk::Line> {
    let before = gic::timer_interrupts();
    gic::start_timer_once(5_000);
    let start = ticks();
    let reply = begin(probe, Command::Spin, &[milliseconds, 1]);
    let took = (ticks() - start) / ticks_per_millisecond();
    let meanwhile = gic::timer_interrupts() - before;
    gic::stop_timer();
    let in_all = gic::timer_interrupts() - before;
    let Some(words) = results(probe, &reply) else {
        return Err(bulkhead_sdk::Line::new(format_args!("{}: {}", probe.name, describe(&reply))));
    };
    Ok(([words[0], words[1], words[2]], took, meanwhile, in_all - meanwhile))
}

fn managed_exit_ends_the_request_soon(_: Instance) -> Outcome {
    for _ in 0..3 {
        let ([_, wrong, asked], took, meanwhile, later) = compute(&VICTIM_EL1, 20_000)?;
        ensure!(asked == 1 && wrong == 0, "asked for a managed exit: {asked}, {wrong} registers changed");
        ensure!(took < 15_000, "the request took {took} ms");
        ensure!((meanwhile, later) == (0, 1), "{meanwhile} interrupts meanwhile, {later} afterwards");
    }
    serves(&VICTIM_EL1)?;
    pass!("3 times")
}

fn interrupt_waits_for_a_partition_that_queues_it(_: Instance) -> Outcome {
    let ([turns, wrong, _], took, meanwhile, later) = compute(&VICTIM_EL0, 60)?;
    ensure!(turns > 0 && wrong == 0 && took >= 60, "{turns} turns in {took} ms, {wrong} registers changed");
    ensure!((meanwhile, later) == (0, 1), "{meanwhile} interrupts meanwhile, {later} afterwards");
    pass!("the interrupt came after {took} ms")
}

fn partition_that_holds_interrupts_too_long_is_ended(_: Instance) -> Outcome {
    gic::start_timer_once(5_000);
    let status = ask_for_error(&VICTIM_EL0, Command::Spin, &[60_000, 1]);
    gic::stop_timer();
    let status = status?;
    ensure!(status == Status::Aborted, "{status:?}");
    say!("ENDED {} | time", VICTIM_EL0.name);
    serves(&VICTIM_EL1)?;
    serves(&PROBE_EL1)?;
    pass!("ABORTED, the others serve")
}

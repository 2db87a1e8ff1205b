//! Boots in which both victims do wrong while they initialise: they are ended, and the other two partitions come up.

use crate::check::{Check, Outcome};
use crate::probes::{describe, send, serves};
use crate::{ensure, pass};
use bulkhead_sdk::ffa::Status;
use bulkhead_sdk::message::Convention;
use bulkhead_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

/// A group that needs a system of its own.
pub const CHECKS: &[Check] = &[
    Check { group: "init", name: "others_serve", run: others_serve },
    Check { group: "init", name: "ended_partition_answers_aborted", run: ended_partition_answers_aborted },
    Check { group: "init", name: "second_ended_partition_answers_aborted", run: second_ended_partition_answers_aborted },
];

fn others_serve() -> Outcome {
    serves(&PROBE_EL1)?;
    serves(&PROBE_EL0)?;
    pass!("{} and {}", PROBE_EL1.name, PROBE_EL0.name)
}

fn gone(probe: &Probe) -> Outcome {
    let reply = send(probe, Convention::Direct64, &[Command::Echo as u64]);
    ensure!(reply.as_error() == Some(Status::Aborted), "{}: {}", probe.name, describe(&reply));
    pass!("{}: ABORTED", probe.name)
}

fn ended_partition_answers_aborted() -> Outcome {
    gone(&VICTIM_EL1)
}

fn second_ended_partition_answers_aborted() -> Outcome {
    gone(&VICTIM_EL0)
}

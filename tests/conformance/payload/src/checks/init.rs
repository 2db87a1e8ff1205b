//! Boots in which both victims do wrong while they initialise: they are ended, and the other two partitions come up.

use super::prelude::*;
use crate::probes::{describe, send, serves};
use bulkhead_sdk::ffa::Status;
use bulkhead_sdk::message::Convention;
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "init-1":
    "5.5" others_serve_beside_a_loop_and_a_fault [Ns] ANY "both serve" = others_serve;
    "5.5" partition_that_never_ends_its_initialisation_is_aborted [Ns] ANY "ABORTED" = |_| gone(&VICTIM_EL1);
    "5.5" partition_that_faults_in_its_initialisation_is_aborted [Ns] ANY "ABORTED" = |_| gone(&VICTIM_EL0);
}

/// The other way of ending wrongly.
pub mod second {
    use super::*;

    checks! { "init-2":
        "5.5" others_serve_beside_an_error_and_a_wrong_answer [Ns] ANY "both serve" = others_serve;
        "5.5" partition_whose_initialisation_reports_an_error_is_aborted [Ns] ANY "ABORTED" = |_| gone(&VICTIM_EL1);
        "5.5" partition_that_answers_a_request_nobody_made_is_aborted [Ns] ANY "ABORTED" = |_| gone(&VICTIM_EL0);
    }
}

fn others_serve(_: Instance) -> Outcome {
    serves(&PROBE_EL1)?;
    serves(&PROBE_EL0)?;
    pass!("{} and {}", PROBE_EL1.name, PROBE_EL0.name)
}

fn gone(probe: &Probe) -> Outcome {
    let reply = send(probe, Convention::Direct64, &[Command::Echo as u64]);
    ensure!(reply.as_error() == Some(Status::Aborted), "{}: {}", probe.name, describe(&reply));
    pass!("{}: ABORTED", probe.name)
}

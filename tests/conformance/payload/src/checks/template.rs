//! The partition of `partitions/template`.

use super::prelude::*;
use crate::probes::{finish, send};
use bulkhead_sdk::ffa::{EndpointId, Uuid};
use bulkhead_sdk::message::{Convention, response_payload};
use conformance_testkit::Probe;

checks! { "template":
    "15.2" template_partition_adds [Ns] SINCE_1_2 "the sum";
}

/// `partitions/template`.
const ADDER: Probe = Probe {
    name: "adder",
    id: EndpointId(0x8002),
    uuid: Uuid([0x0a, 0xdd, 0x0a, 0xdd, 0x12, 0x34, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67]),
    load_address: 0x0ec0_0000,
    s_el0: true,
};

fn template_partition_adds(_: Instance) -> Outcome {
    for convention in [Convention::Direct64, Convention::Direct2] {
        let reply = finish(send(&ADDER, convention, &[1, 2, 3, 4]));
        let sum = response_payload(convention, &reply).map(|words| words[0]);
        ensure!(sum == Some(10), "{convention:?}: {sum:?}");
    }
    pass!("1 + 2 + 3 + 4 = 10")
}

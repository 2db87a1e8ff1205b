//! Answers that SPMCs are known to differ in, where the specification names one: what other suites ask for, too.

use super::notifications::need_bitmap;
use super::prelude::*;
use bulkhead_sdk::ffa::descriptor::{access, message, transaction};
use bulkhead_sdk::ffa::{EndpointId, Status, Version, function};
use bulkhead_sdk::memory::{self, Borrower, Description, Kind, READ_WRITE, Range};
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use crate::probes::SELF;

checks! { "codes":
    "13.2" later_version_is_refused_once_another_is_settled [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "13.3" retrieving_without_the_ns_bit_is_no_feature [SEl1 SEl0] SINCE_1_1 "NOT_SUPPORTED";
    "14.3" partition_does_not_run_the_normal_world [SEl1 SEl0] ANY "DENIED";
    "15.1" message_for_a_service_that_nobody_offers_is_invalid [Ns SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS";
    "16.5" notification_is_not_signalled_as_the_other_kind [SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.6" notifications_of_an_impossible_vcpu_are_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "DEN0140 2.4" retrieve_request_ends_with_its_borrowers [SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS for one that is longer";
}

static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

fn later_version_is_refused_once_another_is_settled(at: Instance) -> Outcome {
    at.call(&[function::FEATURES.into(), function::RXTX_MAP_64.into()])?;
    let reply = at.call(&[function::VERSION.into(), Version::new(1, 0x70).0.into()])?;
    expect!(u64::from(reply.w(0)), Status::NotSupported.code());
    pass!("1.112 refused")
}

fn retrieving_without_the_ns_bit_is_no_feature(at: Instance) -> Outcome {
    for id in [function::MEM_RETRIEVE_REQ_32, function::MEM_RETRIEVE_REQ_64] {
        let result = at.status(&[function::FEATURES.into(), id.into()])?;
        expect!(result, Err(Status::NotSupported), "for {id:#x}");
    }
    pass!("both conventions")
}

fn partition_does_not_run_the_normal_world(at: Instance) -> Outcome {
    for id in [0, 1] {
        expect!(at.status(&[function::RUN.into(), id << 16])?, Err(Status::Denied), "for endpoint {id}");
    }
    pass!("DENIED")
}

fn message_for_a_service_that_nobody_offers_is_invalid(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let (_, tx) = at.buffers()?;
        let ends = u64::from(at.id().0) << 16 | u64::from(at.other().id.0);
        let words = [0, message::HEADER_SIZE_V1_2 as u64 | ends << 32, 8, 0xeeee_eeee, 0xeeee_eeee, 0];
        for (n, word) in words.into_iter().enumerate() {
            at.write(tx + 8 * n as u64, word)?;
        }
        expect!(at.status(&[function::MSG_SEND2.into()])?, Err(Status::InvalidParameters));
        pass!("INVALID_PARAMETERS")
    })
}

fn notification_is_not_signalled_as_the_other_kind(at: Instance) -> Outcome {
    need_bitmap()?;
    let (ends, bits) = (u64::from(at.id().0) << 16, 0x4000);
    for (kind, other) in [(0, 1), (1, 0)] {
        let bound = Instance::Ns.status(&[function::NOTIFICATION_BIND.into(), ends, kind, bits, 0])?;
        ensure!(bound.is_ok(), "bind with flags {kind}: {bound:?}");
        let set = at.status(&[function::NOTIFICATION_SET.into(), ends, other, bits, 0])?;
        let unbound = Instance::Ns.status(&[function::NOTIFICATION_UNBIND.into(), ends, 0, bits, 0])?;
        expect!(set, Err(Status::InvalidParameters), "bound with flags {kind}, set with flags {other}");
        ensure!(unbound.is_ok(), "unbind: {unbound:?}");
    }
    pass!("neither way")
}

fn notifications_of_an_impossible_vcpu_are_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    let result = at.status(&[function::NOTIFICATION_GET.into(), 0xffff_0000 | u64::from(at.id().0), 3])?;
    expect!(result, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn retrieve_request_ends_with_its_borrowers(at: Instance) -> Outcome {
    let text = |what: &str, status: Status| Line::new(format_args!("{what}: {status:?}"));
    MAILBOX.map().map_err(|status| text("map", status))?;
    let borrowers = [Borrower { id: at.id(), permissions: READ_WRITE }];
    let ranges = [Range { address: PAGE_A.address(), pages: 1 }];
    let v1_0 = Instance::Ns.version() < Version::V1_1;
    let shared = memory::send(Kind::Share, &MAILBOX, &Description { v1_0, ..Description::lender(SELF, &borrowers, &ranges) }, PAGE);
    let _ = MAILBOX.unmap();
    let handle = shared.map_err(|status| text("share", status))?;
    let outcome = too_long(at, SELF, handle);
    memory::reclaim(handle, 0).map_err(|status| text("reclaim", status))?;
    outcome
}

/// A right request, but for its length.
fn too_long(at: Instance, sender: EndpointId, handle: u64) -> Outcome {
    let (_, tx) = at.buffers()?;
    let access = u64::from(at.id().0) | u64::from(READ_WRITE) << 16;
    let words = [
        u64::from(sender.0), handle, 0, access::SIZE_V1_1 as u64 | 1 << 32, transaction::SIZE as u64, 0, access, 0, 0,
    ];
    for (n, word) in words.into_iter().enumerate() {
        at.write(tx + 8 * n as u64, word)?;
    }
    let length = (transaction::SIZE + access::SIZE_V1_1) as u64;
    for more in [1, 8] {
        let result = at.status(&[function::MEM_RETRIEVE_REQ_32.into(), length + more, length + more])?;
        expect!(result, Err(Status::InvalidParameters), "{more} bytes more");
    }
    pass!("1 and 8 bytes more")
}

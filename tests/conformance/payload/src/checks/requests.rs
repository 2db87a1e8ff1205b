//! Direct requests that may not be, from each side.

use super::prelude::*;
use crate::probes::describe;
use bulkhead_sdk::Line;
use bulkhead_sdk::ffa::{Regs, Status, Uuid, function};
use conformance_testkit::{Command, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "requests":
    "15.2" request_in_anothers_name_is_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "15.2" request_to_itself_is_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "15.2" request_to_nobody_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "15.2" reserved_bits_of_a_request_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "15.2" upper_halves_of_a_32_bit_request_do_not_count [Ns SEl1 SEl0] ANY "the response to the lower halves, with upper halves of zero";
    "15.4" service_of_another_is_invalid [Ns SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS";
    "15.4" service_of_the_receiver_answers [Ns SEl1 SEl0] SINCE_1_2 "the response";
    "15.4" request_without_a_service_answers [Ns SEl1 SEl0] SINCE_1_2 "the response";
    "15.3" response_of_nobodys_request_is_not_supported [Ns] ANY "NOT_SUPPORTED";
}

/// Receivers that do not take every convention: a group that needs a system of its own.
pub mod mixed {
    use super::*;

    checks! { "mixed":
        "15.4" receiver_of_an_earlier_version_is_denied [Ns SEl1 SEl0] SINCE_1_2 "DENIED";
        "15.2" receiver_of_req2_alone_is_denied [Ns SEl1 SEl0] SINCE_1_2 "DENIED in both conventions, and the response to REQ2";
    }
}

const REQUESTS: [u32; 2] = [function::MSG_SEND_DIRECT_REQ_32, function::MSG_SEND_DIRECT_REQ_64];

fn ends(sender: u16, receiver: u16) -> u64 {
    u64::from(sender) << 16 | u64::from(receiver)
}

/// The status of a request with these ends and this w2, in both conventions.
fn refused(at: Instance, ends: u64, w2: u64, expected: Status) -> Outcome {
    for request in REQUESTS {
        let reply = at.call(&[request.into(), ends, w2, Command::Echo as u64, 0x55])?;
        expect!(reply.as_error(), Some(expected), "for {request:#x}: {}", describe(&reply));
    }
    pass!("{expected:?} in both conventions")
}

fn request_in_anothers_name_is_invalid(at: Instance) -> Outcome {
    refused(at, ends(VICTIM_EL1.id.0, at.other().id.0), 0, Status::InvalidParameters)
}

fn request_to_itself_is_invalid(at: Instance) -> Outcome {
    refused(at, ends(at.id().0, at.id().0), 0, Status::InvalidParameters)
}

fn request_to_nobody_is_invalid(at: Instance) -> Outcome {
    refused(at, ends(at.id().0, 0x80ee), 0, Status::InvalidParameters)
}

fn reserved_bits_of_a_request_are_invalid(at: Instance) -> Outcome {
    for w2 in [1, 0x100, 0x4000_0000] {
        refused(at, ends(at.id().0, at.other().id.0), w2, Status::InvalidParameters)?;
    }
    pass!("INVALID_PARAMETERS")
}

fn upper_halves_of_a_32_bit_request_do_not_count(at: Instance) -> Outcome {
    const HIGH: u64 = 0xdead_beef << 32;
    let request = [function::MSG_SEND_DIRECT_REQ_32.into(), ends(at.id().0, at.other().id.0), 0, HIGH | Command::Echo as u64, HIGH | 0x55];
    let reply = at.call(&request)?;
    expect!(reply.function(), function::MSG_SEND_DIRECT_RESP_32, "{}", describe(&reply));
    expect!([reply.0[3], reply.0[4]], [u64::from(!(Command::Echo as u32)), u64::from(!0x55u32)]);
    pass!("only the lower halves came back")
}

/// An echo by FFA_MSG_SEND_DIRECT_REQ2.
fn echo(at: Instance, receiver: &Probe, service: Uuid) -> Result<Regs, Line> {
    let [low, high] = service.doublewords();
    at.call(&[function::MSG_SEND_DIRECT_REQ2.into(), ends(at.id().0, receiver.id.0), low, high, Command::Echo as u64, 0x55])
}

fn echoed(at: Instance, service: Uuid) -> Outcome {
    let reply = echo(at, &at.other(), service)?;
    expect!(reply.function(), function::MSG_SEND_DIRECT_RESP2, "{}", describe(&reply));
    expect!(reply.0[5], !0x55);
    pass!("{}", at.other().name)
}

fn service_of_another_is_invalid(at: Instance) -> Outcome {
    for service in [VICTIM_EL1.uuid, Uuid([0xee; 16])] {
        let reply = echo(at, &at.other(), service)?;
        expect!(reply.as_error(), Some(Status::InvalidParameters), "{}", describe(&reply));
    }
    pass!("INVALID_PARAMETERS")
}

fn service_of_the_receiver_answers(at: Instance) -> Outcome {
    echoed(at, at.other().uuid)
}

fn request_without_a_service_answers(at: Instance) -> Outcome {
    echoed(at, Uuid::NIL)
}

fn receiver_of_an_earlier_version_is_denied(at: Instance) -> Outcome {
    let reply = echo(at, &VICTIM_EL1, VICTIM_EL1.uuid)?;
    expect!(reply.as_error(), Some(Status::Denied), "{}", describe(&reply));
    pass!("DENIED")
}

fn receiver_of_req2_alone_is_denied(at: Instance) -> Outcome {
    refused(at, ends(at.id().0, VICTIM_EL0.id.0), 0, Status::Denied)?;
    let reply = echo(at, &VICTIM_EL0, VICTIM_EL0.uuid)?;
    expect!(reply.function(), function::MSG_SEND_DIRECT_RESP2, "{}", describe(&reply));
    pass!("DENIED")
}

fn response_of_nobodys_request_is_not_supported(at: Instance) -> Outcome {
    for response in [function::MSG_SEND_DIRECT_RESP_32, function::MSG_SEND_DIRECT_RESP_64] {
        let reply = at.call(&[response.into(), ends(at.id().0, at.other().id.0)])?;
        expect!(reply.as_error(), Some(Status::NotSupported), "for {response:#x}: {}", describe(&reply));
    }
    pass!("NOT_SUPPORTED")
}

//! A partition with several UUIDs: `victim-el1` has three in the boot of these checks, so that there are six services.

use super::prelude::*;
use crate::probes::describe;
use bulkhead_sdk::Line;
use bulkhead_sdk::call;
use bulkhead_sdk::ffa::{EndpointId, Regs, Status, Uuid, function};
use bulkhead_sdk::message::{Convention, request, response_payload};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, VICTIM_EL0, VICTIM_EL1};

checks! { "services":
    "13.8" every_uuid_of_a_partition_finds_it [Ns SEl1 SEl0] SINCE_1_1 "one partition for each";
    "13.8" every_service_is_listed_in_the_buffer [Ns SEl1 SEl0] SINCE_1_1 "an entry for each UUID of each partition";
    "13.9" services_are_listed_by_several_calls [Ns SEl1 SEl0] SINCE_1_2 "five entries, then the sixth";
    "15.4" request_names_any_uuid_of_its_receiver [Ns SEl1 SEl0] SINCE_1_2 "the response";
    "15.4" request_may_name_no_uuid [Ns SEl1 SEl0] SINCE_1_2 "the response";
    "15.4" request_by_another_partitions_uuid_is_refused [Ns SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS or DENIED";
}

/// The UUID of `victim-el1` that ends with this byte.
const fn uuid(last: u8) -> Uuid {
    let mut bytes = VICTIM_EL1.uuid.0;
    bytes[15] = last;
    Uuid(bytes)
}

/// All services, and whose they are.
const SERVICES: [(EndpointId, Uuid); 6] = [
    (PROBE_EL1.id, PROBE_EL1.uuid),
    (PROBE_EL0.id, PROBE_EL0.uuid),
    (VICTIM_EL1.id, uuid(0x03)),
    (VICTIM_EL1.id, uuid(0x13)),
    (VICTIM_EL1.id, uuid(0x23)),
    (VICTIM_EL0.id, VICTIM_EL0.uuid),
];
const GET: u64 = function::PARTITION_INFO_GET as u64;
const REGS: u64 = function::PARTITION_INFO_GET_REGS as u64;

fn every_uuid_of_a_partition_finds_it(at: Instance) -> Outcome {
    for (id, uuid) in SERVICES {
        let [a, b, c, d] = uuid.words().map(u64::from);
        expect!(at.status(&[GET, a, b, c, d, 1])?.map(|regs| regs.w(2)), Ok(1), "for {uuid} of {id}");
    }
    pass!("{} services", SERVICES.len())
}

/// Ticks a service off.
fn tick(seen: &mut [bool; SERVICES.len()], id: u16, found: Uuid) -> Result<(), Problem> {
    let Some(place) = SERVICES.iter().position(|(of, uuid)| of.0 == id && *uuid == found) else { fail!("{id:#x} {found} is no service") };
    ensure!(!seen[place], "{id:#x} {found} is there twice");
    seen[place] = true;
    Ok(())
}

fn every_service_is_listed_in_the_buffer(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let reply = at.status(&[GET])?;
        let rx = at.buffers()?.0;
        let mut seen = [false; SERVICES.len()];
        let mut ticked = Ok(());
        for n in 0..SERVICES.len() as u64 {
            let words = [0, 8, 16].map(|offset| at.read(rx + 24 * n + offset));
            let [Ok(first), Ok(low), Ok(high)] = words else { fail!("{} cannot read RX", at.name()) };
            ticked = ticked.and(tick(&mut seen, first as u16, Uuid::from_doublewords(low, high)));
        }
        let released = at.status(&[function::RX_RELEASE.into()])?;
        expect!(reply.map(|regs| regs.w(2) as usize), Ok(SERVICES.len()));
        ticked?;
        ensure!(released.is_ok(), "release: {released:?}");
        pass!("{} entries", SERVICES.len())
    })
}

fn services_are_listed_by_several_calls(at: Instance) -> Outcome {
    let mut seen = [false; SERVICES.len()];
    let first = at.call(&[REGS])?;
    ensure!(first.function() == function::SUCCESS_64, "{}", describe(&first));
    expect!((first.0[2] & 0xffff, first.0[2] >> 16 & 0xffff), (5, 4), "as last and current index");
    let second = at.call(&[REGS, 0, 0, 5 | (first.0[2] >> 32 & 0xffff) << 16])?;
    ensure!(second.function() == function::SUCCESS_64, "{}", describe(&second));
    expect!((second.0[2] & 0xffff, second.0[2] >> 16 & 0xffff), (5, 5), "as last and current index");
    for (reply, count) in [(&first, 5), (&second, 1)] {
        for n in 0..count {
            let [id, low, high] = [3, 4, 5].map(|register| reply.0[register + 3 * n]);
            tick(&mut seen, id as u16, Uuid::from_doublewords(low, high))?;
        }
    }
    expect!(seen, [true; SERVICES.len()]);
    pass!("5 and 1")
}

/// A request to `victim-el1` by REQ2 and this UUID.
fn echo(at: Instance, uuid: Uuid) -> Result<Regs, Line> {
    let regs = request(Convention::Direct2, at.id(), VICTIM_EL1.id, uuid, &[Command::Echo as u64, 0x77]);
    if at == Instance::Ns { Ok(call(regs)) } else { at.call(&regs.0) }
}

fn answered(at: Instance, uuid: Uuid) -> Result<(), Problem> {
    let reply = echo(at, uuid)?;
    let word = response_payload(Convention::Direct2, &reply).map(|words| words[1]);
    ensure!(word == Some(!0x77), "{uuid}: {}", describe(&reply));
    Ok(())
}

fn request_names_any_uuid_of_its_receiver(at: Instance) -> Outcome {
    for (_, uuid) in SERVICES.iter().filter(|(id, _)| *id == VICTIM_EL1.id) {
        answered(at, *uuid)?;
    }
    pass!("3 UUIDs")
}

fn request_may_name_no_uuid(at: Instance) -> Outcome {
    answered(at, Uuid::NIL)?;
    pass!("answered")
}

fn request_by_another_partitions_uuid_is_refused(at: Instance) -> Outcome {
    for uuid in [PROBE_EL1.uuid, VICTIM_EL0.uuid, uuid(0x33)] {
        let status = echo(at, uuid)?.as_error();
        ensure!(matches!(status, Some(Status::InvalidParameters | Status::Denied)), "{uuid}: {status:?}");
    }
    pass!("3 UUIDs")
}

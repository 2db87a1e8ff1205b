//! What a hypervisor of the normal world asks for its virtual machines: their RX/TX buffers, and messages to them.

use super::indirect::{send_from, with_buffers, write_to_tx};
use super::prelude::*;
use crate::probes::status_of;
use bulkhead_sdk::ffa::descriptor::{composite, endpoint_buffers, message, range};
use bulkhead_sdk::ffa::{EndpointId, Status, function};
use bulkhead_sdk::{Line, Pages};

checks! { "vms":
    "13.6" buffers_of_a_vm_are_mapped_once [Ns] SINCE_1_1 "FFA_SUCCESS, then DENIED";
    "13.6" a_page_is_a_buffer_once [Ns] SINCE_1_1 "DENIED for a virtual machine when another has it";
    "13.6" a_wrong_description_is_invalid [Ns] SINCE_1_1 "INVALID_PARAMETERS";
    "13.7" buffers_of_a_vm_are_unmapped_by_its_id [Ns] SINCE_1_1 "FFA_SUCCESS, then INVALID_PARAMETERS";
    "13.4" rx_of_a_vm_is_acquired_and_released_by_its_id [Ns] SINCE_1_1 "FFA_SUCCESS, and DENIED for the second";
    "15.1" message_reaches_a_vm [SEl1 SEl0] SINCE_1_2 "the message, and BUSY until RX is released";
    "15.1" message_to_a_vm_without_buffers_is_refused [SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS or DENIED";
}

const VM: u16 = 5;
const OTHER: u16 = 6;
const PAGE: u64 = 0x1000;
const TEXT: u64 = 0x6f6c_6c65_6821_6b6f;

/// RX and TX of two virtual machines.
static BUFFERS: Pages<4> = Pages::new();

fn buffers_of(vm: u16) -> (u64, u64) {
    let rx = BUFFERS.address() + u64::from(vm - VM) * 2 * PAGE;
    (rx, rx + PAGE)
}

/// Describes buffers in the normal world's TX buffer.
fn describe(vm: u16, rx: u64, tx: u64, pages: u32) {
    const PLACES: [u32; 2] = [endpoint_buffers::SIZE as u32, (endpoint_buffers::SIZE + composite::SIZE + range::SIZE) as u32];
    for (at, word) in [(0, u32::from(vm)), (endpoint_buffers::RX_OFFSET, PLACES[0]), (endpoint_buffers::TX_OFFSET, PLACES[1]), (12, 0)] {
        write_to_tx(at, word);
    }
    for (place, address) in PLACES.into_iter().zip([rx, tx]) {
        let start = place as usize;
        for (n, word) in [pages, 1, 0, 0, address as u32, (address >> 32) as u32, pages, 0].into_iter().enumerate() {
            write_to_tx(start + 4 * n, word);
        }
    }
}

fn map(vm: u16, rx: u64, tx: u64) -> Result<(), Status> {
    describe(vm, rx, tx, 1);
    status_of(&[function::RXTX_MAP_64.into(), 0, 0, 0]).map(|_| ())
}

fn unmap(vm: u16) -> Result<(), Status> {
    status_of(&[function::RXTX_UNMAP.into(), u64::from(vm) << 16]).map(|_| ())
}

fn of(id: u32, vm: u16) -> Result<(), Status> {
    status_of(&[id.into(), vm.into()]).map(|_| ())
}

/// A check that has the hypervisor's buffers, and a virtual machine's, mapped meanwhile.
fn with_vm(check: impl FnOnce() -> Outcome) -> Outcome {
    with_buffers(|| {
        let (rx, tx) = buffers_of(VM);
        let mapped = map(VM, rx, tx);
        ensure!(mapped.is_ok(), "map: {mapped:?}");
        let outcome = check();
        let _ = unmap(VM);
        outcome
    })
}

fn buffers_of_a_vm_are_mapped_once(_: Instance) -> Outcome {
    with_vm(|| {
        let (rx, tx) = buffers_of(OTHER);
        expect!(map(VM, rx, tx), Err(Status::Denied));
        pass!("then DENIED")
    })
}

fn a_page_is_a_buffer_once(_: Instance) -> Outcome {
    with_vm(|| {
        let (rx, tx) = buffers_of(VM);
        let second = map(OTHER, rx, tx);
        let _ = unmap(OTHER);
        expect!(second, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn a_wrong_description_is_invalid(_: Instance) -> Outcome {
    with_buffers(|| {
        let (rx, tx) = buffers_of(VM);
        for (n, (vm, rx, tx, pages)) in [(0x8001, rx, tx, 1), (VM, rx, rx, 1), (VM, rx + 8, tx, 1), (VM, rx, tx + 8, 1), (VM, rx, tx, 0)].into_iter().enumerate() {
            describe(vm, rx, tx, pages);
            let result = status_of(&[function::RXTX_MAP_64.into(), 0, 0, 0]).map(|_| ());
            if result.is_ok() {
                let _ = unmap(vm);
            }
            expect!(result, Err(Status::InvalidParameters), "in case {n}");
        }
        pass!("INVALID_PARAMETERS")
    })
}

fn buffers_of_a_vm_are_unmapped_by_its_id(_: Instance) -> Outcome {
    with_vm(|| {
        expect!(unmap(OTHER), Err(Status::InvalidParameters), "another's");
        expect!(unmap(VM), Ok(()));
        expect!(unmap(VM), Err(Status::InvalidParameters), "again");
        pass!("then INVALID_PARAMETERS")
    })
}

fn rx_of_a_vm_is_acquired_and_released_by_its_id(_: Instance) -> Outcome {
    with_vm(|| {
        expect!(of(function::RX_RELEASE, VM), Err(Status::Denied), "an empty one released");
        expect!(of(function::RX_ACQUIRE, VM), Ok(()));
        expect!(of(function::RX_ACQUIRE, VM), Err(Status::Denied), "again");
        expect!(of(function::RX_RELEASE, VM), Ok(()), "released");
        expect!(of(function::RX_RELEASE, VM), Err(Status::Denied), "released again");
        pass!("and DENIED for the second")
    })
}

fn message_reaches_a_vm(at: Instance) -> Outcome {
    with_vm(|| {
        let probe = at.partition();
        let send = || -> Result<Option<Status>, Line> { Ok(send_from(&probe, EndpointId(VM))?.as_error()) };
        expect!(send()?, None);
        let (ends, text) = (BUFFERS.word(message::OFFSET) >> 32, BUFFERS.word(message::HEADER_SIZE_V1_2));
        expect!((ends, text), (u64::from(probe.id.0) << 16 | u64::from(VM), TEXT));
        expect!(send()?, Some(Status::Busy), "while RX is full");
        expect!(of(function::RX_RELEASE, VM), Ok(()), "released");
        expect!(send()?, None, "after it is released");
        expect!(of(function::RX_RELEASE, VM), Ok(()), "released again");
        pass!("from {}", at.name())
    })
}

fn message_to_a_vm_without_buffers_is_refused(at: Instance) -> Outcome {
    with_vm(|| {
        let sent = send_from(&at.partition(), EndpointId(OTHER))?.as_error();
        ensure!(matches!(sent, Some(Status::InvalidParameters | Status::Denied)), "{sent:?}");
        pass!("{sent:?}")
    })
}

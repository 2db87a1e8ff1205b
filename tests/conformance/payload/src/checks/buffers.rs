//! FFA_RXTX_MAP, FFA_RXTX_UNMAP.

use super::prelude::*;
use crate::probes::status_of;
use bulkhead_sdk::ffa::{Status, function};
use bulkhead_sdk::Mailbox;

checks! { "buffers":
    "13.6" bad_buffers_are_invalid [Ns] ANY "INVALID_PARAMETERS or DENIED";
    "13.6" secure_memory_is_no_buffer_for_the_normal_world [Ns] ANY "an error";
    "13.6" second_map_is_denied [Ns SEl1 SEl0] ANY "DENIED";
    "13.7" unmapped_buffers_can_be_mapped_again [Ns SEl1 SEl0] ANY "FFA_SUCCESS, each time";
    "13.7" unmap_without_buffers_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
}

static MAILBOX: Mailbox = Mailbox::new();

fn map(tx: u64, rx: u64, pages: u64) -> Result<(), Status> {
    status_of(&[u64::from(function::RXTX_MAP_64), tx, rx, pages]).map(|_| ())
}

fn bad_buffers_are_invalid(_: Instance) -> Outcome {
    let (tx, rx) = (MAILBOX.tx.address(), MAILBOX.rx.address());
    let (end, gic) = (0xffff_ffff_ffff_f000, 0x0800_0000);
    let bad = [(tx + 8, rx, 1), (tx, rx + 0x10, 1), (tx, rx, 0), (tx, rx, 0x3f), (tx, tx, 1), (end, rx, 1), (gic, rx, 1)];
    for (n, (tx, rx, pages)) in bad.into_iter().enumerate() {
        let result = map(tx, rx, pages);
        let refused = matches!(result, Err(Status::InvalidParameters | Status::Denied));
        if result.is_ok() {
            let _ = MAILBOX.unmap();
        }
        ensure!(refused, "case {n} gives {result:?}");
    }
    pass!("{} cases", bad.len())
}

fn secure_memory_is_no_buffer_for_the_normal_world(_: Instance) -> Outcome {
    for address in [0x0e00_0000, 0x0e10_0000, 0x0e20_4000, 0x0e60_4000, 0] {
        let result = map(address, MAILBOX.rx.address(), 1);
        if result.is_ok() {
            let _ = MAILBOX.unmap();
        }
        ensure!(result.is_err(), "{address:#x} was taken");
    }
    pass!("5 addresses")
}

/// Runs a check with the instance's buffers mapped: a partition's are, from its initialisation on.
fn with_buffers(at: Instance, check: impl FnOnce() -> Outcome) -> Outcome {
    if at != Instance::Ns {
        return check();
    }
    at.map()?;
    let outcome = check();
    at.unmap()?;
    outcome
}

fn second_map_is_denied(at: Instance) -> Outcome {
    with_buffers(at, || {
        let (page, (rx, tx)) = (at.page()?, at.buffers()?);
        for (tx, rx) in [(page, rx), (tx, page), (tx, rx)] {
            expect!(at.status(&[function::RXTX_MAP_64.into(), tx, rx, 1])?, Err(Status::Denied));
        }
        pass!("DENIED")
    })
}

fn unmapped_buffers_can_be_mapped_again(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    for turn in 0..3 {
        // A partition has its buffers mapped from its initialisation on.
        if at == Instance::Ns {
            at.map()?;
            at.unmap()?;
        } else {
            at.unmap()?;
        }
        // They are the owner's again, to read and to write.
        for page in [rx, tx] {
            at.write(page, turn)?;
            expect!(at.read(page)?, turn);
        }
        if at != Instance::Ns {
            at.map()?;
        }
    }
    pass!("3 times")
}

fn unmap_without_buffers_is_invalid(at: Instance) -> Outcome {
    let mapped = at != Instance::Ns;
    if mapped {
        at.unmap()?;
    }
    let result = at.status(&[u64::from(function::RXTX_UNMAP)])?;
    if mapped {
        at.map()?;
    }
    expect!(result, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

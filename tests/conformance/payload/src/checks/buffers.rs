//! FFA_RXTX_MAP, FFA_RXTX_UNMAP.

use super::checks;
use crate::check::Outcome;
use crate::probes::status_of;
use crate::{ensure, pass};
use bulkhead_sdk::ffa::{Status, function};
use bulkhead_sdk::{Mailbox, Pages};

checks! { "buffers":
    bad_buffers_are_invalid,
    secure_memory_is_no_buffer_for_the_normal_world,
    second_map_is_denied,
    unmapped_buffers_can_be_mapped_again,
    unmap_without_buffers_is_invalid,
}

static MAILBOX: Mailbox = Mailbox::new();
static OTHER: Pages<2> = Pages::new();

fn map(tx: u64, rx: u64, pages: u64) -> Result<(), Status> {
    status_of(&[u64::from(function::RXTX_MAP_64), tx, rx, pages]).map(|_| ())
}

fn bad_buffers_are_invalid() -> Outcome {
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

fn secure_memory_is_no_buffer_for_the_normal_world() -> Outcome {
    for address in [0x0e00_0000, 0x0e10_0000, 0x0e20_4000, 0x0e60_4000, 0] {
        let result = map(address, MAILBOX.rx.address(), 1);
        if result.is_ok() {
            let _ = MAILBOX.unmap();
        }
        ensure!(result.is_err(), "{address:#x} was taken");
    }
    pass!("5 addresses")
}

fn second_map_is_denied() -> Outcome {
    let first = MAILBOX.map();
    let second = map(OTHER.address(), OTHER.address() + 4096, 1);
    let unmap = MAILBOX.unmap();
    ensure!(first.is_ok() && unmap.is_ok(), "{first:?} {unmap:?}");
    ensure!(second == Err(Status::Denied), "{second:?}");
    pass!("DENIED")
}

fn unmapped_buffers_can_be_mapped_again() -> Outcome {
    for n in 0..3 {
        let (map, unmap) = (MAILBOX.map(), MAILBOX.unmap());
        ensure!(map.is_ok() && unmap.is_ok(), "turn {n}: {map:?} {unmap:?}");
    }
    pass!("3 times")
}

fn unmap_without_buffers_is_invalid() -> Outcome {
    let result = MAILBOX.unmap();
    ensure!(result == Err(Status::InvalidParameters), "{result:?}");
    pass!("INVALID_PARAMETERS")
}

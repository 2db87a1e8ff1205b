//! What a partition at S-EL0 may ask of FFA_MEM_PERM_GET and FFA_MEM_PERM_SET while it initialises: tried then, told later.

use crate::place::OWN_PAGE;
use bulkhead_sdk::ffa::{Regs, Status, function};
use bulkhead_sdk::{PAGE, call};
use core::sync::atomic::{AtomicU64, Ordering};

const READ_WRITE: u64 = 5;
const READ_ONLY: u64 = 7;
/// Writable and executable; a reserved encoding.
const FORBIDDEN: [u64; 2] = [1, 2];

/// Wrong calls that were refused with INVALID_PARAMETERS, all of them, the first that was not; then what right calls found:
/// the permissions of code and of data, and of a page before and after it was made read-only.
static RESULTS: [AtomicU64; 7] = [const { AtomicU64::new(u64::MAX) }; 7];

/// The results, for the answer to a request.
pub fn results() -> [u64; 7] {
    core::array::from_fn(|n| RESULTS[n].load(Ordering::Relaxed))
}

fn get(address: u64) -> u64 {
    let reply = call(Regs::new(&[u64::from(function::MEM_PERM_GET_64), address]));
    if reply.function() == function::SUCCESS_32 { reply.0[2] } else { u64::MAX }
}

fn set(address: u64, pages: u64, permissions: u64) -> Regs {
    call(Regs::new(&[u64::from(function::MEM_PERM_SET_64), address, pages, permissions]))
}

/// Tries everything.
pub fn try_all() {
    let page = OWN_PAGE.address();
    let wrong = [
        (page + 8, 1, READ_WRITE),
        (page, 0, READ_WRITE),
        (page, 1 << 40, READ_WRITE),
        (0x0e10_0000, 1, READ_WRITE),
        (0x0e60_4000, 1, READ_WRITE),
        (0x6000_0000, 1, READ_WRITE),
        (0x0800_0000, 1, READ_ONLY),
        (page, 1, FORBIDDEN[0]),
        (page, 1, FORBIDDEN[1]),
        (page, 1, READ_WRITE | 1 << 3),
    ];
    let mut refused = 0;
    let mut first = u64::MAX;
    for (n, (address, pages, permissions)) in wrong.into_iter().enumerate() {
        if set(address, pages, permissions).as_error() == Some(Status::InvalidParameters) {
            refused += 1;
        } else {
            first = first.min(n as u64);
        }
    }
    let before = get(page);
    let _ = set(page, 1, READ_ONLY);
    let after = get(page);
    let _ = set(page, 1, READ_WRITE);
    let code = try_all as *const () as u64 & !(PAGE as u64 - 1);
    let found = [refused, wrong.len() as u64, first, get(code), get(RESULTS.as_ptr() as u64 & !(PAGE as u64 - 1)), before, after];
    for (to, value) in RESULTS.iter().zip(found) {
        to.store(value, Ordering::Relaxed);
    }
}

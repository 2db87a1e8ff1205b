//! Direct messages.

use crate::fake::*;
use bulkhead_ffa::{Regs, Status, Version, function};

#[test]
fn a_request_is_answered() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let request = guest.wait();
        assert_eq!(request.0[..5], [u64::from(function::MSG_SEND_DIRECT_REQ_32), 0x8001, 0, 1, 2]);
        guest.respond(&request, &[3, 4]);
    });
    assert_eq!(bench.boot(), 0);
    let answer = bench.request(0x8001, &[1, 2]);
    assert_eq!(answer, Regs::new(&[u64::from(function::MSG_SEND_DIRECT_RESP_32), 0x8001_0000, 0, 3, 4]));
    assert_eq!(bench.request(0x8005, &[]), error(Status::InvalidParameters));
}

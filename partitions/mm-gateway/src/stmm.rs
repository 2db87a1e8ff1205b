//! StMM's convention: x3 of a request is the address of the message, x3 of the answer an event, x4 its status.

use bulkhead_sdk::call;
use bulkhead_sdk::ffa::{EndpointId, Regs, Status, Uuid, function};
use bulkhead_sdk::message::{self, Convention};

use crate::clock::Deadline;
use crate::convention::MmStatus;

/// 378daedc-f06b-4446-8314-40ab933c87a3, EDK2's MM communication protocol: the UUID of StMM.
const STMM: Uuid = Uuid([0x37, 0x8d, 0xae, 0xdc, 0xf0, 0x6b, 0x44, 0x46, 0x83, 0x14, 0x40, 0xab, 0x93, 0x3c, 0x87, 0xa3]);
/// The event of a request that is complete, for 64-bit and 32-bit requests.
const EVENT_COMPLETE: [u64; 2] = [0xC400_0061, 0x8400_0061];

/// How long a request waits while StMM serves others, in seconds: as long as UEFI's and OP-TEE's do.
pub const BUSY_LIMIT: u64 = 10;

/// Where StMM is.
#[derive(Clone, Copy, Debug)]
pub struct Stmm(EndpointId);

impl Stmm {
    /// Looks for it by FFA_PARTITION_INFO_GET_REGS (DEN0077A v1.2 section 13.9), which needs no buffers.
    ///
    /// # Errors
    /// What the SPMC answered.
    pub fn find() -> Result<Self, Status> {
        let [low, high] = STMM.doublewords();
        let reply = call(Regs::new(&[u64::from(function::PARTITION_INFO_GET_REGS), low, high]));
        match reply.function() {
            // x3 is the first descriptor: the id in bits 15..0.
            function::SUCCESS_64 => Ok(Self(EndpointId(reply.0[3] as u16))),
            _ => Err(reply.as_error().unwrap_or(Status::NotSupported)),
        }
    }

    /// Its endpoint.
    pub fn id(self) -> EndpointId {
        self.0
    }

    /// Has it serve the message at `address`, as endpoint `own`. While StMM is busy with a request from another core, it is asked again
    /// and again: U-Boot asks once, and it cannot yield either.
    ///
    /// # Errors
    /// What the SPMC answered in its place (ABORTED; BUSY after [`BUSY_LIMIT`]), or StMM itself by FFA_ERROR: it refuses a message so.
    pub fn ask(self, own: EndpointId, address: u64) -> Result<MmStatus, Status> {
        let limit = Deadline::after(BUSY_LIMIT);
        loop {
            match self.ask_once(own, address) {
                Err(Status::Busy) if !limit.passed() => core::hint::spin_loop(),
                answer => return answer,
            }
        }
    }

    fn ask_once(self, own: EndpointId, address: u64) -> Result<MmStatus, Status> {
        // An interrupt of the normal world preempts both, and the normal world has both go on; StMM never yields.
        let reply = call(message::request(Convention::Direct64, own, self.0, Uuid::NIL, &[address]));
        match message::response_payload(Convention::Direct64, &reply) {
            Some([event, status, ..]) if EVENT_COMPLETE.contains(event) => Ok(MmStatus::of_event(*status)),
            Some(_) => Err(Status::NotSupported),
            None => Err(reply.as_error().unwrap_or(Status::NotSupported)),
        }
    }
}

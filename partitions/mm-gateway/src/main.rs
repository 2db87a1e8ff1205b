//! The MM gateway: a service of the normal world's clients that speak the gateway's convention, U-Boot among them, passed on to
//! StMM, which speaks another. README.md has both side by side.
//!
//! It never looks at the messages: they lie in a buffer that the client and StMM share, and the gateway has no access to it.
#![no_std]
#![no_main]

mod clock;
mod convention;
mod stmm;

use bulkhead_sdk::boot::{BootInformation, Manifest};
use bulkhead_sdk::ffa::Status;
use bulkhead_sdk::message::{self, Convention, Request};
use bulkhead_sdk::{Program, log};

use convention::{Buffer, MmStatus};
use stmm::{BUSY_LIMIT, Stmm};

/// Property of the manifest: address (two cells) and bytes of the MM communication buffer, as in StMM's manifest.
const BUFFER: &str = "bulkhead,mm-buffer";

struct Gateway;

impl Program for Gateway {
    fn main(boot_argument: u64) -> ! {
        if let Err(status) = message::negotiate() {
            panic!("no FF-A version in common: {status:?}");
        }
        let Some(buffer) = manifest(boot_argument).and_then(|m| Buffer::parse(m.property(BUFFER)?)) else {
            panic!("the manifest has no {BUFFER} = <address-high address-low bytes>");
        };
        let stmm = Stmm::find();
        match stmm {
            Ok(stmm) => log!("requests go to StMM, partition {}", stmm.id()),
            Err(status) => log!("there is no StMM ({status:?}): every request will be answered with NOT_SUPPORTED"),
        }
        let mut event = message::wait();
        loop {
            event = match Request::decode(&event) {
                Some(request) => {
                    let status = serve(&request, buffer, stmm.ok());
                    request.respond(&[status.register()])
                }
                None => message::wait(),
            };
        }
    }
}

/// Serves one request.
fn serve(request: &Request, buffer: Buffer, stmm: Option<Stmm>) -> MmStatus {
    // The convention knows this kind only; the offset is the first register of the payload.
    if request.convention != Convention::Direct64 {
        return MmStatus::NotSupported;
    }
    let Some(address) = buffer.message(request.payload[0]) else {
        return MmStatus::InvalidParameters;
    };
    let Some(stmm) = stmm else {
        return MmStatus::NotSupported;
    };
    stmm.ask(request.receiver, address).unwrap_or_else(|status| {
        explain(stmm, address, status);
        MmStatus::of(status)
    })
}

/// Says on the secure console what a client cannot be told: the convention has too few words.
fn explain(stmm: Stmm, address: u64, status: Status) {
    let id = stmm.id();
    match status {
        Status::Busy => log!("StMM, partition {id}, has served others for {BUSY_LIMIT} s"),
        Status::Aborted => log!("StMM, partition {id}, has ended: no variables until the next reset"),
        Status::InvalidParameters | Status::Denied => {
            log!("StMM, partition {id}, refuses the message at {address:#x} ({status:?}): is {BUFFER} the ns_comm_buffer of its manifest?");
        }
        _ => log!("StMM, partition {id}, answers {status:?}"),
    }
}

fn manifest(boot_argument: u64) -> Option<Manifest> {
    #[expect(unsafe_code, reason = "the boot information is found by its address")]
    // SAFETY: x0 at entry, as the manifest's gp-register-num says; nobody has changed it.
    let information = unsafe { BootInformation::at(boot_argument) };
    information?.manifest()
}

bulkhead_sdk::program!(Gateway);

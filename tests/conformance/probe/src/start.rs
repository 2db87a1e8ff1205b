//! Initialisation, good or bad, and the loop that serves requests.

use crate::act::act;
use crate::place::{Level, MAILBOX, level, settle, try_versions, vcpu};
use bulkhead_sdk::boot::{BootInformation, Manifest};
use bulkhead_sdk::ffa::{Regs, Version, function};
use bulkhead_sdk::message::{self, Request};
use bulkhead_sdk::{call, log, secondary_entry};

/// Property of the manifest that makes the initialisation go wrong.
const INIT: &str = "conformance,init";
/// Property of the manifest: the FF-A version to speak, as FFA_VERSION has it; 1.2 without a manifest.
const VERSION: &str = "ffa-version";
/// An address that belongs to no partition: the SPMC's image.
const OUT_OF_BOUNDS: u64 = 0x0e10_0000;

/// The first vCPU.
pub fn run(here: Level, boot_argument: u64) -> ! {
    let manifest = manifest(boot_argument);
    let speaks = manifest.and_then(|m| m.number(VERSION)).map_or(Version::V1_2, Version);
    settle(here, speaks);
    try_versions();
    let version = message::negotiate_version(speaks);
    if let Some(how) = manifest.and_then(|m| m.text(INIT)) {
        misbehave(how);
    }
    if here == Level::SEl0 {
        crate::permissions::try_all();
    }
    if let Err(status) = MAILBOX.map() {
        log!("cannot map RX/TX buffers: {status:?}");
        end_initialisation(&Regs::error(status));
    }
    if here == Level::SEl1 {
        crate::interrupt::admit_exit_requests();
        // A partition with one vCPU is refused, which it may ignore.
        let _ = call(Regs::new(&[u64::from(function::SECONDARY_EP_REGISTER_64), secondary_entry(false)]));
    }
    match version {
        Ok(version) => log!("ready, SPMC speaks {version}"),
        Err(status) => end_initialisation(&Regs::error(status)),
    }
    serve(message::wait())
}

/// The other vCPUs.
pub fn run_secondary(index: usize) -> ! {
    if index != vcpu() {
        log!("secondary vCPU {} was entered as {index}", vcpu());
    }
    serve(message::wait())
}

/// Answers requests for ever.
fn serve(mut event: Regs) -> ! {
    loop {
        event = match Request::decode(&event) {
            Some(request) => {
                let answer = act(&request);
                crate::interrupt::forget_exit_request();
                call(answer)
            }
            None => match event.function() {
                // An S-EL0 partition is told of interrupts by message.
                function::INTERRUPT if level() == Level::SEl0 => {
                    crate::interrupt::told(event.w(2));
                    message::wait()
                }
                // FFA_RUN without a message needs no answer.
                function::INTERRUPT | function::RUN | function::SUCCESS_32 => message::wait(),
                other => {
                    log!("unexpected event {other:#x} (w2 {:#x})", event.w(2));
                    message::wait()
                }
            },
        };
    }
}

fn end_initialisation(regs: &Regs) -> ! {
    loop {
        let _ = call(*regs);
    }
}

fn manifest(boot_argument: u64) -> Option<Manifest> {
    #[expect(unsafe_code, reason = "trusts the SPMC's boot information")]
    // SAFETY: the argument is what the SPMC passed at entry.
    unsafe { BootInformation::at(boot_argument) }?.manifest()
}

fn misbehave(how: &str) {
    match how {
        "loop" => loop {
            core::hint::spin_loop();
        },
        "error" => end_initialisation(&Regs::error(bulkhead_sdk::ffa::Status::NoMemory)),
        "abort" => end_initialisation(&Regs::new(&[u64::from(function::ABORT_64)])),
        "respond" => {
            let ends = u64::from(crate::place::id().0) << 16;
            end_initialisation(&Regs::new(&[u64::from(function::MSG_SEND_DIRECT_RESP_64), ends]));
        }
        "wild" => {
            #[expect(unsafe_code, reason = "the access that must end this partition")]
            // SAFETY: not this program's memory; it never returns when the SPMC does its work.
            let got = unsafe { bulkhead_sdk::read(OUT_OF_BOUNDS) };
            log!("read {got:x?} at {OUT_OF_BOUNDS:#x}");
        }
        other => log!("unknown misbehaviour {other}"),
    }
}

//! A secure partition to copy: it adds the words that a request carries, and says so on the console.
#![no_std]
#![no_main]

use bulkhead_sdk::message::{self, Request};
use bulkhead_sdk::{Program, log};

struct Adder;

impl Program for Adder {
    fn main(_boot_argument: u64) -> ! {
        // Settles on FF-A 1.2, as the manifest says.
        match message::negotiate() {
            Ok(version) => log!("the SPMC speaks {version}"),
            Err(status) => panic!("no FF-A version in common: {status:?}"),
        }
        // FFA_MSG_WAIT ends the initialisation; each answer returns with the next request.
        let mut event = message::wait();
        loop {
            event = match Request::decode(&event) {
                Some(request) => {
                    let sum = request.payload.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
                    log!("{} asked for a sum: {sum:#x}", request.sender);
                    request.respond(&[sum])
                }
                None => message::wait(),
            };
        }
    }
}

bulkhead_sdk::program!(Adder);

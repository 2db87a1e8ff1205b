//! What a secure partition in Rust is made with, at S-EL1 or S-EL0, and test programs of the normal world too.
//!
//! A program implements [`Program`], names it with [`program!`], and is linked with one of `linker/s-el0.ld`, `s-el1.ld`
//! and `ns-el2.ld`. The entry code relocates it to where it was loaded, gives it a stack per core and calls
//! [`Program::main`]. From there: [`message`] for requests, [`call()`] for any other FF-A call, [`log!`] for the console,
//! [`memory`] for shared memory, [`boot`] for the partition's own manifest.
#![no_std]

mod attempt;
pub mod boot;
mod call;
mod console;
pub mod interrupts;
pub mod memory;
pub mod message;
mod mmu;
mod pages;
mod program;

pub use attempt::{execute, read, write};
pub use bulkhead_ffa as ffa;
pub use call::{call, call_by_hvc, call_by_smc, call_by_svc, secondary_entry};
pub use console::{Cut, Line, print};
pub use mmu::allow_execution_everywhere;
pub use pages::{Mailbox, PAGE, Pages};
pub use program::Program;

//! What the test partitions and the normal-world payload agree on: the commands by which the payload drives a partition
//! ([`Command`]), and patterns for every register that a world must find again as it left it ([`registers`], [`vectors`]).
#![no_std]

mod command;
pub mod marked;
pub mod registers;
pub mod spin;
pub mod trials;
pub mod vectors;

pub use command::{Command, Drive, FURTHER, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

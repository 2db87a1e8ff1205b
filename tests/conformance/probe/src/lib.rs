//! A partition that does what the payload asks for, at S-EL1 and at S-EL0: see [`conformance_testkit::Command`].
//!
//! Its manifest may carry `conformance,init`, a word that makes its initialisation go wrong in one way ([`start`]).
#![no_std]

mod act;
mod drive;
mod interrupt;
mod permissions;
mod place;
mod start;

pub use interrupt::interrupted;
pub use place::Level;
pub use start::{run, run_secondary};

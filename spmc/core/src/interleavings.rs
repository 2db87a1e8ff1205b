//! Interleavings of cores: what two or three of them do at the same time, in many orders.
//!
//! With the feature `shuttle` whole calls run against each other, turned about at every access to what cores share and at
//! every use of the machine. With `loom` the few words that pass a vCPU from core to core are tried in every order and with
//! every value that their memory orderings allow.

#[cfg(all(feature = "loom", not(feature = "shuttle")))]
mod orderings;
#[cfg(feature = "shuttle")]
mod explore;
#[cfg(feature = "shuttle")]
mod memory;
#[cfg(feature = "shuttle")]
mod requests;
#[cfg(feature = "shuttle")]
mod signals;

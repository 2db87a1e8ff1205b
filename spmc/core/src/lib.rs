//! What an SPMC decides, without the machine it runs on.
//!
//! Partitions, messages, memory transactions, notifications and run states live here; what they need of hardware is the
//! [`Machine`] trait, which the S-EL2 binary implements with registers and tables, and the host tests in plain memory.
//!
//! The way through: [`Spmc::handle_normal_world`] takes the registers that the SPMD delivered and returns those that go
//! back. A request to a partition runs [`Spmc::run_chain`], an ordinary loop over `machine.run(vcpu)`; each call that a
//! partition makes meanwhile is decided by [`calls`]. No input of a guest may panic here.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "shuttle", feature = "loom"))]
#[macro_use]
extern crate std;

mod calls;
mod chain;
mod console;
mod discovery;
pub mod distributor;
mod fast;
#[cfg(test)]
#[allow(dead_code, reason = "each build of the tests uses its part")]
mod fake;
pub mod fault;
mod indirect;
pub mod interface;
mod interrupts;
mod lifecycle;
pub mod machine;
pub mod mailbox;
pub mod memory;
mod memory_calls;
mod messaging;
#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod models;
mod notifications;
pub mod page_states;
mod paravirtual;
pub mod partition;
mod permissions;
pub mod shares;
#[cfg(all(test, any(feature = "shuttle", feature = "loom")))]
mod interleavings;
mod spmc;
mod sync;
pub mod tables;
#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests;
pub mod timer;
mod vcpu;
mod virtual_interrupts;
mod vms;

pub use interrupts::SCHEDULE_RECEIVER;
pub use machine::{Address, Exit, Machine};
pub use partition::{PartitionConfig, PartitionIndex};
pub use spmc::{OUR_VERSION, Spmc};
pub use vcpu::{RunState, VcpuId};

/// Partitions at the most.
pub const MAX_PARTITIONS: usize = 8;
/// Cores, and so virtual CPUs of one partition, at the most.
pub const MAX_CORES: usize = 8;

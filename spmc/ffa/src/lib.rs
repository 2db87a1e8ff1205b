//! The FF-A ABI in numbers, shared by the SPMC, the partitions and the tests.
//!
//! Sources: Arm DEN0077A (FF-A base specification) v1.2 and DEN0140 (memory management protocol) v1.2.
//! Everything here is plain data: no code path of the SPMC hides in this crate.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot_info;
pub mod descriptor;
pub mod function;
pub mod message;
mod regs;
mod status;
mod uuid;
mod version;

pub use message::Message;
pub use regs::{EndpointId, Regs};
pub use status::Status;
pub use uuid::Uuid;
pub use version::Version;

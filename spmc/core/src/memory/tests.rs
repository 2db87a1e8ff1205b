//! Memory management, a rule at a time: one module for each side of a transaction, and a model of all of it.

#[allow(dead_code, reason = "each build of the tests uses its part")]
pub(crate) mod bench;
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
mod borrowing;
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
mod lending;
#[cfg(not(any(feature = "shuttle", feature = "loom")))]
mod model;

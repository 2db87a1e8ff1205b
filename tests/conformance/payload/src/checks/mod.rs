//! The checks, by groups. A check is one line in its group's table and one function.

mod all_cores;
mod bench;
mod buffers;
mod discovery;
mod failure;
mod indirect;
mod init;
mod interrupts;
pub mod isolation;
mod managed_exit;
mod memory;
mod messages;
mod normal_world;
mod notifications;
mod partition_calls;
mod preemption;
mod state;
mod stress;
pub mod versions;

use crate::check::Check;

/// All groups but the one that ends partitions ([`isolation`]), in the order in which they run. Each is chosen by its word.
pub const TABLE: &[&[Check]] = &[
    discovery::CHECKS,
    buffers::CHECKS,
    messages::CHECKS,
    preemption::CHECKS,
    memory::CHECKS,
    notifications::CHECKS,
    indirect::CHECKS,
    interrupts::CHECKS,
    state::CHECKS,
    partition_calls::CHECKS,
    stress::CHECKS,
    normal_world::CHECKS,
    failure::CHECKS,
    all_cores::CHECKS,
    managed_exit::CHECKS,
    versions::CHECKS,
    init::CHECKS,
    bench::CHECKS,
];

/// A check's line in a table.
macro_rules! checks {
    ($group:literal: $($name:ident,)*) => {
        /// The group's checks.
        pub const CHECKS: &[$crate::check::Check] = &[$($crate::check::Check { group: $group, name: stringify!($name), run: $name },)*];
    };
}
use checks;

//! The checks, by groups. A check is one line in its group's table and one function.

mod all_cores;
mod bindings;
mod buffers;
mod codes;
mod discovery;
mod eight;
mod failure;
mod harness;
pub mod indirect;
mod init;
mod interface;
pub mod interrupts;
mod log;
mod isolation;
mod managed_exit;
pub mod memory;
mod memory_rules;
mod messages;
mod messages_of_interrupts;
mod normal_world;
mod notifications;
mod one_core;
mod partition_calls;
mod preemption;
mod requests;
mod rules;
mod services;
mod state;
mod stress;
mod template;
mod versions;
mod vms;

use crate::check::Check;

/// All groups. The host chooses what runs, in which order.
pub const TABLE: &[&[Check]] = &[
    discovery::CHECKS,
    buffers::CHECKS,
    rules::CHECKS,
    services::CHECKS,
    log::CHECKS,
    messages::CHECKS,
    requests::CHECKS,
    requests::mixed::CHECKS,
    preemption::CHECKS,
    memory::CHECKS,
    memory_rules::CHECKS,
    notifications::CHECKS,
    bindings::CHECKS,
    indirect::CHECKS,
    interrupts::CHECKS,
    interface::CHECKS,
    messages_of_interrupts::CHECKS,
    state::CHECKS,
    partition_calls::CHECKS,
    stress::CHECKS,
    normal_world::CHECKS,
    failure::CHECKS,
    isolation::CHECKS,
    all_cores::CHECKS,
    managed_exit::CHECKS,
    versions::CHECKS,
    vms::CHECKS,
    codes::CHECKS,
    init::CHECKS,
    init::second::CHECKS,
    one_core::CHECKS,
    template::CHECKS,
    eight::CHECKS,
    harness::CHECKS,
];

/// A group's table: section, name, instances, versions of the caller, what is expected; then `= function`, where that is not the
/// name's.
macro_rules! checks {
    ($group:literal: $($section:literal $name:ident [$($instance:ident)*] $versions:ident $expected:literal $(= $run:expr)?;)*) => {
        /// The group's checks.
        pub const CHECKS: &[$crate::check::Check] = &[$($crate::check::Check {
            group: $group,
            name: stringify!($name),
            section: $section,
            instances: &[$($crate::instance::Instance::$instance),*],
            versions: $crate::check::$versions,
            expected: $expected,
            run: $crate::checks::function!($name $($run)?),
        }),*];
    };
}
pub(crate) use checks;

macro_rules! function {
    ($name:ident) => {
        $name
    };
    ($name:ident $run:expr) => {
        $run
    };
}
pub(crate) use function;

/// What every group uses.
mod prelude {
    pub(crate) use super::checks;
    pub use crate::check::{Outcome, Problem};
    pub use crate::instance::{Instance, call_from, lender};
    pub use crate::{ensure, expect, fail, pass, skip};
}

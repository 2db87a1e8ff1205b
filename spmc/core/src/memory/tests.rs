//! Memory management, a rule at a time: one module for each side of a transaction, and a model of all of it.

mod bench;
mod borrowing;
mod lending;
mod model;

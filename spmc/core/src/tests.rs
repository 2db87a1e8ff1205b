//! Behaviour of the whole core, a call at a time: one module for each group of calls.

mod chains;
mod messages;

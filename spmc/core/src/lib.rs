//! The portable SPMC logic.
#![no_std]
#![forbid(unsafe_code)]

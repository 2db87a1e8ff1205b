//! Manifests: schema and validator.
#![no_std]
#![forbid(unsafe_code)]

//! Bulkhead at S-EL2: the binary around `bulkhead_core`.
//!
//! `entry.s` starts each core and enters partitions; [`boot`] reads the manifests; [`cpu`] is the machine that the core
//! logic runs on; `serve` below is the loop that every core spends its life in.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(unused, reason = "the SPMC is built for the target; the host builds an empty program"))]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod boot_info;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod context;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod exit;
#[cfg(target_os = "none")]
mod features;
#[cfg(target_os = "none")]
mod gic;
#[cfg(target_os = "none")]
mod holders;
#[cfg(target_os = "none")]
mod image;
#[cfg(target_os = "none")]
mod interface_calls;
#[cfg(target_os = "none")]
mod life;
#[cfg(target_os = "none")]
mod mmu;
#[cfg(target_os = "none")]
mod normal_world;
#[cfg(target_os = "none")]
mod physical;
#[cfg(target_os = "none")]
mod platform;
#[cfg(target_os = "none")]
mod simd;
#[cfg(target_os = "none")]
mod stage2;
#[cfg(target_os = "none")]
mod sysreg;
#[cfg(target_os = "none")]
mod system;
#[cfg(target_os = "none")]
mod table_pool;
#[cfg(target_os = "none")]
mod traps;
#[cfg(target_os = "none")]
mod virtual_timer;

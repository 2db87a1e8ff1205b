//! Fuzz target: the bytes are read as every kind of input there is, and judged as a whole system.
//!
//! `manifests/fuzz/run.sh [seconds]` builds it with coverage instrumentation on stable Rust, makes seeds from the real
//! manifests and runs it.
#![no_main]

use bulkhead_manifests::{LoadTable, Package, PackageFile, PartitionManifest, Platform, SpmcManifest, Subject, SystemFiles, lint};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = PartitionManifest::new().parse_into(data, Subject::Spmc).map_err(|error| error.to_string());
    let _ = SpmcManifest::new().parse_into(data).map_err(|error| error.to_string());
    let _ = LoadTable::read(data).map_err(|error| error.to_string());
    let _ = Package::read(data, Subject::Spmc).map_err(|error| error.to_string());

    // A system of three pieces: two lengths first, then SPMC manifest, load table and one package for both partitions.
    let Some((&[a, b, c, d], rest)) = data.split_first_chunk::<4>() else { return };
    let (spmc, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([a, b]))));
    let (load_table, package) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([c, d]))));
    let packages = [0x0e60_0000, 0x0e20_0000].map(|load_address| PackageFile { load_address, bytes: package });
    lint(&SystemFiles { spmc, load_table, packages: &packages }, &Platform { reserved: &[], interrupts: &[], cores: 0 }, &mut |error| {
        let _ = error.to_string();
    });
});

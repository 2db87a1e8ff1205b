//! What the tests of this crate share: device trees from source by dtc, packages, and the real manifests.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use bulkhead_manifests::{Name, Package, PartitionManifest, SpmcManifest, Subject};
use std::io::Write;
use std::process::{Command, Stdio};

/// Bulkhead's manifest for QEMU.
pub const SPMC: &str = include_str!("../../spmc.dts");
/// The same with the MM gateway, for U-Boot.
pub const SPMC_U_BOOT: &str = include_str!("../../spmc-u-boot.dts");
/// The MM gateway's.
pub const GATEWAY: &str = include_str!("../../mm-gateway.dts");
/// OP-TEE's.
pub const OPTEE: &str = include_str!("../../optee.dts");
/// StMM's.
pub const STMM: &str = include_str!("../../stmm.dts");

/// Compiles `source` with dtc.
pub fn dtb(source: &str) -> Vec<u8> {
    let mut dtc = Command::new("dtc")
        .args(["-q", "-q", "-I", "dts", "-O", "dtb", "-i", concat!(env!("CARGO_MANIFEST_DIR"), "/tests"), "-i", env!("CARGO_MANIFEST_DIR")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dtc, of the package device-tree-compiler");
    dtc.stdin.take().expect("piped").write_all(source.as_bytes()).expect("dtc reads its input");
    let output = dtc.wait_with_output().expect("dtc ends");
    assert!(output.status.success(), "dtc: {}\n{source}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// `source` with `from`, which is there exactly once, replaced by `to`.
pub fn edit(source: &str, from: &str, to: &str) -> String {
    assert_eq!(source.matches(from).count(), 1, "{from:?} should be in the source once");
    source.replacen(from, to, 1)
}

/// A partition as the tests speak of it.
pub fn subject(number: u8, name: &str) -> Subject {
    Subject::Partition { number, name: Name::new(name) }
}

/// The partition manifest of `source`, or the error as text.
pub fn partition(source: &str, subject: Subject) -> Result<PartitionManifest, String> {
    let mut manifest = PartitionManifest::new();
    manifest.parse_into(&dtb(source), subject).map_err(|e| e.to_string())?;
    Ok(manifest)
}

/// The SPMC manifest of `source`, or the error as text.
pub fn spmc(source: &str) -> Result<SpmcManifest, String> {
    let mut manifest = SpmcManifest::new();
    manifest.parse_into(&dtb(source)).map_err(|e| e.to_string())?;
    Ok(manifest)
}

/// A package of sptool's version 2: manifest at 0x1000, an image of `image` bytes at 0x4000.
pub fn sptool(manifest: &[u8], image: usize) -> Vec<u8> {
    let mut package = vec![0; 0x4000 + image];
    let words = [2, 0x1000, manifest.len() as u32, 0x4000, image as u32];
    package[..4].copy_from_slice(b"SPKG");
    for (i, word) in words.iter().enumerate() {
        package[4 + 4 * i..8 + 4 * i].copy_from_slice(&word.to_le_bytes());
    }
    package[0x1000..0x1000 + manifest.len()].copy_from_slice(manifest);
    package
}

/// The parts of a package, or the error as text.
pub fn package(bytes: &[u8]) -> Result<Package, String> {
    Package::read(bytes, subject(1, "op-tee")).map_err(|e| e.to_string())
}

/// A transfer list of entries (tag, data), the data page aligned where `tag` is not 0, with a correct checksum.
pub fn transfer_list(entries: &[(u32, &[u8])]) -> Vec<u8> {
    let mut list = vec![0; 24];
    for (tag, data) in entries {
        // An empty entry fills up to 8 bytes before the page, so that the entry's data begins at the page.
        let padding = (list.len() + 16).next_multiple_of(4096) - list.len() - 16;
        push_entry(&mut list, 0, &vec![0; padding]);
        push_entry(&mut list, *tag, data);
    }
    let size = list.len() as u32;
    list[..4].copy_from_slice(&0x4A0F_B10B_u32.to_le_bytes());
    list[5..8].copy_from_slice(&[1, 24, 3]);
    list[8..12].copy_from_slice(&size.to_le_bytes());
    list[12..16].copy_from_slice(&size.to_le_bytes());
    list[16] = 1;
    list[4] = list.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    list
}

fn push_entry(list: &mut Vec<u8>, tag: u32, data: &[u8]) {
    list.extend_from_slice(&(tag | 8 << 24).to_le_bytes());
    list.extend_from_slice(&(data.len() as u32).to_le_bytes());
    list.extend_from_slice(data);
    list.resize(list.len().next_multiple_of(8), 0);
}

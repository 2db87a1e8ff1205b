//! Packages with one thing wrong in each, and what is said about it.

mod support;

use support::{STMM, dtb, package, sptool, transfer_list};

/// What is said about the sptool package in which word `index` (version, manifest offset and size, image offset and size)
/// is `value`.
fn sptool_with(index: usize, value: u32) -> String {
    let mut bytes = sptool(&dtb(STMM), 0x1000);
    bytes.resize(0x6000, 0);
    bytes[4 + 4 * index..8 + 4 * index].copy_from_slice(&value.to_le_bytes());
    package(&bytes).expect_err("accepted")
}

/// What is said about the transfer list that `change` was applied to; its checksum is switched off.
fn transfer_list_with(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let manifest = dtb(STMM);
    let mut bytes = transfer_list(&[(0x106, &manifest), (0x103, &[1; 0x1000])]);
    bytes[16] = 0;
    change(&mut bytes);
    package(&bytes).expect_err("accepted")
}

#[test]
fn empty_package() {
    assert_eq!(package(&[]).expect_err("accepted"), "partition vm1 (op-tee): package has 0 bytes: expected at least the 24 bytes of a header");
}

#[test]
fn package_that_is_something_else() {
    let message = package(b"\x7fELF\x02\x01\x01\0").expect_err("accepted");
    assert_eq!(message, "partition vm1 (op-tee): package: magic = 0x464c457f: expected 0x474b5053 (\"SPKG\", sptool) or 0x4a0fb10b (transfer list): is the package loaded at this address?");
}

#[test]
fn header_that_is_cut_short() {
    assert_eq!(package(b"SPKG\x02\0\0\0\0\0").expect_err("accepted"), "partition vm1 (op-tee): package has 10 bytes: expected at least the bytes of its headers");
}

#[test]
fn sptool_version_3() {
    assert_eq!(sptool_with(0, 3), "partition vm1 (op-tee): package: version = 3: expected 1 or 2");
}

#[test]
fn manifest_in_the_boot_information_page() {
    assert_eq!(sptool_with(1, 0x18), "partition vm1 (op-tee): package: manifest offset = 0x18: expected a multiple of 0x1000, not 0: the first page is the boot information's");
}

#[test]
fn manifest_beyond_the_memory() {
    assert_eq!(sptool_with(2, 0xFFFF_F000), "partition vm1 (op-tee): package: end of the manifest = 0x100000000: expected at most 0x6000 (the bytes that the partition's memory or the file has)");
}

#[test]
fn manifest_of_no_bytes() {
    assert_eq!(sptool_with(2, 0), "partition vm1 (op-tee): package: manifest size = 0: expected 1 or more bytes");
}

#[test]
fn manifest_that_reaches_into_the_image() {
    assert_eq!(sptool_with(2, 0x3001), "partition vm1 (op-tee): package: end of the manifest = 0x4001: expected at most 0x4000 (the image's offset; give sptool a larger --img-offset)");
}

#[test]
fn unaligned_image() {
    assert_eq!(sptool_with(3, 0x4010), "partition vm1 (op-tee): package: image offset = 0x4010: expected a multiple of 0x1000");
}

#[test]
fn image_beyond_the_memory() {
    assert_eq!(sptool_with(4, 0x2001), "partition vm1 (op-tee): package: end of the image = 0x6001: expected at most 0x6000 (the bytes that the partition's memory or the file has)");
}

#[test]
fn image_of_no_bytes() {
    assert_eq!(sptool_with(4, 0), "partition vm1 (op-tee): package: image size = 0: expected 1 or more bytes");
}

#[test]
fn transfer_list_of_version_0() {
    assert_eq!(transfer_list_with(|bytes| bytes[5] = 0), "partition vm1 (op-tee): package: version = 0: expected 1 or more");
}

#[test]
fn transfer_list_with_a_short_header() {
    assert_eq!(transfer_list_with(|bytes| bytes[6] = 16), "partition vm1 (op-tee): package: header size = 16: expected 24, or a larger multiple of 8");
}

#[test]
fn transfer_list_beyond_the_memory() {
    assert_eq!(transfer_list_with(|bytes| bytes.truncate(0x1800)), "partition vm1 (op-tee): package: size = 0x3000: expected at most 0x1800 (the bytes that the partition's memory or the file has)");
}

#[test]
fn transfer_list_with_a_wrong_checksum() {
    assert_eq!(transfer_list_with(|bytes| (bytes[16], bytes[0x1000]) = (1, 0)), "partition vm1 (op-tee): package: checksum does not match: expected bytes that sum up to 0 modulo 256");
}

#[test]
fn entry_beyond_the_transfer_list() {
    assert_eq!(transfer_list_with(|bytes| bytes[28..32].copy_from_slice(&[0xFF; 4])), "partition vm1 (op-tee): package: size of an entry = 0x100000007: expected a header of 8 bytes or more and data that end inside the transfer list");
}

#[test]
fn entry_without_a_whole_header() {
    assert_eq!(transfer_list_with(|bytes| bytes[27] = 4), "partition vm1 (op-tee): package: size of an entry = 0xfdc: expected a header of 8 bytes or more and data that end inside the transfer list");
}

#[test]
fn transfer_list_without_manifest() {
    let list = transfer_list(&[(0x103, &[1; 0x1000])]);
    assert_eq!(package(&list).expect_err("accepted"), "partition vm1 (op-tee): package: manifest entry (tag 0x106) is missing: expected one of each");
}

#[test]
fn transfer_list_without_image() {
    let list = transfer_list(&[(0x106, &dtb(STMM))]);
    assert_eq!(package(&list).expect_err("accepted"), "partition vm1 (op-tee): package: image entry (tag 0x103) is missing: expected one of each");
}

#[test]
fn transfer_list_with_two_images() {
    let list = transfer_list(&[(0x106, &dtb(STMM)), (0x103, &[1; 8]), (0x103, &[1; 8])]);
    assert_eq!(package(&list).expect_err("accepted"), "partition vm1 (op-tee): package: image entry (tag 0x103) is there twice: expected one of each");
}

#[test]
fn transfer_list_with_an_unaligned_manifest() {
    // The first entry fills up to the page of the manifest's; 8 bytes less of it move the manifest.
    let message = transfer_list_with(|bytes| {
        let padding = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]) - 8;
        bytes[28..32].copy_from_slice(&padding.to_le_bytes());
        bytes.copy_within(0xFF8..0x1000, 0xFF0);
    });
    assert_eq!(message, "partition vm1 (op-tee): package: manifest entry (tag 0x106) = 0xff8: expected a multiple of 0x1000");
}

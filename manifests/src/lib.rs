//! Reads and judges what integrators write: the SPMC's manifest, FF-A partition manifests, partition packages and
//! TF-A's table of packages; and writes what a partition's manifest asks for at its entry. One crate serves the SPMC at boot and the linter on the host, so both say the same.
//!
//! Nothing here allocates, panics on hostile bytes or trusts an offset; every refusal is a [`ManifestError`] that names
//! partition, node path, property, the value found and the value expected.
//!
//! # Byte order of UUIDs
//!
//! A UUID has one text form, `00112233-4455-6677-8899-aabbccddeeff`, and its sixteen bytes in that order are what
//! [`bulkhead_ffa::Uuid`] holds. Around it:
//!
//! | where | form | for the UUID above |
//! |---|---|---|
//! | manifest, `uuid = <a b c d>` | the four words of the registers: each cell is four bytes of the text, the first in bits 7..0 | `<0x33221100 0x77665544 0xbbaa9988 0xffeeddcc>` |
//! | FFA_PARTITION_INFO_GET, w1 to w4 | the same four words | `w1 = 0x33221100` |
//! | FFA_PARTITION_INFO_GET_REGS, DIRECT_REQ2 | the same, two words in one register | `x = 0x7766554433221100` |
//! | partition information descriptors in RX | the same words, little-endian, so the bytes are those of the text | `00 11 22 33 ...` |
//! | TF-A's TB_FW_CONFIG, `uuid = "..."` | the text; BL2 finds the package in the FIP by these bytes | |
//! | `fiptool --blob uuid=...` | the text | |
//! | EDK2 `EFI_GUID` in memory | first three fields byte-swapped; EDK2 converts before it calls | `33 22 11 00 55 44 77 66 88 ...` |
//!
//! TF-A's `sp_mk_generator.py` reads the manifest's cells the same way when it makes the FIP's UUID from them, and
//! Hafnium hands the cells to PARTITION_INFO_GET unchanged. A manifest that spells the cells as the text reads
//! (`<0x00112233 0x44556677 ...>`) is therefore found by nobody; `check_load_table` notices it.
#![no_std]
#![forbid(unsafe_code)]

pub mod edit;
pub mod error;
mod fdt;
pub mod hob;
pub mod lint;
pub mod load_table;
pub mod package;
pub mod partition;
mod partition_parse;
mod range;
mod region_parse;
pub mod spmc;
pub mod system;
mod tree;
pub mod unserved;

pub use error::{Expected, Found, ManifestError, Name, NodePath, Subject};
pub use lint::{PackageFile, SystemFiles, lint};
pub use load_table::{LoadTable, check_load_table};
pub use package::{Extent, Package, PackageKind};
pub use partition::PartitionManifest;
pub use range::{AddressRange, PAGE_SIZE};
pub use spmc::SpmcManifest;
pub use system::{LoadedPartition, Platform, Reserved, check_partition, check_spmc, check_system};
pub use unserved::unserved;

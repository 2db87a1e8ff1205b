//! Whatever bytes arrive, every parser ends with a value or an error, and what it accepts keeps the promises of its type.

mod support;

use bulkhead_manifests::{AddressRange, LoadTable, Name, Package, PackageFile, PartitionManifest, Platform, Reserved, SpmcManifest, Subject, SystemFiles, lint};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::fmt::Write as _;
use std::sync::LazyLock;
use support::{OPTEE, SPMC, STMM, dtb, sptool, transfer_list};

const SUBJECT: Subject = Subject::Named(Name::EMPTY);

static DTBS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| [dtb(OPTEE), dtb(STMM), dtb(SPMC)]);
static PACKAGES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [sptool(&DTBS[0], 0x900), transfer_list(&[(0x106, &DTBS[1]), (3, &[0; 64]), (0x103, &[0; 0x900])])]);

/// One change to a byte string.
#[derive(Clone, Debug)]
enum Mutation {
    Byte(Index, u8),
    /// A cell or header field; the values are those at which sums and comparisons tip over.
    Word(Index, u32),
    Cut(Index),
    Swap(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let words = prop_oneof![Just(0), Just(1), Just(8), Just(0x7FFF_FFFF), Just(0x8000_0000), Just(0xFFFF_F000), Just(0xFFFF_FFFF), any::<u32>()];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        4 => (any::<Index>(), words).prop_map(|(at, word)| Mutation::Word(at, word)),
        1 => any::<Index>().prop_map(Mutation::Cut),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutated(seed: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for mutation in mutations {
        if bytes.len() < 4 {
            break;
        }
        let cells = bytes.len() / 4;
        match mutation {
            Mutation::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Word(at, word) => {
                let at = 4 * at.index(cells);
                bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Mutation::Swap(a, b) => {
                let (a, b) = (a.index(cells), b.index(cells));
                (0..4).for_each(|i| bytes.swap(4 * a + i, 4 * b + i));
            }
        }
    }
    bytes
}

/// Gives `bytes` to every parser and to the linter.
fn parse_as_everything(bytes: &[u8]) {
    let mut text = String::new();
    let mut partition = PartitionManifest::new();
    match partition.parse_into(bytes, SUBJECT) {
        Ok(()) => check_partition(&partition),
        Err(error) => write!(text, "{error}").expect("writes"),
    }
    let mut spmc = SpmcManifest::new();
    match spmc.parse_into(bytes) {
        Ok(()) => check_spmc(&spmc),
        Err(error) => write!(text, "{error}").expect("writes"),
    }
    if let Err(error) = LoadTable::read(bytes) {
        write!(text, "{error}").expect("writes");
    }
    match Package::read(bytes, SUBJECT) {
        Ok(package) => check_package(&package, bytes),
        Err(error) => write!(text, "{error}").expect("writes"),
    }
    assert!(!text.chars().any(char::is_control), "a message could forge a line: {text:?}");
}

fn check_partition(manifest: &PartitionManifest) {
    assert!(!manifest.services.is_empty() && (1..=8).contains(&manifest.execution_contexts));
    for region in &manifest.memory_regions {
        assert!(region.size > 0 && region.size.is_multiple_of(manifest.granule.bytes()), "{region:?}");
        assert!(!(region.attributes.writable() && region.attributes.executable()), "{region:?}");
    }
    for device in &manifest.device_regions {
        assert!(device.range.is_aligned(manifest.granule.bytes()) && !device.range.is_empty() && !device.attributes.executable(), "{device:?}");
    }
    for interrupt in &manifest.interrupts {
        assert!(usize::from(interrupt.device) < manifest.device_regions.len() && interrupt.id < 1020, "{interrupt:?}");
    }
    if let Some(buffers) = manifest.rx_tx {
        assert!(buffers.rx != buffers.tx && usize::from(buffers.rx.max(buffers.tx)) < manifest.memory_regions.len(), "{buffers:?}");
    }
}

fn check_spmc(manifest: &SpmcManifest) {
    assert!(!manifest.partitions.is_empty());
    for pair in manifest.partitions.windows(2) {
        assert!(pair[0].number < pair[1].number);
    }
    for (i, memory) in manifest.memory.iter().enumerate() {
        assert!(memory.range.is_aligned(4096) && !memory.range.is_empty());
        assert!(manifest.memory.iter().skip(i + 1).all(|other| !other.range.overlaps(&memory.range)));
    }
}

fn check_package(package: &Package, bytes: &[u8]) {
    for part in [Some(package.manifest), Some(package.image), package.hob_list].into_iter().flatten() {
        assert!(part.end() <= package.size && part.of(bytes).len() == part.size, "{package:?}");
        assert!(package.boot_info.end() <= part.offset, "{package:?}");
    }
    assert!(package.size <= bytes.len() && package.image.offset.is_multiple_of(4096) && package.image.size > 0, "{package:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..2000)) {
        parse_as_everything(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_good_header_do_not_panic(structure in vec(prop_oneof![0..10u32, any::<u32>()], 0..100)) {
        let mut bytes = DTBS[1][..72].to_vec();
        let size = 72 + 4 * structure.len() as u32;
        // Total size, structure and strings: the structure block takes all that follows the reservation map.
        for (field, value) in [(4, size), (8, 72), (12, 72), (16, 56), (32, size - 72), (36, size - 72)] {
            bytes[field..field + 4].copy_from_slice(&value.to_be_bytes());
        }
        bytes[56..72].fill(0);
        bytes.extend(structure.iter().flat_map(|word| word.to_be_bytes()));
        parse_as_everything(&bytes);
    }

    #[test]
    fn mutated_trees_do_not_panic(which in 0..3usize, mutations in vec(mutation(), 1..6)) {
        parse_as_everything(&mutated(&DTBS[which], &mutations));
    }

    #[test]
    fn mutated_packages_do_not_panic(which in 0..2usize, mutations in vec(mutation(), 1..4)) {
        parse_as_everything(&mutated(&PACKAGES[which], &mutations));
    }

    #[test]
    fn mutated_package_headers_do_not_panic(which in 0..2usize, mutations in vec(mutation(), 1..4)) {
        let (header, rest) = PACKAGES[which].split_at(32);
        let mut bytes = mutated(header, &mutations);
        bytes.extend_from_slice(rest);
        parse_as_everything(&bytes);
    }

    #[test]
    fn mutated_systems_do_not_panic(spmc in vec(mutation(), 0..3), table in vec(mutation(), 0..2), optee in vec(mutation(), 0..3), stmm in vec(mutation(), 0..3)) {
        let good = dtb_table();
        let (spmc, table) = (mutated(&DTBS[2], &spmc), mutated(good, &table));
        let (optee, stmm) = (sptool(&mutated(&DTBS[0], &optee), 0x1000), sptool(&mutated(&DTBS[1], &stmm), 0x1000));
        let files = SystemFiles {
            spmc: &spmc,
            load_table: &table,
            packages: &[PackageFile { load_address: 0x0e60_0000, bytes: &optee }, PackageFile { load_address: 0x0e20_0000, bytes: &stmm }],
        };
        let reserved = [Reserved { name: "Bulkhead", range: AddressRange::new(0x0e10_0000, 0x10_0000).expect("does not wrap"), emulated: false }];
        lint(&files, &Platform { reserved: &reserved, interrupts: &[], cores: 0 }, &mut |error| assert!(!error.to_string().is_empty()));
    }

    #[test]
    fn overlap_means_a_common_address(a in (0..64u64, 0..16u64), b in (0..64u64, 0..16u64)) {
        let range = |(base, size)| AddressRange::new(base, size).expect("does not wrap");
        let common = (0..80).any(|i| i >= a.0 && i < a.0 + a.1 && i >= b.0 && i < b.0 + b.1);
        prop_assert_eq!(range(a).overlaps(&range(b)), common);
        prop_assert_eq!(range(b).overlaps(&range(a)), common);
    }
}

fn dtb_table() -> &'static [u8] {
    static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        dtb("/dts-v1/; / { secure-partitions { compatible = \"arm,sp\";
            op-tee { uuid = \"486178e0-e7f8-11e3-bc5e-0002a5d5c51b\"; load-address = <0x0e600000>; };
            stmm { uuid = \"378daedc-f06b-4446-8314-40ab933c87a3\"; load-address = <0x0e200000>; }; }; };")
    });
    &TABLE
}

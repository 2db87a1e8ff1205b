//! Systems of parts that are right by themselves and do not fit together, as the host's linter reports them; the SPMC runs
//! the same checks at boot.

mod support;

use bulkhead_manifests::{AddressRange, PackageFile, Platform, Reserved, SystemFiles, lint};
use support::{OPTEE, SPMC, STMM, dtb, edit, sptool};

const TABLE: &str = r#"
/dts-v1/;
/ {
	secure-partitions {
		compatible = "arm,sp";
		op-tee { uuid = "486178e0-e7f8-11e3-bc5e-0002a5d5c51b"; load-address = <0x0e600000>; };
		stmm { uuid = "378daedc-f06b-4446-8314-40ab933c87a3"; load-address = <0x0e200000>; };
	};
};
"#;

/// The sources of a system, and what is not in them.
struct System {
    spmc: String,
    table: String,
    optee: String,
    stmm: String,
    stmm_image: usize,
    stmm_at: u64,
    cores: u16,
}

impl System {
    fn real() -> Self {
        Self { spmc: SPMC.into(), table: TABLE.into(), optee: OPTEE.into(), stmm: STMM.into(), stmm_image: 0x10_0000, stmm_at: 0x0e20_0000, cores: 0 }
    }

    /// What the linter says.
    fn problems(&self) -> Vec<String> {
        let range = |base, size| AddressRange::new(base, size).expect("does not wrap");
        let reserved = [Reserved { name: "TF-A", range: range(0x0e00_0000, 0x10_0000), emulated: false }, Reserved { name: "Bulkhead", range: range(0x0e10_0000, 0x10_0000), emulated: false }, Reserved { name: "the GIC", range: range(0x0800_0000, 0x100_0000), emulated: true }];
        let (optee, stmm) = (sptool(&dtb(&self.optee), 0xC_0000), sptool(&dtb(&self.stmm), self.stmm_image));
        let files = SystemFiles {
            spmc: &dtb(&self.spmc),
            load_table: &dtb(&self.table),
            packages: &[PackageFile { load_address: 0x0e60_0000, bytes: &optee }, PackageFile { load_address: self.stmm_at, bytes: &stmm }],
        };
        let mut problems = Vec::new();
        lint(&files, &Platform { reserved: &reserved, interrupts: &[(26, "not the timer of the normal world's EL2")], cores: self.cores }, &mut |error| problems.push(error.to_string()));
        problems
    }
}

macro_rules! unfit {
    ($($name:ident: $($field:ident $from:expr => $to:expr),+; $message:expr;)+) => {
        $(
            #[test]
            fn $name() {
                let mut system = System::real();
                $(system.$field = edit(&system.$field, $from, $to);)+
                assert_eq!(system.problems().join("; ").as_str(), $message);
            }
        )+
    };
}

#[test]
fn real_system_has_no_problem() {
    assert_eq!(System::real().problems(), [""; 0]);
}

#[test]
fn two_partitions_may_offer_the_same_service_and_have_the_same_boot_order() {
    let mut system = System::real();
    system.stmm = edit(&system.stmm, "<0xdcae8d37 0x46446bf0 0xab401483 0xa3873c93>", "<0xe0786148 0xe311f8e7 0x02005ebc 0x1bc5d5a5>");
    system.stmm = edit(&system.stmm, "boot-order = <1>", "boot-order = <0>");
    assert_eq!(system.problems(), [""; 0], "the table has another key for the second one's package");
    system.table = edit(&system.table, "load-address = <0x0e200000>", "load-address = <0x0e300000>");
    assert!(!system.problems().is_empty());
}

unfit! {
    auxiliary_id_of_another_partition: stmm "id = <0x8002>;" => "id = <0x8002>; auxiliary-id = <0x8001>;";
        "partition vm2 (stmm): /: auxiliary-id = 0x8001: expected one that partition vm1 (op-tee) does not have";
    normal_world_memory_over_bulkhead: spmc "device_type = \"memory\";\n\t\treg = <0x0 0x0e000000 0x01000000>" => "device_type = \"memory\";\n\t\treg = <0x0 0x0e200000 0x00e00000>",
        spmc "<0x0 0x40000000 0xc0000000>" => "<0x0 0x0e000000 0x00200000>, <0x0 0x40000000 0xc0000000>";
        "SPMC manifest: /: ns-memory = 0xe000000..=0xe1fffff: expected no overlap with TF-A, 0xe000000..=0xe0fffff";
    region_in_bulkhead: stmm "<0x0 0x0e328000>" => "<0x0 0x0e128000>";
        "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe128000..=0xe12ffff: expected no overlap with Bulkhead, 0xe100000..=0xe1fffff";
    memory_outside_secure_memory: spmc "load_address = <0x0e600000>;\n\t\t\tmem_size = <0x00900000>" => "load_address = <0x0e600000>;\n\t\t\tmem_size = <0x00b00000>";
        "SPMC manifest: /hypervisor/vm1: mem_size = 0xe600000..=0xf0fffff: expected a range inside the secure memory of the SPMC manifest, 0xe000000..=0xeffffff";
    memories_that_overlap: spmc "mem_size = <0x00400000>" => "mem_size = <0x00500000>";
        "SPMC manifest: /hypervisor/vm2: mem_size = 0xe200000..=0xe6fffff: expected no overlap with partition vm1 (op-tee), 0xe600000..=0xeefffff";
    mem_size_beyond_the_partition: optee "mem-size = <0x00900000>" => "mem-size = <0x00a00000>";
        "partition vm1 (op-tee): /: mem-size = 0xa00000: expected at most 0x900000 (mem_size of its vmN node)";
    package_beyond_the_partition: spmc "mem_size = <0x00400000>" => "mem_size = <0x00100000>";
        "partition vm2 (stmm): package: size = 0x104000: expected at most 0x100000 (mem_size of its vmN node)";
    entry_point_before_the_image: optee "entrypoint-offset = <0x4000>" => "entrypoint-offset = <0x3000>";
        "partition vm1 (op-tee): /: entrypoint-offset = 0x3000: expected one inside the image in the package, 0x4000..=0xc3fff";
    entry_point_after_the_image: optee "entrypoint-offset = <0x4000>" => "entrypoint-offset = <0xc4000>";
        "partition vm1 (op-tee): /: entrypoint-offset = 0xc4000: expected one inside the image in the package, 0x4000..=0xc3fff";
    more_vcpus_than_contexts: spmc "vcpu_count = <1>" => "vcpu_count = <2>";
        "SPMC manifest: /hypervisor/vm2: vcpu_count = 2: expected at most 1 (execution-ctx-count of its manifest)";
    fewer_vcpus_than_cores: spmc "vcpu_count = <8>" => "vcpu_count = <4>";
        "SPMC manifest: /hypervisor/vm1: vcpu_count = 4: expected at least 8 (the cores), as execution-ctx-count is not 1";
    fewer_contexts_than_cores: spmc "vcpu_count = <8>" => "vcpu_count = <2>", optee "execution-ctx-count = <8>" => "execution-ctx-count = <2>";
        "partition vm1 (op-tee): /: execution-ctx-count = 2: expected at least 8 (the cores), or exactly 1";
    region_that_finds_no_place: stmm "base-address = <0x0 0x0e330000>;\n\t\t\tpages-count = <0x2d0>;" => "pages-count = <0x2d1>;";
        "partition vm2 (stmm): /memory-regions/heap: base-address is missing: expected at least 2953216 free bytes behind the package in mem_size of its vmN node, or base-address";
    region_of_the_normal_world_that_is_not_placed: stmm "base-address = <0x0 0x5ff00000>;" => "";
        "partition vm2 (stmm): /memory-regions/ns_comm_buffer: base-address is missing: expected base-address: the normal world's memory is not Bulkhead's to choose from";
    region_in_the_package: stmm "<0x0 0x0e328000>" => "<0x0 0x0e2f0000>";
        "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe2f0000..=0xe2f7fff: expected no overlap with the partition's own package, 0xe200000..=0xe303fff";
    region_in_another_partition: stmm "<0x0 0x0e330000>" => "<0x0 0x0e700000>";
        "partition vm2 (stmm): /memory-regions/heap: base-address = 0xe700000..=0xe9cffff: expected no overlap with partition vm1 (op-tee), 0xe600000..=0xeefffff";
    region_that_its_owner_does_not_share: stmm "bulkhead,shared-with = <0x8001>;" => "";
        "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe328000..=0xe32ffff: expected no overlap with partition vm1 (op-tee): stmm-buffer, 0xe328000..=0xe32ffff";
    region_that_only_its_owner_shares: optee "bulkhead,shared-with = <0x8002>;" => "";
        "partition vm1 (op-tee): /memory-regions/stmm-buffer: base-address = 0xe328000..=0xe32ffff: expected no overlap with partition vm2 (stmm), 0xe200000..=0xe5fffff";
    region_shared_with_somebody_else: stmm "bulkhead,shared-with = <0x8001>;" => "bulkhead,shared-with = <0x8003>;";
        "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe328000..=0xe32ffff: expected no overlap with partition vm1 (op-tee): stmm-buffer, 0xe328000..=0xe32ffff";
    shared_regions_of_different_sizes: optee "pages-count = <8>;" => "pages-count = <4>;";
        "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe328000..=0xe32ffff: expected no overlap with partition vm1 (op-tee): stmm-buffer, 0xe328000..=0xe32bfff";
    shared_region_where_its_owner_has_none: optee "<0x0 0x0e328000>" => "<0x0 0x0e320000>";
        "partition vm1 (op-tee): /memory-regions/stmm-buffer: bulkhead,shared-with = 0xe320000..=0xe327fff: expected the same range in the other partition's manifest, shared with this one";
    shared_region_that_reaches_beyond_its_owner: spmc "mem_size = <0x00400000>" => "mem_size = <0x0012c000>";
        "partition vm1 (op-tee): /memory-regions/stmm-buffer: base-address = 0xe328000..=0xe32ffff: expected no overlap with partition vm2 (stmm), 0xe200000..=0xe32bfff";
    region_in_another_region: stmm "<0x0 0x0e330000>" => "<0x0 0x0e320000>", stmm "<0x2d0>" => "<0x10>";
        "partition vm2 (stmm): /memory-regions/heap: base-address = 0xe320000..=0xe32ffff: expected no overlap with partition vm2 (stmm): rx-tx-buffers, 0xe328000..=0xe32ffff";
    region_in_the_wrong_world: stmm "attributes = <0xb>" => "attributes = <0x3>";
        "partition vm2 (stmm): /memory-regions/ns_comm_buffer: base-address = 0x5ff00000..=0x5ff0ffff: expected a range inside the secure memory of the SPMC manifest, 0xe000000..=0xeffffff";
    secure_memory_called_non_secure: stmm "attributes = <0x3>;\t/* secure, read and write */\n\t\t\tbulkhead,shared-with = <0x8001>;" => "attributes = <0xb>;";
        "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe328000..=0xe32ffff: expected a range inside the normal world's memory of the SPMC manifest, 0x40000000..=0xffffffff";
    device_that_is_memory: optee "<0x0 0x09040000>" => "<0x0 0x0e040000>";
        "partition vm1 (op-tee): /device-regions/secure-uart: base-address = 0xe040000..=0xe040fff: expected no overlap with TF-A, 0xe000000..=0xe0fffff";
    device_that_is_unknown: optee "<0x0 0x09040000>" => "<0x0 0x09050000>";
        "partition vm1 (op-tee): /device-regions/secure-uart: base-address = 0x9050000..=0x9050fff: expected a range inside the secure devices of the SPMC manifest, 0x0..=0x3ffffff";
    device_of_the_normal_world: optee "<0x0 0x09040000>" => "<0x0 0x09000000>";
        "partition vm1 (op-tee): /device-regions/secure-uart: base-address = 0x9000000..=0x9000fff: expected a range inside the secure devices of the SPMC manifest, 0x0..=0x3ffffff";
    exclusive_device_of_another_partition: stmm "base-address = <0x0 0x03f00000>;\n\t\t\tpages-count = <0xc0>" => "base-address = <0x0 0x09040000>;\n\t\t\tpages-count = <1>";
        "partition vm2 (stmm): /device-regions/variable-store: base-address = 0x9040000..=0x9040fff: expected no overlap with partition vm1 (op-tee): secure-uart, 0x9040000..=0x9040fff, as one of the two is exclusive";
    interrupt_of_another_partition: stmm "exclusive-access;" => "exclusive-access; interrupts = <40 0xb01>;";
        "partition vm2 (stmm): /device-regions/variable-store: interrupts = 40: expected one that partition vm1 (op-tee): secure-uart does not have";
    interrupt_that_cores_send_to_each_other: optee "interrupts = <40 0xb01>;" => "interrupts = <8 0x101>;";
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 8: expected a PPI or an SPI: no device raises an SGI, and the normal world's cores send them to each other";
    interrupt_of_the_platform: optee "interrupts = <40 0xb01>;" => "interrupts = <26 0x501>;";
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 26: expected not the timer of the normal world's EL2";
    target_that_is_no_core: optee "interrupts = <40 0xb01>;" => "interrupts = <40 0xb01>; interrupts-target = <40 0 9>;";
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts-target = 0x9: expected the MPIDR of a core in the SPMC manifest's cpus node";
    stream_of_another_partition: optee "interrupts = <40 0xb01>;" => "interrupts = <40 0xb01>; smmu-id = <0>; stream-ids = <5 6>;",
        stmm "exclusive-access;" => "exclusive-access; smmu-id = <0>; stream-ids = <6>;";
        "partition vm2 (stmm): /device-regions/variable-store: stream-ids = 6: expected one that partition vm1 (op-tee): secure-uart does not have";
    package_loaded_elsewhere: table "<0x0e200000>" => "<0x0e300000>";
        "TB_FW_CONFIG: /secure-partitions/stmm: load-address = 0xe300000: expected 0xe200000 (load_address of its vmN node)";
    package_that_is_not_loaded: table "stmm { uuid = \"378daedc-f06b-4446-8314-40ab933c87a3\"; load-address = <0x0e200000>; };" => "";
        "TB_FW_CONFIG: /secure-partitions: uuid is missing: expected an entry with 378daedc-f06b-4446-8314-40ab933c87a3, the UUID of partition vm2 (stmm)";
    package_that_nobody_starts: table "stmm {" => "other { uuid = \"00112233-4455-6677-8899-aabbccddeeff\"; load-address = <0x0ef00000>; }; stmm {";
        "TB_FW_CONFIG: /secure-partitions/other: load-address = 0xef00000: expected load_address of a vmN node in the SPMC manifest";
    uuid_cells_in_the_order_of_the_text: stmm "<0xdcae8d37 0x46446bf0 0xab401483 0xa3873c93>" => "<0x378daedc 0xf06b4446 0x831440ab 0x933c87a3>";
        "partition vm2 (stmm): /: uuid = dcae8d37-4644-6bf0-ab40-1483a3873c93: expected 378daedc-f06b-4446-8314-40ab933c87a3 (as in TB_FW_CONFIG: the cells have their bytes reversed)";
    partition_without_package: spmc "vm2 {" => "vm3 { is_ffa_partition; debug_name = \"third\"; load_address = <0x0ef00000>; mem_size = <0x1000>; vcpu_count = <1>; }; vm2 {";
        "partition vm3 (third): package is missing: expected 0xef00000 (load_address of its vmN node: a package that BL2 puts there)";
}

#[test]
fn cores_of_the_platform_count_more_than_the_cpus_node() {
    let mut system = System::real();
    system.spmc = edit(&system.spmc, "vcpu_count = <8>", "vcpu_count = <4>");
    system.cores = 4;
    assert_eq!(system.problems(), [""; 0]);
    system.cores = 5;
    assert_eq!(system.problems().join("; "), "SPMC manifest: /hypervisor/vm1: vcpu_count = 4: expected at least 5 (the cores), as execution-ctx-count is not 1");
}

#[test]
fn partition_in_the_memory_of_tf_a() {
    let mut system = System::real();
    system.stmm_at = 0x0e08_0000;
    system.spmc = edit(&system.spmc, "load_address = <0x0e200000>", "load_address = <0x0e080000>");
    assert_eq!(system.problems().join("; "), "SPMC manifest: /hypervisor/vm2: mem_size = 0xe080000..=0xe47ffff: expected no overlap with TF-A, 0xe000000..=0xe0fffff; TB_FW_CONFIG: /secure-partitions/stmm: load-address = 0xe200000: expected 0xe080000 (load_address of its vmN node)");
}

#[test]
fn image_that_reaches_into_a_region() {
    let mut system = System::real();
    system.stmm_image = 0x20_0000;
    assert_eq!(system.problems().join("; "), "partition vm2 (stmm): /memory-regions/rx-tx-buffers: base-address = 0xe328000..=0xe32ffff: expected no overlap with the partition's own package, 0xe200000..=0xe403fff");
}

#[test]
fn number_of_the_node_serves_as_id() {
    let mut system = System::real();
    system.optee = edit(&system.optee, "id = <0x8001>", "id = <1>");
    assert_eq!(system.problems(), [""; 0]);
}

#[test]
fn devices_that_nobody_has_exclusively_may_be_shared() {
    let mut system = System::real();
    system.stmm = edit(&system.stmm, "exclusive-access;", "");
    system.stmm = edit(&system.stmm, "base-address = <0x0 0x03f00000>;\n\t\t\tpages-count = <0xc0>", "base-address = <0x0 0x09040000>;\n\t\t\tpages-count = <1>");
    assert_eq!(system.problems(), [""; 0]);
}

#[test]
fn non_secure_regions_may_be_shared() {
    let mut system = System::real();
    let region = "ns { base-address = <0x5ff00000>; pages-count = <16>; attributes = <0xb>; };";
    system.optee = edit(&system.optee, "stmm-buffer {", &format!("{region} stmm-buffer {{"));
    assert_eq!(system.problems(), [""; 0]);
}

#[test]
fn manifests_of_hafnium_without_device_nodes_are_judged_by_the_nodes_there_are() {
    let mut system = System::real();
    let start = system.spmc.find("/* The normal world's RAM").expect("there");
    system.spmc.replace_range(start.., "};");
    assert_eq!(system.problems(), [""; 0]);
    system.optee = edit(&system.optee, "<0x0 0x09040000>", "<0x0 0x0ef00000>");
    assert_eq!(system.problems().join("; "), "partition vm1 (op-tee): /device-regions/secure-uart: base-address = 0xef00000..=0xef00fff: expected no overlap with SPMC manifest: memory, 0xe000000..=0xeffffff");
}

#[test]
fn every_partition_gets_its_own_report() {
    let mut system = System::real();
    system.optee = edit(&system.optee, "xlat-granule = <0>", "xlat-granule = <7>");
    system.stmm = edit(&system.stmm, "entrypoint-offset = <0x4000>", "entrypoint-offset = <0>");
    system.table = edit(&system.table, "\"arm,sp\"", "\"sp\"");
    assert_eq!(system.problems().len(), 3, "{:?}", system.problems());
}

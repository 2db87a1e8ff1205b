//! SPMC manifests and load tables with one thing wrong in each, and what is said about it.

#[macro_use]
#[path = "support/broken.rs"]
mod broken_support;
mod support;

use bulkhead_manifests::{LoadTable, SpmcManifest};
use support::{SPMC, dtb};

mod spmc {
    use super::{SPMC, support};

    broken! {
        |source| support::spmc(source).map(drop);

        foreign_binding: SPMC, "\"arm,ffa-core-manifest-1.0\"" => "\"arm,ffa-manifest-1.0\"",
            "SPMC manifest: /: compatible = \"arm,ffa-manifest-1.0\": expected \"arm,ffa-core-manifest-1.0\"";
        missing_attributes: SPMC, "attribute {" => "attributes {",
            "SPMC manifest: /attribute is missing: expected a node with spmc_id, maj_ver and min_ver, which TF-A's SPMD reads, too";
        missing_spmc_id: SPMC, "spmc_id = <0x8000>;" => "",
            "SPMC manifest: /attribute: spmc_id is missing: expected the SPMC's endpoint id, as a rule 0x8000";
        spmc_id_of_the_normal_world: SPMC, "spmc_id = <0x8000>" => "spmc_id = <0x1>",
            "SPMC manifest: /attribute: spmc_id = 0x1: expected an id of the secure world: bit 15 set (TF-A insists on it)";
        spmc_id_of_two_cells: SPMC, "spmc_id = <0x8000>" => "spmc_id = <0x0 0x8000>",
            "SPMC manifest: /attribute: spmc_id has 8 bytes: expected one cell, <n>";
        major_version_2: SPMC, "maj_ver = <0x1>" => "maj_ver = <0x2>",
            "SPMC manifest: /attribute: maj_ver = 2: expected 1 (the major number of FF-A)";
        minor_version_3: SPMC, "min_ver = <0x2>" => "min_ver = <0x3>",
            "SPMC manifest: /attribute: min_ver = 3: expected at most 2 (Bulkhead and TF-A 2.12's SPMD know FF-A up to 1.2)";
        aarch32: SPMC, "exec_state = <0x0>" => "exec_state = <0x1>",
            "SPMC manifest: /attribute: exec_state = 1: expected 0 (AArch64)";
        entry_point_outside_the_image: SPMC, "entrypoint = <0x0 0x0e100000>" => "entrypoint = <0x0 0x0e200000>",
            "SPMC manifest: /attribute: entrypoint = 0xe200000: expected one inside the SPMC's image, 0xe100000..=0xe1fffff";
        missing_hypervisor: SPMC, "hypervisor {" => "partitions {",
            "SPMC manifest: /hypervisor is missing: expected a node with one vmN node for each partition";
        foreign_hypervisor: SPMC, "\"hafnium,hafnium\"" => "\"xen,xen\"",
            "SPMC manifest: /hypervisor: compatible = \"xen,xen\": expected \"hafnium,hafnium\"";
        vm_0: SPMC, "vm1 {" => "vm0 {",
            "SPMC manifest: /hypervisor/vm0 is there: expected the name vmN with N from 1 to 255: the partition's id becomes 0x8000 + N";
        vm_with_leading_zero: SPMC, "vm1 {" => "vm01 {",
            "SPMC manifest: /hypervisor/vm01 is there: expected the name vmN with N from 1 to 255: the partition's id becomes 0x8000 + N";
        vm_number_beyond_8_bits: SPMC, "vm1 {" => "vm256 {",
            "SPMC manifest: /hypervisor/vm256 is there: expected the name vmN with N from 1 to 255: the partition's id becomes 0x8000 + N";
        node_that_is_no_vm: SPMC, "vm1 {" => "op-tee {",
            "SPMC manifest: /hypervisor/op-tee is there: expected the name vmN with N from 1 to 255: the partition's id becomes 0x8000 + N";
        vm_without_name: SPMC, "debug_name = \"stmm\";" => "",
            "SPMC manifest: /hypervisor/vm2: debug_name is missing: expected the partition's name";
        vm_that_is_no_ffa_partition: SPMC, "is_ffa_partition;\n\t\t\tdebug_name = \"stmm\"" => "debug_name = \"stmm\"",
            "SPMC manifest: /hypervisor/vm2: is_ffa_partition is missing: expected the empty property: only FF-A partitions are loaded";
        vm_without_load_address: SPMC, "load_address = <0x0e200000>;" => "",
            "SPMC manifest: /hypervisor/vm2: load_address is missing: expected where BL2 puts the package";
        unaligned_vm: SPMC, "<0x0e200000>" => "<0x0e200010>",
            "SPMC manifest: /hypervisor/vm2: load_address = 0xe200010: expected a multiple of 0x1000, not 0";
        vm_without_memory: SPMC, "mem_size = <0x00400000>" => "mem_size = <0>",
            "SPMC manifest: /hypervisor/vm2: mem_size = 0x0: expected a multiple of 0x1000, not 0";
        vm_that_wraps: SPMC, "<0x0e200000>" => "<0xffffffff 0xfff00000>",
            "SPMC manifest: /hypervisor/vm2: mem_size = 0x400000: expected an end inside 64 bits of address";
        nine_vcpus: SPMC, "vcpu_count = <8>" => "vcpu_count = <9>",
            "SPMC manifest: /hypervisor/vm1: vcpu_count = 9: expected 1 to 8";
        keep_going_with_a_value: SPMC, "\"hafnium,hafnium\";" => "\"hafnium,hafnium\"; bulkhead,keep-going = <1>;",
            "SPMC manifest: /hypervisor: bulkhead,keep-going has 4 bytes: expected no value: its presence says it all";
        init_time_limit_that_is_text: SPMC, "\"hafnium,hafnium\";" => "\"hafnium,hafnium\"; bulkhead,init-time-limit-ms = \"30 s\";",
            "SPMC manifest: /hypervisor: bulkhead,init-time-limit-ms has 5 bytes: expected one number: a cell <n>, or two <high low>";
        no_secure_memory: SPMC, "\"memory\"" => "\"ns-device-memory\"",
            "SPMC manifest: / has no secure memory: expected a node with device_type = \"memory\" and a reg of secure RAM";
        unknown_memory: SPMC, "\"ns-memory\"" => "\"nonsecure-memory\"",
            "SPMC manifest: /memory@40000000: device_type = \"nonsecure-memory\": expected \"memory\", \"ns-memory\", \"device-memory\" or \"ns-device-memory\"";
        memory_of_half_a_page: SPMC, "<0x0 0x09040000 0x00001000>" => "<0x0 0x09040000 0x00000800>",
            "SPMC manifest: /memory@0: reg = 0x9040000..=0x90407ff: expected a base and a size that are multiples of 0x1000, size not 0";
        memory_without_size: SPMC, "<0x0 0x09040000 0x00001000>" => "<0x0 0x09040000>",
            "SPMC manifest: /memory@0: reg has 20 bytes: expected <base size> pairs with as many cells as the root's #address-cells and #size-cells say";
        memory_in_two_worlds: SPMC, "<0x0 0x09000000 0x00001000>" => "<0x0 0x09040000 0x00001000>",
            "SPMC manifest: /memory@4000000: reg = 0x9040000..=0x9040fff: expected no overlap with SPMC manifest: device-memory, 0x9040000..=0x9040fff";
        cells_of_three: SPMC, "#size-cells = <1>" => "#size-cells = <3>",
            "SPMC manifest: /: #size-cells = 3: expected 1 or 2";
        core_twice: SPMC, "cpu@3 { device_type = \"cpu\"; reg = <0x0 0x3>; };" => "cpu@3 { device_type = \"cpu\"; reg = <0x0 0x2>; };",
            "SPMC manifest: /cpus/cpu@3: reg = 0x2: expected an MPIDR that no other core has";
        core_without_mpidr: SPMC, "cpu@3 { device_type = \"cpu\"; reg = <0x0 0x3>; };" => "cpu@3 { device_type = \"cpu\"; };",
            "SPMC manifest: /cpus/cpu@3: reg is missing: expected the core's MPIDR in as many cells as #address-cells of cpus says";
        nine_cores: SPMC, "cpu@7 {" => "cpu@8 { device_type = \"cpu\"; reg = <0x0 0x8>; }; cpu@7 {",
            "SPMC manifest: /cpus/cpu@7 is there: expected at most 8 cpu nodes";
    }
}

mod load_table {
    use super::{LoadTable, dtb, support};

    /// A table like that of the real system.
    const TABLE: &str = r#"
/dts-v1/;
/ {
	secure-partitions {
		compatible = "arm,sp";
		op-tee { uuid = "486178e0-e7f8-11e3-bc5e-0002a5d5c51b"; load-address = <0x0e600000>; };
		stmm { uuid = "378DAEDC-f06b-4446-8314-40ab933c87a3"; load-address = <0x0e200000>; };
	};
};
"#;

    broken! {
        |source| LoadTable::read(&dtb(source)).map(drop).map_err(|e| e.to_string());

        missing: TABLE, "secure-partitions" => "partitions",
            "TB_FW_CONFIG: /secure-partitions is missing: expected the packages that BL2 loads";
        foreign_binding: TABLE, "\"arm,sp\"" => "\"arm,secure-partitions\"",
            "TB_FW_CONFIG: /secure-partitions: compatible = \"arm,secure-partitions\": expected \"arm,sp\"";
        uuid_without_dashes: TABLE, "\"486178e0-e7f8-11e3-bc5e-0002a5d5c51b\"" => "\"486178e0e7f811e3bc5e0002a5d5c51b\"",
            "TB_FW_CONFIG: /secure-partitions/op-tee: uuid = \"486178e0e7f811e3bc5e0002a5d5c51b\": expected a UUID as text, 00112233-4455-6677-8899-aabbccddeeff";
        uuid_of_other_letters: TABLE, "486178e0" => "486178eg",
            "TB_FW_CONFIG: /secure-partitions/op-tee: uuid = \"486178eg-e7f8-11e3-bc5e-0002a5d5\": expected a UUID as text, 00112233-4455-6677-8899-aabbccddeeff";
        uuid_in_cells: TABLE, "\"486178e0-e7f8-11e3-bc5e-0002a5d5c51b\"" => "<0xe0786148 0xe311f8e7 0x02005ebc 0x1bc5d5a5>",
            "TB_FW_CONFIG: /secure-partitions/op-tee: uuid has 16 bytes: expected one string, \"...\"";
        address_of_two_cells: TABLE, "<0x0e600000>" => "<0x0 0x0e600000>",
            "TB_FW_CONFIG: /secure-partitions/op-tee: load-address has 8 bytes: expected one cell, <n>";
        missing_address: TABLE, "load-address = <0x0e600000>;" => "",
            "TB_FW_CONFIG: /secure-partitions/op-tee: load-address is missing: expected where BL2 puts the package, one cell";
        uuid_twice: TABLE, "378DAEDC-f06b-4446-8314-40ab933c87a3" => "486178e0-e7f8-11e3-bc5e-0002a5d5c51b",
            "TB_FW_CONFIG: /secure-partitions/stmm: uuid = 486178e0-e7f8-11e3-bc5e-0002a5d5c51b: expected each UUID once: BL2 would load one package twice";
        nine_packages: TABLE, "op-tee {" => "a { uuid = \"00000000-0000-0000-0000-000000000001\"; load-address = <1>; };
            b { uuid = \"00000000-0000-0000-0000-000000000002\"; load-address = <2>; };
            c { uuid = \"00000000-0000-0000-0000-000000000003\"; load-address = <3>; };
            d { uuid = \"00000000-0000-0000-0000-000000000004\"; load-address = <4>; };
            e { uuid = \"00000000-0000-0000-0000-000000000005\"; load-address = <5>; };
            f { uuid = \"00000000-0000-0000-0000-000000000006\"; load-address = <6>; };
            g { uuid = \"00000000-0000-0000-0000-000000000007\"; load-address = <7>; }; op-tee {",
            "TB_FW_CONFIG: /secure-partitions/stmm is there: expected at most 8 packages: BL2 has room for no more";
    }
}

mod device_tree {
    use super::{SPMC, SpmcManifest, dtb, support};

    fn error(bytes: &[u8]) -> String {
        SpmcManifest::new().parse_into(bytes).expect_err("accepted").to_string()
    }

    #[test]
    fn source_in_place_of_a_compiled_tree() {
        assert_eq!(error(SPMC.as_bytes()), "SPMC manifest: /: device tree = 0x2f2a0a20: expected magic 0xd00dfeed (is it a DTS source, not compiled by dtc?)");
    }

    #[test]
    fn no_bytes_at_all() {
        assert_eq!(error(&[]), "SPMC manifest: /: device tree has 0 bytes: expected a flattened device tree (40 bytes or more)");
    }

    #[test]
    fn tree_that_is_cut_short() {
        let bytes = dtb(SPMC);
        assert_eq!(error(&bytes[..1000]), "SPMC manifest: /: device tree has 1000 bytes: expected 1481 (the size in its header: is it cut short?)");
    }

    #[test]
    fn tree_of_another_version() {
        let mut bytes = dtb(SPMC);
        bytes[23] = 16;
        assert_eq!(error(&bytes), "SPMC manifest: /: device tree has a version other than 17: expected a well-formed flattened device tree");
    }

    #[test]
    fn tree_with_a_broken_structure() {
        let mut bytes = dtb(SPMC);
        let structure = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        bytes[structure + 3] = 7;
        assert_eq!(error(&bytes), "SPMC manifest: /: device tree has a structure block that is broken: expected a well-formed flattened device tree");
    }

    #[test]
    fn tree_beyond_the_page_that_tf_a_maps() {
        let source = support::edit(SPMC, "#size-cells = <1>;", &format!("#size-cells = <1>; remark = \"{}\";", "long ".repeat(600)));
        assert_eq!(error(&dtb(&source)), "SPMC manifest: /: device tree has 4504 bytes: expected at most 4096 bytes: TF-A's SPMD maps one page of it");
    }
}

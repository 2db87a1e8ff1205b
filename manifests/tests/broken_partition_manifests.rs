//! Partition manifests with one thing wrong in each, and what is said about it.

#[macro_use]
#[path = "support/broken.rs"]
mod broken_support;
mod support;

use support::{OPTEE, STMM, partition, subject};

/// StMM's manifest with what neither real manifest has: streams and RX/TX buffers.
const STREAMS: &str = r#"
/dts-v1/;
/ {
	compatible = "arm,ffa-manifest-1.0";
	ffa-version = <0x00010001>;
	uuid = <0x33221100 0x77665544 0xbbaa9988 0xffeeddcc>, <1 2 3 4>;
	exception-level = <2>;
	execution-state = <0>;
	execution-ctx-count = <1>;
	xlat-granule = <2>;
	entrypoint-offset = <0x10000>;
	messaging-method = <1 3>;

	rx_tx-info {
		compatible = "arm,ffa-manifest-rx_tx-buffer";
		rx-buffer = <&rx>;
		tx-buffer = <&tx>;
	};

	memory-regions {
		compatible = "arm,ffa-manifest-memory-regions";
		rx: receive { load-address-relative-offset = <0x20000>; pages-count = <1>; attributes = <1>; };
		tx: send { load-address-relative-offset = <0x30000>; pages-count = <1>; attributes = <3>; };
		dma { base-address = <0 0x0e800000>; pages-count = <4>; attributes = <3>; smmu-id = <0>; stream-ids = <7 8>; stream-ids-access-permissions = <1 3>; };
	};

	device-regions {
		compatible = "arm,ffa-manifest-device-regions";
		engine { base-address = <0 0x09100000>; pages-count = <1>; attributes = <3>; smmu-id = <0>; stream-ids = <7 8>; interrupts = <27 0x705>; interrupts-target = <27 0 1>; };
	};
};
"#;

broken! {
    |source| partition(source, subject(1, "op-tee")).map(drop);

    foreign_binding: OPTEE, "\"arm,ffa-manifest-1.0\"" => "\"arm,ffa-manifest-2.0\"",
        "partition vm1 (op-tee): /: compatible = \"arm,ffa-manifest-2.0\": expected \"arm,ffa-manifest-1.0\"";
    missing_binding: OPTEE, "compatible = \"arm,ffa-manifest-1.0\";" => "",
        "partition vm1 (op-tee): /: compatible is missing: expected \"arm,ffa-manifest-1.0\"";
    description_that_is_a_number: OPTEE, "\"op-tee\"" => "<1>",
        "partition vm1 (op-tee): /: description has 4 bytes: expected one string, \"...\"";
    missing_version: OPTEE, "ffa-version = <0x00010002>;" => "",
        "partition vm1 (op-tee): /: ffa-version is missing: expected 0x10000 (1.0), 0x10001 (1.1) or 0x10002 (1.2)";
    version_of_the_future: OPTEE, "<0x00010002>" => "<0x00020000>",
        "partition vm1 (op-tee): /: ffa-version = 0x20000: expected 0x10000 (1.0), 0x10001 (1.1) or 0x10002 (1.2)";
    missing_uuid: OPTEE, "uuid = <0xe0786148 0xe311f8e7 0x02005ebc 0x1bc5d5a5>;" => "",
        "partition vm1 (op-tee): /: uuid is missing: expected four cells for each UUID, the words of the registers: <0x33221100 ...> for 00112233-...";
    uuid_of_three_cells: OPTEE, "<0xe0786148 0xe311f8e7 0x02005ebc 0x1bc5d5a5>" => "<0xe0786148 0xe311f8e7 0x02005ebc>",
        "partition vm1 (op-tee): /: uuid has 12 bytes: expected four cells for each UUID, the words of the registers: <0x33221100 ...> for 00112233-...";
    nil_uuid: OPTEE, "<0xe0786148 0xe311f8e7 0x02005ebc 0x1bc5d5a5>" => "<0 0 0 0>",
        "partition vm1 (op-tee): /: uuid = 00000000-0000-0000-0000-000000000000: expected a UUID other than nil";
    uuid_twice: STREAMS, "<1 2 3 4>" => "<0x33221100 0x77665544 0xbbaa9988 0xffeeddcc>",
        "partition vm1 (op-tee): /: uuid = 00112233-4455-6677-8899-aabbccddeeff: expected each UUID once";
    too_many_uuids: STREAMS, "<1 2 3 4>" => "<1 0 0 0>, <2 0 0 0>, <3 0 0 0>, <4 0 0 0>",
        "partition vm1 (op-tee): /: uuid = 5: expected at most 4 UUIDs";
    missing_messaging_method: OPTEE, "messaging-method = <0x3>;" => "",
        "partition vm1 (op-tee): /: messaging-method is missing: expected bit 0 receives and bit 1 sends direct requests, 2 indirect, 9 and 10 REQ2";
    unknown_messaging_method: OPTEE, "messaging-method = <0x3>" => "messaging-method = <0x9>",
        "partition vm1 (op-tee): /: messaging-method = 0x9: expected no bits besides 0, 1, 2, 9 and 10";
    direct_request_2_before_version_1_2: STMM, "<0x00010002>" => "<0x00010001>",
        "partition vm1 (op-tee): /: messaging-method = 0x201: expected bits 9 and 10 clear: ffa-version is below 1.2, which brought FFA_MSG_SEND_DIRECT_REQ2";
    messaging_methods_for_other_uuids: STREAMS, "messaging-method = <1 3>" => "messaging-method = <1 3 1>",
        "partition vm1 (op-tee): /: messaging-method has a number of cells other than that of UUIDs: expected 2 (one for each UUID, or one for all)";
    id_beyond_16_bits: OPTEE, "id = <0x8001>" => "id = <0x18001>",
        "partition vm1 (op-tee): /: id = 0x18001: expected at most 0xffff (an endpoint id has 16 bits)";
    primary_scheduler: OPTEE, "notification-support;" => "notification-support; has-primary-scheduler;",
        "partition vm1 (op-tee): /: has-primary-scheduler is there: expected no such property: only a normal-world partition can hold the primary scheduler";
    exception_level_of_a_hypervisor: OPTEE, "exception-level = <2>" => "exception-level = <3>",
        "partition vm1 (op-tee): /: exception-level = 3: expected 1 (S-EL0) or 2 (S-EL1)";
    aarch32: OPTEE, "execution-state = <0>" => "execution-state = <1>",
        "partition vm1 (op-tee): /: execution-state = 1: expected 0 (AArch64; AArch32 partitions are not supported)";
    no_execution_context: OPTEE, "execution-ctx-count = <8>" => "execution-ctx-count = <0>",
        "partition vm1 (op-tee): /: execution-ctx-count = 0: expected 1, or the number of cores (up to 8)";
    two_contexts_at_s_el0: STMM, "execution-ctx-count = <1>" => "execution-ctx-count = <2>",
        "partition vm1 (op-tee): /: execution-ctx-count = 2: expected 1 (a partition at S-EL0 has one)";
    unknown_granule: OPTEE, "xlat-granule = <0>" => "xlat-granule = <3>",
        "partition vm1 (op-tee): /: xlat-granule = 3: expected 0 (4 KiB), 1 (16 KiB) or 2 (64 KiB)";
    unaligned_load_address: OPTEE, "<0x0 0x0e600000>" => "<0x0 0x0e600800>",
        "partition vm1 (op-tee): /: load-address = 0xe600800: expected a multiple of 0x1000";
    load_address_of_three_cells: OPTEE, "<0x0 0x0e600000>" => "<0x0 0x0 0x0e600000>",
        "partition vm1 (op-tee): /: load-address has 12 bytes: expected one number: a cell <n>, or two <high low>";
    odd_mem_size: OPTEE, "mem-size = <0x00900000>" => "mem-size = <0x00900010>",
        "partition vm1 (op-tee): /: mem-size = 0x900010: expected a multiple of 0x1000, not 0";
    unaligned_entry_point: OPTEE, "entrypoint-offset = <0x4000>" => "entrypoint-offset = <0x4002>",
        "partition vm1 (op-tee): /: entrypoint-offset = 0x4002: expected a multiple of 0x4";
    boot_order_beyond_16_bits: OPTEE, "boot-order = <0>" => "boot-order = <0x10000>",
        "partition vm1 (op-tee): /: boot-order = 65536: expected at most 65535 (0xffff says: no order)";
    boot_information_in_x4: OPTEE, "gp-register-num = <0>" => "gp-register-num = <4>",
        "partition vm1 (op-tee): /: gp-register-num = 4: expected at most 3 (x0 to x3)";
    boot_information_of_a_foreign_binding: OPTEE, "\"arm,ffa-manifest-boot-info\"" => "\"boot-info\"",
        "partition vm1 (op-tee): /boot-info: compatible = \"boot-info\": expected \"arm,ffa-manifest-boot-info\"";
    unknown_interrupt_action: OPTEE, "ns-interrupts-action = <1>" => "ns-interrupts-action = <3>",
        "partition vm1 (op-tee): /: ns-interrupts-action = 3: expected 0 (queued), 1 (managed exit) or 2 (signaled)";
    managed_exit_at_s_el0: STMM, "ns-interrupts-action = <2>" => "ns-interrupts-action = <1>",
        "partition vm1 (op-tee): /: ns-interrupts-action = 1: expected another action: a partition at S-EL0 takes no interrupts, so it cannot make a managed exit";
    actions_that_contradict: STMM, "ns-interrupts-action = <2>" => "ns-interrupts-action = <2>; managed-exit",
        "partition vm1 (op-tee): /: ns-interrupts-action = 2: expected 1 (as managed-exit says, or no managed-exit)";
    secure_interrupts_queued_alone: OPTEE, "ns-interrupts-action = <1>" => "ns-interrupts-action = <1>; other-s-interrupts-action = <0>",
        "partition vm1 (op-tee): /: other-s-interrupts-action = 0: expected 1 (queueing other secure interrupts needs ns-interrupts-action = 0, too)";
    notifications_with_a_value: OPTEE, "notification-support;" => "notification-support = <1>;",
        "partition vm1 (op-tee): /: notification-support has 4 bytes: expected no value: its presence says it all";
    notifications_before_version_1_1: OPTEE, "<0x00010002>" => "<0x00010000>",
        "partition vm1 (op-tee): /: notification-support is there: expected ffa-version 1.1 or later, which brought notifications";

    memory_regions_of_a_foreign_binding: STMM, "\"arm,ffa-manifest-memory-regions\"" => "\"memory\"",
        "partition vm1 (op-tee): /memory-regions: compatible = \"memory\": expected \"arm,ffa-manifest-memory-regions\"";
    region_without_pages: STMM, "pages-count = <8>;" => "",
        "partition vm1 (op-tee): /memory-regions/rx-tx-buffers: pages-count is missing: expected 1 or more pages";
    region_of_no_pages: STMM, "pages-count = <8>" => "pages-count = <0>",
        "partition vm1 (op-tee): /memory-regions/rx-tx-buffers: pages-count = 0: expected 1 or more pages";
    region_that_wraps: STMM, "base-address = <0x0 0x0e330000>" => "base-address = <0xffffffff 0xfffff000>",
        "partition vm1 (op-tee): /memory-regions/heap: pages-count = 720: expected an end inside 64 bits of address";
    unaligned_region: STMM, "base-address = <0x0 0x0e330000>" => "base-address = <0x0 0x0e330004>",
        "partition vm1 (op-tee): /memory-regions/heap: base-address = 0xe330004: expected a multiple of 0x1000";
    region_unaligned_for_its_granule: STREAMS, "<0 0x0e800000>" => "<0 0x0e801000>",
        "partition vm1 (op-tee): /memory-regions/dma: base-address = 0xe801000: expected a multiple of 0x10000";
    region_without_attributes: STMM, "attributes = <0xb>;" => "",
        "partition vm1 (op-tee): /memory-regions/ns_comm_buffer: attributes is missing: expected 1 (read), 3 (read, write) or 5 (read, execute), with 8 where it is the normal world's";
    region_to_write_and_execute: STMM, "attributes = <0xb>" => "attributes = <0x7>",
        "partition vm1 (op-tee): /memory-regions/ns_comm_buffer: attributes = 0x7: expected 1 (read), 3 (read, write) or 5 (read, execute), with 8 where it is the normal world's";
    region_with_two_bases: STMM, "base-address = <0x0 0x0e330000>;" => "base-address = <0x0 0x0e330000>; load-address-relative-offset = <0x130000>;",
        "partition vm1 (op-tee): /memory-regions/heap: load-address-relative-offset = 0x130000: expected either this or base-address, not both";
    memory_streams_without_device: STREAMS, "stream-ids = <7 8>; stream-ids" => "stream-ids = <7 9>; stream-ids",
        "partition vm1 (op-tee): /memory-regions/dma: stream-ids = 9: expected ids that exactly one device region of this partition has, too";
    stream_permissions_for_other_streams: STREAMS, "permissions = <1 3>" => "permissions = <1>",
        "partition vm1 (op-tee): /memory-regions/dma: stream-ids-access-permissions has a number of cells other than that of stream-ids: expected 2 (one for each stream id)";
    device_without_base: OPTEE, "base-address = <0x0 0x09040000>;" => "",
        "partition vm1 (op-tee): /device-regions/secure-uart: base-address is missing: expected the physical address of the device's registers";
    shared_with_the_spmc: STMM, "shared-with = <0x8001>" => "shared-with = <0x8000>",
        "partition vm1 (op-tee): /memory-regions/rx-tx-buffers: bulkhead,shared-with = 0x8000: expected the endpoint id of a partition, 0x8001 or more";
    code_that_is_shared: STMM, "attributes = <0x3>;\t/* secure, read and write */\n\t\t\tbulkhead," => "attributes = <0x5>; bulkhead,",
        "partition vm1 (op-tee): /memory-regions/rx-tx-buffers: bulkhead,shared-with = 0x8001: expected this only of secure memory that nobody executes";
    device_to_execute: OPTEE, "pages-count = <1>;\n\t\t\tattributes = <0x3>" => "pages-count = <1>;\n\t\t\tattributes = <0x5>",
        "partition vm1 (op-tee): /device-regions/secure-uart: attributes = 0x5: expected 1 (read) or 3 (read, write), with 8 where it is the normal world's";
    no_device_below_device_regions: OPTEE, "secure-uart {\n\t\t\tbase-address = <0x0 0x09040000>;\n\t\t\tpages-count = <1>;\n\t\t\tattributes = <0x3>;\t/* secure, read and write */\n\t\t\t/* SPI 8: an SPI (0x800), level (0x200), secure (0x100), priority 1 */\n\t\t\tinterrupts = <40 0xb01>;\n\t\t};" => "",
        "partition vm1 (op-tee): /device-regions has no region: expected at least one";
    half_an_interrupt: OPTEE, "<40 0xb01>" => "<40>",
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts has 4 bytes: expected <id attributes> pairs";
    interrupt_of_another_type: OPTEE, "<40 0xb01>" => "<40 0x701>",
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 40: expected a PPI's id, 16 to 31, as the type in its attributes (bits 11..10) says";
    interrupt_of_no_type: OPTEE, "<40 0xb01>" => "<40 0xf01>",
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 0xf01: expected a type in bits 11..10 that is 0 (SGI), 1 (PPI) or 2 (SPI)";
    interrupt_attributes_beyond_12_bits: OPTEE, "<40 0xb01>" => "<40 0x1b01>",
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 0x1b01: expected attributes of 12 bits: priority 7..0, secure 8, level 9, type 11..10";
    interrupt_id_out_of_range: OPTEE, "<40 0xb01>" => "<1020 0xb01>",
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 1020: expected an SPI's id, 32 to 1019, as the type in its attributes (bits 11..10) says";
    interrupt_twice: OPTEE, "<40 0xb01>" => "<40 0xb01>, <40 0xb02>",
        "partition vm1 (op-tee): /device-regions/secure-uart: interrupts = 40: expected each id once in the manifest";
    target_of_no_interrupt: STREAMS, "interrupts-target = <27 0 1>" => "interrupts-target = <28 0 1>",
        "partition vm1 (op-tee): /device-regions/engine: interrupts-target = 28: expected an id of this node's interrupts";
    streams_without_smmu: STREAMS, "attributes = <3>; smmu-id = <0>; stream-ids = <7 8>; interrupts" => "attributes = <3>; stream-ids = <7 8>; interrupts",
        "partition vm1 (op-tee): /device-regions/engine: smmu-id is missing: expected the SMMU that the stream-ids go through";
    stream_twice: STREAMS, "stream-ids = <7 8>; interrupts " => "stream-ids = <7 7>; interrupts ",
        "partition vm1 (op-tee): /device-regions/engine: stream-ids = 7: expected each id once among all devices of the partition";
    exclusive_access_with_a_value: STMM, "exclusive-access;" => "exclusive-access = \"yes\";",
        "partition vm1 (op-tee): /device-regions/variable-store: exclusive-access has 4 bytes: expected no value: its presence says it all";
    rx_buffer_that_is_no_region: STREAMS, "rx-buffer = <&rx>" => "rx-buffer = <99>",
        "partition vm1 (op-tee): /rx_tx-info: rx-buffer = 0x63: expected the phandle of a node of memory-regions";
    rx_and_tx_in_one: STREAMS, "tx-buffer = <&tx>" => "tx-buffer = <&rx>",
        "partition vm1 (op-tee): /rx_tx-info: tx-buffer is the same region as rx-buffer: expected two regions";
    rx_and_tx_of_two_sizes: STREAMS, "<0x30000>; pages-count = <1>" => "<0x30000>; pages-count = <2>",
        "partition vm1 (op-tee): /rx_tx-info: tx-buffer = 0x20000: expected 0x10000 (the bytes of rx-buffer: both have the same size)";
}

#[test]
fn too_many_memory_regions() {
    let regions: String = (0..17).map(|i| format!("r{i} {{ base-address = <{:#x}>; pages-count = <1>; attributes = <3>; }};", 0x0e40_0000 + i * 0x1000)).collect();
    let source = support::edit(STMM, "\"arm,ffa-manifest-memory-regions\";", &format!("\"arm,ffa-manifest-memory-regions\"; {regions}"));
    assert_eq!(
        partition(&source, subject(2, "stmm")).expect_err("accepted"),
        "partition vm2 (stmm): /memory-regions/r16 is there: expected at most 16 memory regions"
    );
}

#[test]
fn name_with_control_characters_cannot_forge_a_line() {
    let error = partition(&support::edit(OPTEE, "\"arm,ffa-manifest-1.0\"", "\"x\\nSTEP forged PASS\""), subject(1, "op\u{1b}[2J")).expect_err("accepted");
    assert_eq!(error, "partition vm1 (op?[2J): /: compatible = \"x?STEP forged PASS\": expected \"arm,ffa-manifest-1.0\"");
}

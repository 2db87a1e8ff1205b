//! What the binding allows, suites of others use, and our own manifests do not: each construct read, and what is not acted upon
//! named.

mod support;

use bulkhead_ffa::Version;
use bulkhead_manifests::edit::add_base_address;
use bulkhead_manifests::partition::{
    BootInfoRequest, ExceptionLevel, Granule, Messaging, NsInterruptAction, PowerMessages, RegionBase, RxTx, Tolerated, VmMessages,
};
use bulkhead_manifests::{AddressRange, LoadedPartition, PartitionManifest, Platform, check_system, unserved};
use support::{SPMC, dtb, edit, package, partition, sptool, subject};

/// A manifest with the mandatory properties; `more` goes into the root node.
fn minimal(more: &str) -> String {
    format!(
        "/dts-v1/; / {{ compatible = \"arm,ffa-manifest-1.0\"; ffa-version = <0x10001>; uuid = <0x33221100 0x77665544 0xbbaa9988 0xffeeddcc>;
         execution-ctx-count = <1>; exception-level = <2>; execution-state = <0>; messaging-method = <3>; {more} }};"
    )
}

fn read(source: &str) -> PartitionManifest {
    partition(source, subject(2, "stmm")).unwrap_or_else(|e| panic!("{e}\n{source}"))
}

fn refused(source: &str) -> String {
    partition(source, subject(2, "stmm")).map(drop).expect_err("accepted")
}

/// The properties that are named at boot as without effect.
fn named(manifest: &PartitionManifest) -> Vec<&'static str> {
    let spmc = support::spmc(SPMC).expect("valid");
    unserved(&spmc.partitions[1], manifest).map(|(property, _)| property).collect()
}

/// Whether the partition is right as vm2 of our system, of 4 MiB from 0xe200000 on.
fn judged(manifest: &PartitionManifest, image: usize) -> Result<(), String> {
    let spmc = support::spmc(SPMC).expect("valid");
    let package = package(&sptool(b"manifest", image)).expect("valid");
    let loaded = [LoadedPartition { vm: &spmc.partitions[1], manifest, package }];
    check_system(&spmc, &loaded, &Platform { reserved: &[], interrupts: &[], cores: 4 }).map_err(|e| e.to_string())
}

fn regions(nodes: &str) -> String {
    format!("memory-regions {{ compatible = \"arm,ffa-manifest-memory-regions\"; {nodes} }};")
}

fn devices(nodes: &str) -> String {
    format!("device-regions {{ compatible = \"arm,ffa-manifest-device-regions\"; {nodes} }};")
}

#[test]
fn mandatory_properties_are_enough() {
    let manifest = read(&minimal(""));
    assert_eq!(manifest.granule, Granule::Size4K);
    assert_eq!((manifest.load_address, manifest.entrypoint_offset, manifest.gp_register, manifest.boot_order), (None, None, None, None));
    assert_eq!(manifest.ns_interrupts, NsInterruptAction::Signaled);
    assert_eq!((manifest.notifications, manifest.power_messages, manifest.boot_info), (false, None, BootInfoRequest::default()));
    assert_eq!(judged(&manifest, 100), Ok(()), "without entrypoint-offset the image's first byte is the entry point");
    assert!(named(&manifest).is_empty());
}

#[test]
fn versions_above_ours_are_spoken_as_ours() {
    for (cell, version) in [(0x1_0000, Version::V1_0), (0x1_0001, Version::V1_1), (0x1_0002, Version::V1_2)] {
        let manifest = read(&minimal("").replace("0x10001", &format!("{cell:#x}")));
        assert_eq!((manifest.ffa_version, manifest.tolerated), (version, Tolerated(0)));
    }
    let manifest = read(&minimal("").replace("0x10001", "0x10003"));
    assert_eq!((manifest.ffa_version, named(&manifest)), (Version::V1_2, vec!["ffa-version"]));
    assert!(refused(&minimal("").replace("0x10001", "0x20000")).contains("ffa-version = 0x20000"));
}

#[test]
fn exception_levels_of_the_binding() {
    let level = |n: u32| minimal("").replace("exception-level = <2>", &format!("exception-level = <{n}>"));
    assert_eq!(read(&level(1)).exception_level, ExceptionLevel::SEl0);
    assert_eq!(read(&level(2)).exception_level, ExceptionLevel::SEl1);
    let of_a_vm = read(&level(0));
    assert_eq!((of_a_vm.exception_level, named(&of_a_vm)), (ExceptionLevel::SEl1, vec!["exception-level"]));
    assert!(refused(&level(3)).contains("exception-level = 3"));
}

#[test]
fn several_uuids_as_cells_as_text_and_as_services() {
    let uuids = |manifest: &PartitionManifest| manifest.services.iter().map(|s| (s.uuid.to_string(), s.messaging.0)).collect::<Vec<_>>();
    let (one, two) = ("00112233-4455-6677-8899-aabbccddeeff", "01000000-0200-0000-0300-000004000000");
    let expected = |m1: u32, m2: u32| vec![(one.to_owned(), m1), (two.to_owned(), m2)];
    assert_eq!(uuids(&read(&edit(&minimal(""), "0xffeeddcc>", "0xffeeddcc>, <1 2 3 4>"))), expected(3, 3));
    assert_eq!(uuids(&read(&edit(&edit(&minimal(""), "0xffeeddcc>", "0xffeeddcc 1 2 3 4>"), "<3>", "<3 4>"))), expected(3, 4));
    let text = edit(&minimal(""), "<0x33221100 0x77665544 0xbbaa9988 0xffeeddcc>", &format!("\"{one}\", \"{two}\""));
    assert_eq!(uuids(&read(&text)), expected(3, 3));
    let services = format!(
        "services {{ compatible = \"arm,ffa-manifest-services\"; service0 {{ uuid = \"{one}\"; messaging-method = <0x607>; }};
         service1 {{ uuid = \"{two}\"; messaging-method = <4>; }}; }};"
    );
    let source = minimal(&services).replace("messaging-method = <3>;", "").replace("uuid = <0x33221100 0x77665544 0xbbaa9988 0xffeeddcc>;", "");
    let source = source.replace("manifest-1.0", "manifest-1.1").replace("0x10001", "0x10002");
    let manifest = read(&source);
    assert_eq!((uuids(&manifest), manifest.messaging), (expected(0x607, 4), Messaging(0x607)));

    assert!(refused(&source.replace(one, "00112233")).contains("/services/service0: uuid = \"00112233\""));
    assert!(refused(&source.replace(one, two)).contains("each UUID once"));
    assert!(refused(&source.replace("messaging-method = <4>;", "")).contains("/services/service1: messaging-method is missing"));
    assert!(refused(&edit(&source, "manifest-services", "services")).contains("/services: compatible"));
    assert!(refused(&edit(&minimal(""), "0xffeeddcc>", "0xffeeddcc 1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4>")).contains("uuid = 5: expected at most 4"));
    let five: String = (0..5).map(|n| format!("s{n} {{ uuid = \"{n}0000000-0000-0000-0000-000000000001\"; messaging-method = <1>; }};")).collect();
    assert!(refused(&minimal(&format!("services {{ compatible = \"arm,ffa-manifest-services\"; {five} }};"))).contains("at most 4"));
}

#[test]
fn messaging_methods_of_every_size() {
    for (value, bits) in [("<0>", 0), ("<7>", 7), ("[03]", 3), ("/bits/ 16 <4>", 4)] {
        assert_eq!(read(&minimal("").replace("messaging-method = <3>", &format!("messaging-method = {value}"))).messaging, Messaging(bits), "{value}");
    }
}

#[test]
fn another_load_address_is_the_integrators_and_is_named() {
    let manifest = read(&minimal("load-address = <0x7000000>;"));
    assert_eq!((judged(&manifest, 100), named(&manifest)), (Ok(()), vec!["load-address"]));
    assert!(named(&read(&minimal("load-address = <0xe200000>;"))).is_empty());
}

#[test]
fn ids_may_be_short_and_auxiliary_ids_shared() {
    for id in ["2", "0x8002"] {
        assert_eq!(judged(&read(&minimal(&format!("id = <{id}>;"))), 100), Ok(()));
    }
    let manifest = read(&minimal("id = <3>;"));
    assert_eq!((judged(&manifest, 100), named(&manifest)), (Ok(()), vec!["id"]));
    let manifest = read(&minimal("auxiliary-id = <0xae>; stream-endpoint-ids = <0 1 2 3>;"));
    assert_eq!((judged(&manifest, 100), named(&manifest)), (Ok(()), vec!["auxiliary-id"]));
}

#[test]
fn boot_protocol_properties() {
    for register in 0..4 {
        let source = minimal(&format!("gp-register-num = <{register}>; boot-info {{ compatible = \"arm,ffa-manifest-boot-info\"; ffa_manifest; }};"));
        let manifest = read(&source);
        assert_eq!((manifest.gp_register, manifest.boot_info.manifest), (Some(register), true));
    }
    assert_eq!(read(&minimal("gp-register-num = <0>;")).boot_info, BootInfoRequest::default(), "a register alone asks for nothing");
    let without = read(&minimal("boot-info { compatible = \"arm,ffa-manifest-boot-info\"; ffa_manifest; };"));
    assert_eq!((without.boot_info, named(&without)), (BootInfoRequest::default(), vec!["boot-info"]));
}

#[test]
fn interrupt_actions_and_what_supersedes_what() {
    let action = |more: &str| read(&minimal(more)).ns_interrupts;
    assert_eq!(action("managed-exit;"), NsInterruptAction::ManagedExit);
    assert_eq!(action("ns-interrupts-action = <1>; managed-exit-virq;"), NsInterruptAction::ManagedExit);
    assert_eq!(action("ns-interrupts-action = <0>; other-s-interrupts-action = <0>;"), NsInterruptAction::Queued);
    assert_eq!(action("ns-interrupts-action = <2>; other-s-interrupts-action = <1>;"), NsInterruptAction::Signaled);
    assert_eq!(named(&read(&minimal("run-time-model = <1>;"))), ["run-time-model"]);
    assert_eq!(named(&read(&minimal("runtime-model = <0>; sri-interrupts-policy = <1>;"))), ["run-time-model", "sri-interrupts-policy"]);
    assert_eq!(named(&read(&minimal("lifecycle-support; abort-action = <2>;"))), ["abort-action"]);
}

#[test]
fn subscriptions_keep_their_known_bits() {
    let manifest = read(&minimal("power-management-messages = <0xf1>; vm-availability-messages = <3>; notification-support;"));
    assert_eq!((manifest.power_messages, manifest.vm_messages, manifest.notifications), (Some(PowerMessages(1)), VmMessages(3), true));
    assert!(named(&manifest).contains(&"power-management-messages"));
}

#[test]
fn execution_contexts_of_one_the_cores_and_more() {
    let spmc = edit(SPMC, "vcpu_count = <1>", "vcpu_count = <8>");
    let spmc = support::spmc(&spmc).expect("valid");
    let package = package(&sptool(b"manifest", 100)).expect("valid");
    let check = |count: u32| {
        let manifest = read(&minimal("").replace("execution-ctx-count = <1>", &format!("execution-ctx-count = <{count}>")));
        let mut vm = spmc.partitions[1].clone();
        vm.vcpu_count = count as u16;
        let loaded = [LoadedPartition { vm: &vm, manifest: &manifest, package }];
        check_system(&spmc, &loaded, &Platform { reserved: &[], interrupts: &[], cores: 4 }).map_err(|e| e.to_string())
    };
    for count in [1, 4, 8] {
        assert_eq!(check(count), Ok(()), "{count} on a machine with 4 cores");
    }
    assert!(check(2).is_err() && check(3).is_err());
}

#[test]
fn granules_are_the_unit_of_pages() {
    for (n, bytes) in [(0, 0x1000), (1, 0x4000), (2, 0x1_0000)] {
        let source = minimal(&format!("xlat-granule = <{n}>; {}", regions("one { base-address = <0x0 0xe300000>; pages-count = <2>; attributes = <3>; };")));
        assert_eq!(read(&source).memory_regions[0].size, 2 * bytes);
    }
}

#[test]
fn an_image_may_describe_its_own_sections() {
    let sections = regions(
        "text { load-address-relative-offset = <0x4000>; pages-count = <2>; attributes = <5>; };
         rodata { load-address-relative-offset = <0x0 0x6000>; pages-count = <1>; attributes = <1>; };
         rwdata { load-address-relative-offset = <0x7000>; pages-count = <1>; attributes = <3>; };
         bss { relative-address = <0x8000>; pages-count = <0x10>; attributes = <3>; };",
    );
    let manifest = read(&minimal(&sections).replace("exception-level = <2>", "exception-level = <1>"));
    assert_eq!(judged(&manifest, 0x4000), Ok(()));
    let ranges: Vec<_> = manifest.memory_regions.iter().map(|r| r.range(0x0e20_0000).expect("placed")).collect();
    assert_eq!(ranges[3], AddressRange::new(0x0e20_8000, 0x1_0000).expect("does not wrap"));
    // A whole image as one region, as StMM's manifests have it.
    let whole = regions("image { base-address = <0x0 0xe200000>; pages-count = <8>; attributes = <5>; };");
    assert_eq!(judged(&read(&minimal(&whole)), 0x4000), Ok(()));
    // A buffer with an address of its own must not be where the image is.
    let buffer = regions("buffer { base-address = <0x0 0xe204000>; pages-count = <1>; attributes = <3>; };");
    assert!(judged(&read(&minimal(&buffer)), 0x4000).expect_err("refused").contains("the partition's own package"));
}

#[test]
fn attributes_beyond_the_four_bits_say_nothing_about_access() {
    let manifest = read(&minimal(&regions("one { base-address = <0x0 0xe300000>; pages-count = <1>; attributes = <0x23>; };")));
    assert_eq!(manifest.memory_regions[0].attributes.0, 3);
}

#[test]
fn buffers_of_the_manifest() {
    let buffers = |pages: u32| {
        let nodes = format!(
            "rx: rx-buffer {{ description = \"rx-buffer\"; base-address = <0x0 0xe300000>; pages-count = <{pages}>; attributes = <1>; }};
             tx: tx-buffer {{ description = \"tx-buffer\"; base-address = <0x0 0xe310000>; pages-count = <{pages}>; attributes = <3>; }};"
        );
        minimal(&format!("rx_tx-info {{ compatible = \"arm,ffa-manifest-rx_tx-buffer\"; rx-buffer = <&rx>; tx-buffer = <&tx>; }}; {}", regions(&nodes)))
    };
    let manifest = read(&buffers(1));
    assert_eq!((manifest.rx_tx, judged(&manifest, 100), named(&manifest)), (Some(RxTx { rx: 0, tx: 1 }), Ok(()), vec![]));
    assert_eq!(named(&read(&buffers(4))), ["rx_tx-info"]);
}

#[test]
fn devices_with_interrupts_streams_and_attributes() {
    let source = minimal(&format!(
        "{} {}",
        regions("dma { base-address = <0x0 0xe300000>; pages-count = <4>; attributes = <3>; smmu-id = <0>; stream-ids = <0x0 0x1>; stream-ids-access-permissions = <0x3 0xb>; };"),
        devices(
            "engine { base-address = <0x00000000 0x09060000>; pages-count = <32>; attributes = <3>; smmu-id = <0>; stream-ids = <0x0 0x1>; interrupts = <56 0x900>, <57 0xb00>; };
             extended { base-address = <0x9090000>; pages-count = <1>; attributes = <1>; interrupts = <5000 0x900>, <58 0x980>; interrupts-target = <5000 0 0>, <58 0 3>; exclusive-access; };",
        )
    ));
    let manifest = read(&source);
    let ids: Vec<_> = manifest.interrupts.iter().map(|i| (i.id, i.device, i.target)).collect();
    assert_eq!(ids, [(56, 0, None), (57, 0, None), (58, 1, Some(3))]);
    assert!(manifest.device_regions[1].exclusive);
    assert_eq!(named(&manifest), ["interrupts", "stream-ids"]);
}

#[test]
fn regions_without_an_address_get_one_and_are_told() {
    let nodes = "far { load-address-relative-offset = <0x3e0000>; pages-count = <1>; attributes = <3>; };
                 first { pages-count = <0x18>; attributes = <3>; };
                 second { description = \"second\"; pages-count = <4>; attributes = <1>; };";
    let source = minimal(&format!("gp-register-num = <0>; {}", regions(nodes)));
    let mut manifest = read(&source);
    let memory = AddressRange::new(0x0e20_0000, 0x40_0000).expect("does not wrap");
    assert_eq!(manifest.place_regions(memory, 0x5000), Ok(()));
    let bases: Vec<_> = manifest.memory_regions.iter().map(|r| r.base).collect();
    // From the top; the second fits no more above `far`.
    assert_eq!(bases, [RegionBase::LoadRelative(0x3e_0000), RegionBase::Chosen(0x0e5e_8000), RegionBase::Chosen(0x0e5e_4000)]);
    assert_eq!(judged(&manifest, 0x1000), Ok(()));

    // The device tree says so afterwards, and is as readable as before.
    let mut tree = dtb(&source);
    let before = tree.len();
    tree.resize(before + 0x100, 0);
    for (index, base) in [(1, 0x0e5e_8000), (2, 0x0e5e_4000)] {
        assert!(add_base_address(&mut tree, index, base).is_some());
    }
    let mut again = PartitionManifest::new();
    again.parse_into(&tree, subject(2, "stmm")).expect("well-formed");
    let bases: Vec<_> = again.memory_regions.iter().map(|r| r.base).collect();
    assert_eq!(bases, [RegionBase::LoadRelative(0x3e_0000), RegionBase::Absolute(0x0e5e_8000), RegionBase::Absolute(0x0e5e_4000)]);
    assert_eq!((again.services, again.gp_register, again.memory_regions[2].attributes), (manifest.services.clone(), Some(0), manifest.memory_regions[2].attributes));
}

#[test]
fn a_known_name_is_used_again_and_room_is_needed() {
    let nodes = "placed { base-address = <0x0 0xe300000>; pages-count = <1>; attributes = <3>; }; unplaced { pages-count = <1>; attributes = <3>; };";
    let tree = dtb(&minimal(&regions(nodes)));
    let size = |room: usize| add_base_address(&mut [tree.clone(), vec![0; room]].concat(), 1, 0x0e40_0000);
    assert_eq!((size(20), size(19)), (Some(tree.len() + 20), None), "without the name, which is there");
    assert_eq!(add_base_address(&mut [tree.clone(), vec![0; 64]].concat(), 2, 0), None, "no such region");
    // Whatever is in it, nothing panics.
    for at in 0..tree.len() {
        let mut broken = [tree.clone(), vec![0; 64]].concat();
        broken[at] ^= 0xff;
        let _ = add_base_address(&mut broken, 1, 0x0e40_0000);
        let _ = add_base_address(&mut tree[..at].to_vec(), 1, 0x0e40_0000);
    }
}

#[test]
fn a_region_for_which_there_is_no_room_stays_without_an_address() {
    let memory = AddressRange::new(0x0e20_0000, 0x40_0000).expect("does not wrap");
    let mut manifest = read(&minimal(&regions("huge { pages-count = <0x400>; attributes = <3>; };")));
    assert_eq!(manifest.place_regions(memory, 0x5000), Err(0));
    assert!(judged(&manifest, 0x1000).expect_err("refused").contains("free bytes behind the package"));
    let mut manifest = read(&minimal(&regions("ns { pages-count = <1>; attributes = <0xb>; };")));
    assert_eq!(manifest.place_regions(memory, 0x5000), Err(0));
    assert!(judged(&manifest, 0x1000).expect_err("refused").contains("normal world's memory is not Bulkhead's to choose from"));
}

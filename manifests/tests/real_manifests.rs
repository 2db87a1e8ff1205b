//! The manifests of this repository, and packages of both kinds, read as they are.

mod support;

use bulkhead_ffa::{EndpointId, Version};
use bulkhead_manifests::partition::{BootInfoRequest, ExceptionLevel, InterruptKind, Messaging, NsInterruptAction, Trigger};
use bulkhead_manifests::spmc::{DEFAULT_INIT_TIME_LIMIT_MS, MemoryKind};
use bulkhead_manifests::{AddressRange, Extent, PackageKind, PartitionManifest, unserved};
use support::{GATEWAY, OPTEE, SPMC, SPMC_U_BOOT, STMM, dtb, edit, package, partition, sptool, subject, transfer_list};

fn range(base: u64, size: u64) -> AddressRange {
    AddressRange::new(base, size).expect("does not wrap")
}

#[test]
fn op_tee_manifest_says_what_op_tee_needs() {
    let manifest = partition(OPTEE, subject(1, "op-tee")).expect("valid");
    assert_eq!(manifest.description.as_str(), "op-tee");
    assert_eq!(manifest.ffa_version, Version::V1_2);
    assert_eq!(manifest.services.len(), 1);
    assert_eq!(manifest.services[0].uuid.to_string(), "486178e0-e7f8-11e3-bc5e-0002a5d5c51b");
    assert_eq!(manifest.messaging, Messaging(Messaging::DIRECT_RECV.0 | Messaging::DIRECT_SEND.0));
    assert_eq!(manifest.id, Some(0x8001));
    assert_eq!(manifest.execution_contexts, 8);
    assert_eq!(manifest.exception_level, ExceptionLevel::SEl1);
    assert_eq!(manifest.load_address, Some(0x0e60_0000));
    assert_eq!(manifest.mem_size, Some(0x90_0000));
    assert_eq!(manifest.entrypoint_offset, Some(0x4000));
    assert_eq!(manifest.boot_order, Some(0));
    assert_eq!(manifest.ns_interrupts, NsInterruptAction::ManagedExit);
    assert_eq!(manifest.gp_register, Some(0));
    assert_eq!(manifest.boot_info, BootInfoRequest { manifest: true, hob_list: false });
    assert!(manifest.notifications);
    assert_eq!(manifest.memory_regions[0].range(0), Some(range(0x0e32_8000, 0x8000)));
    assert_eq!(manifest.memory_regions[0].shared_with.map(|id| id.0), Some(0x8002));
    assert_eq!(manifest.device_regions[0].range, range(0x0904_0000, 0x1000));
    let interrupts: Vec<_> = manifest.interrupts_of(0).collect();
    assert_eq!(interrupts.len(), 1);
    assert_eq!((interrupts[0].id, interrupts[0].priority, interrupts[0].secure), (40, 1, true));
    assert_eq!((interrupts[0].kind, interrupts[0].trigger), (InterruptKind::Spi, Trigger::Level));
}

#[test]
fn stmm_manifest_says_what_stmm_needs() {
    let manifest = partition(STMM, subject(2, "stmm")).expect("valid");
    assert_eq!(manifest.services[0].uuid.to_string(), "378daedc-f06b-4446-8314-40ab933c87a3");
    assert_eq!(manifest.exception_level, ExceptionLevel::SEl0);
    assert_eq!(manifest.execution_contexts, 1);
    assert_eq!(manifest.boot_info, BootInfoRequest { manifest: false, hob_list: true });
    assert!(manifest.messaging.contains(Messaging::DIRECT_RECV) && manifest.messaging.contains(Messaging::DIRECT2_RECV));
    let buffer = manifest.memory_regions.iter().find(|r| r.name.as_str() == "ns_comm_buffer").expect("there");
    assert_eq!(buffer.range(0x0e20_0000), Some(range(0x5ff0_0000, 0x1_0000)));
    assert!(buffer.attributes.non_secure() && buffer.attributes.writable() && !buffer.attributes.executable());
    assert_eq!(manifest.device_regions[0].range, range(0x03f0_0000, 0xc_0000));
    assert!(manifest.device_regions[0].exclusive);
}

#[test]
fn gateway_manifest_says_what_u_boot_looks_for_and_where_stmm_has_its_buffer() {
    let manifest = partition(GATEWAY, subject(3, "mm-gateway")).expect("valid");
    assert_eq!(manifest.services[0].uuid.to_string(), "ed32d533-99e6-4209-9cc0-2d72cdd998a7");
    assert_eq!(manifest.messaging, Messaging(Messaging::DIRECT_RECV.0 | Messaging::DIRECT_SEND.0));
    assert_eq!(manifest.boot_info, BootInfoRequest { manifest: true, hob_list: false });
    assert!(manifest.memory_regions.is_empty() && manifest.device_regions.is_empty(), "it needs no access to the buffer");
    let stmm = partition(STMM, subject(2, "stmm")).expect("valid");
    assert!(manifest.boot_order > stmm.boot_order);
    let buffer = stmm.memory_regions.iter().find(|r| r.name.as_str() == "ns_comm_buffer").and_then(|r| r.range(0)).expect("there");
    let property = format!("bulkhead,mm-buffer = <0x0 {:#x} {:#x}>;", buffer.base(), buffer.size());
    assert!(GATEWAY.contains(&property), "{property}");
}

#[test]
fn spmc_manifest_for_u_boot_has_the_gateway_beside_the_others() {
    let plain = support::spmc(SPMC).expect("valid");
    let with = support::spmc(SPMC_U_BOOT).expect("valid");
    assert_eq!(with.partitions[..plain.partitions.len()], plain.partitions[..]);
    assert_eq!((with.partitions.len(), with.partitions[2].id().0, with.partitions[2].debug_name.as_str()), (3, 0x8003, "mm-gateway"));
}

#[test]
fn spmc_manifest_describes_the_platform() {
    let manifest = support::spmc(SPMC).expect("valid");
    assert_eq!(manifest.attributes.spmc_id, EndpointId(0x8000));
    assert_eq!(manifest.attributes.version, Version::V1_2);
    assert_eq!(manifest.attributes.entrypoint, Some(0x0e10_0000));
    let partitions: Vec<_> = manifest.partitions.iter().map(|vm| (vm.id().0, vm.debug_name.as_str(), vm.memory(), vm.vcpu_count)).collect();
    assert_eq!(partitions, [(0x8001, "op-tee", range(0x0e60_0000, 0x90_0000), 8), (0x8002, "stmm", range(0x0e20_0000, 0x40_0000), 1)]);
    assert_eq!(manifest.memory_of(MemoryKind::Secure).collect::<Vec<_>>(), [range(0x0e00_0000, 0x100_0000)]);
    assert_eq!(manifest.memory_of(MemoryKind::NonSecure).collect::<Vec<_>>(), [range(0x4000_0000, 0xc000_0000)]);
    assert_eq!(manifest.cpus.as_slice(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn what_bulkhead_does_not_act_on_is_named() {
    let spmc = support::spmc(&edit(SPMC, "debug_name = \"op-tee\";", "debug_name = \"op-tee\"; smc_whitelist = <0x84000000>;")).expect("valid");
    let optee = partition(OPTEE, subject(1, "op-tee")).expect("valid");
    let names = |manifest: &PartitionManifest| unserved(&spmc.partitions[0], manifest).map(|(property, _)| property).collect::<Vec<_>>();
    assert_eq!(names(&optee), ["smc_whitelist"]);
    let source = edit(OPTEE, "power-management-messages = <0x0>;", "power-management-messages = <0x3>; vm-availability-messages = <1>;");
    assert_eq!(names(&partition(&source, subject(1, "op-tee")).expect("valid")), ["smc_whitelist", "power-management-messages"]);
    let source = edit(OPTEE, "ns-interrupts-action = <1>;", "ns-interrupts-action = <0>; other-s-interrupts-action = <0>;");
    let source = edit(&source, "interrupts = <40 0xb01>;", "interrupts = <40 0xb01>; interrupts-target = <40 0 1>; smmu-id = <0>; stream-ids = <3>;");
    let names = names(&partition(&source, subject(1, "op-tee")).expect("valid"));
    assert_eq!(names, ["smc_whitelist", "stream-ids"]);
    let stmm = partition(STMM, subject(2, "stmm")).expect("valid");
    assert_eq!(unserved(&spmc.partitions[1], &stmm).next(), None);
}

/// Those of target tests and the template, too: a mistake there shows here in milliseconds.
#[test]
fn every_manifest_of_the_repository_is_right_by_itself() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for dir in [here.to_owned(), here.join("tests"), here.join("../partitions/template")] {
        for entry in std::fs::read_dir(dir).expect("there") {
            let path = entry.expect("readable").path();
            if path.extension().is_none_or(|extension| extension != "dts") {
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("readable");
            // The line that says so may be in a file that it includes.
            let of_spmc = String::from_utf8_lossy(&dtb(&source)).contains("arm,ffa-core-manifest");
            let result = if of_spmc { support::spmc(&source).map(drop) } else { partition(&source, subject(1, "it")).map(drop) };
            assert_eq!(result, Ok(()), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn boot_policy_is_inherited_and_overridden() {
    let plain = support::spmc(SPMC).expect("valid");
    assert!(plain.partitions.iter().all(|vm| !vm.keep_going && vm.init_time_limit_ms == Some(DEFAULT_INIT_TIME_LIMIT_MS)));
    let all = edit(SPMC, "\"hafnium,hafnium\";", "\"hafnium,hafnium\"; bulkhead,keep-going; bulkhead,init-time-limit-ms = <500>;");
    let own = edit(&all, "debug_name = \"stmm\";", "debug_name = \"stmm\"; bulkhead,init-time-limit-ms = <0>;");
    let manifest = support::spmc(&own).expect("valid");
    assert!(manifest.partitions.iter().all(|vm| vm.keep_going));
    assert_eq!(manifest.partitions[0].init_time_limit_ms, Some(500));
    assert_eq!(manifest.partitions[1].init_time_limit_ms, None);
}

#[test]
fn a_second_parse_forgets_the_first() {
    let mut manifest = partition(OPTEE, subject(1, "op-tee")).expect("valid");
    manifest.parse_into(&dtb(STMM), subject(2, "stmm")).expect("valid");
    assert_eq!(manifest, partition(STMM, subject(2, "stmm")).expect("valid"));
}

#[test]
fn bytes_after_the_device_tree_are_ignored() {
    let mut padded = dtb(OPTEE);
    padded.resize(0x3000, 0xA5);
    let mut manifest = bulkhead_manifests::PartitionManifest::new();
    manifest.parse_into(&padded, subject(1, "op-tee")).expect("valid");
}

#[test]
fn sptool_package_gives_manifest_and_image() {
    let manifest = dtb(OPTEE);
    let mut bytes = sptool(&manifest, 0x2345);
    bytes.resize(0x90_0000, 0xFF);
    let package = package(&bytes).expect("valid");
    assert_eq!(package.kind, PackageKind::Sptool(2));
    assert_eq!(package.manifest.of(&bytes), manifest);
    assert_eq!(package.image, Extent { offset: 0x4000, size: 0x2345 });
    assert_eq!(package.boot_info, Extent { offset: 0, size: 0x1000 });
    assert_eq!(package.size, 0x6345);
    assert_eq!(package.hob_list, None);
}

#[test]
fn sptool_version_1_leaves_no_room_for_boot_information() {
    let manifest = dtb(OPTEE);
    let mut bytes = sptool(&manifest, 0x1000);
    bytes[4] = 1;
    bytes[8..12].copy_from_slice(&0x18_u32.to_le_bytes());
    bytes.copy_within(0x1000..0x1000 + manifest.len(), 0x18);
    let package = package(&bytes).expect("valid");
    assert_eq!(package.manifest.of(&bytes), manifest);
    assert_eq!(package.boot_info.size, 0);
}

#[test]
fn transfer_list_gives_manifest_hob_list_and_image() {
    let manifest = dtb(STMM);
    let mut bytes = transfer_list(&[(0x106, &manifest), (3, &[7; 100]), (0x103, &[1; 0x2001])]);
    bytes.resize(bytes.len() + 0x1000, 0xFF);
    let package = package(&bytes).expect("valid");
    assert_eq!(package.kind, PackageKind::TransferList);
    assert_eq!(package.manifest.of(&bytes), manifest);
    assert_eq!(package.hob_list.expect("there").of(&bytes), [7; 100]);
    assert_eq!(package.image.of(&bytes), [1; 0x2001]);
    assert_eq!(package.image.offset % 0x1000, 0);
    assert_eq!(package.boot_info, Extent { offset: 0, size: 0x1000 });
    assert_eq!(package.size, bytes.len() - 0x1000);
}

//! What a manifest may say, rightly, that Bulkhead takes note of and does not act on: named at boot, so that nobody
//! relies on it.

use crate::partition::{PartitionManifest, PowerMessages, Tolerated};
use crate::range::PAGE_SIZE;
use crate::spmc::VmNode;

/// A property and what is not done about it.
pub type Unserved = (&'static str, &'static str);

/// The properties of a partition's manifest and `vmN` node that are there and that Bulkhead does not act on.
pub fn unserved<'a>(vm: &'a VmNode, manifest: &'a PartitionManifest) -> impl Iterator<Item = Unserved> + 'a {
    let tolerated = manifest.tolerated;
    let other_power_messages = manifest.power_messages.is_some_and(|messages| messages.0 & !PowerMessages::CPU_OFF.0 != 0);
    [
        (!vm.smc_whitelist.is_empty(), ("smc_whitelist", "no SMC of a partition is passed on to EL3")),
        (
            manifest.load_address.is_some_and(|address| address != vm.load_address),
            ("load-address", "the package is where load_address of its vmN node says"),
        ),
        (
            manifest.id.is_some_and(|id| id != u32::from(vm.id().0) && id != u32::from(vm.number)),
            ("id", "its id is 0x8000 and the number of its vmN node"),
        ),
        (manifest.auxiliary_id.is_some(), ("auxiliary-id", "memory transactions name endpoints by their ids")),
        (manifest.run_time_model.is_some(), ("run-time-model", "superseded by ns-interrupts-action")),
        (
            manifest.rx_tx.is_some_and(|buffers| manifest.memory_regions.get(usize::from(buffers.rx)).is_some_and(|region| region.size > PAGE_SIZE)),
            ("rx_tx-info", "of each buffer the first page is used"),
        ),
        (tolerated.has(Tolerated::NEWER_VERSION), ("ffa-version", "1.2 is spoken, the newest that there is")),
        (tolerated.has(Tolerated::LEVEL_OF_A_VM), ("exception-level", "EL1 of the secure world is S-EL1")),
        (tolerated.has(Tolerated::NO_BOOT_REGISTER), ("boot-info", "no gp-register-num says where its address goes")),
        (tolerated.has(Tolerated::POWER_BITS), ("power-management-messages", "bits above 3 are reserved")),
        (tolerated.has(Tolerated::EXTENDED_SPIS), ("interrupts", "those of the extended SPI range are not there")),
        (tolerated.has(Tolerated::LIFECYCLE), ("abort-action", "of FF-A 1.3: a partition that fails stays failed")),
        (tolerated.has(Tolerated::SRI_POLICY), ("sri-interrupts-policy", "a waiting partition is run for its interrupt")),
        (vm.smc_whitelist_permissive, ("smc_whitelist_permissive", "no SMC of a partition is passed on to EL3")),
        (other_power_messages, ("power-management-messages", "TF-A's dispatcher tells of CPU_OFF only")),
        (
            !manifest.device_streams.is_empty() || !manifest.memory_streams.is_empty(),
            ("stream-ids", "no SMMU is programmed: what the device's DMA reaches is up to the platform"),
        ),
    ]
    .into_iter()
    .filter_map(|(there, note)| there.then_some(note))
}

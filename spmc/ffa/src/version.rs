//! Framework versions, DEN0077A v1.2 section 13.2.

/// An FF-A version, as FFA_VERSION encodes it: major in bits 30..16, minor in bits 15..0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    /// v1.0.
    pub const V1_0: Self = Self::new(1, 0);
    /// v1.1.
    pub const V1_1: Self = Self::new(1, 1);
    /// v1.2.
    pub const V1_2: Self = Self::new(1, 2);

    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self(((major as u32) << 16) | minor as u32)
    }

    /// Major number; bit 31 of the encoding is not part of it.
    #[must_use]
    pub const fn major(self) -> u16 {
        ((self.0 >> 16) & 0x7FFF) as u16
    }

    /// Minor number.
    #[must_use]
    pub const fn minor(self) -> u16 {
        self.0 as u16
    }
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Numbers are printed as u64 throughout: each type that is printed takes room in the image.
        write!(f, "{}.{}", u64::from(self.major()), u64::from(self.minor()))
    }
}

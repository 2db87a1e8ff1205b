//! The one error of this crate: whose manifest, which node, which property, what it says and what it should say.
//!
//! It owns all its text in fixed buffers, so that the SPMC can print it without an allocator and the host can look up
//! the line of the source that it speaks of.

use crate::range::AddressRange;
use arrayvec::ArrayString;
use core::cell::Cell;
use core::fmt;

/// Longest name that is kept; longer ones (only descriptions can be longer) are cut at a character.
pub const MAX_NAME: usize = 32;

/// Longest node path that is kept whole; deeper ones end in `...`.
pub const MAX_PATH: usize = 88;

/// The name of a partition, region or node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Name(ArrayString<MAX_NAME>);

impl Name {
    /// No name.
    pub const EMPTY: Self = Self(ArrayString::new_const());

    /// As much of `text` as fits; control characters, which could forge console lines, become `?`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut name = ArrayString::new_const();
        for c in text.chars() {
            let c = if c.is_control() { '?' } else { c };
            if name.try_push(c).is_err() {
                break;
            }
        }
        Self(name)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whose manifest an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Subject {
    /// The SPMC's own manifest (TF-A's TOS_FW_CONFIG).
    #[default]
    Spmc,
    /// The table of packages that BL2 loads (TF-A's TB_FW_CONFIG).
    LoadTable,
    /// The partition of `hypervisor/vmN`: its manifest or its package.
    Partition {
        /// N of `vmN`.
        number: u8,
        /// `debug_name` of the SPMC manifest.
        name: Name,
    },
    /// A manifest looked at on its own, known only by a name (a file's, on the host).
    Named(Name),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spmc => f.write_str("SPMC manifest"),
            Self::LoadTable => f.write_str("TB_FW_CONFIG"),
            Self::Partition { number, name } if name.is_empty() => write!(f, "partition vm{}", u64::from(*number)),
            Self::Partition { number, name } => write!(f, "partition vm{} ({name})", u64::from(*number)),
            Self::Named(name) => f.write_str(name.as_str()),
        }
    }
}

/// The path of a node, `/memory-regions/heap`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodePath(ArrayString<MAX_PATH>);

impl NodePath {
    /// The root node, `/`.
    pub const ROOT: Self = Self(ArrayString::new_const());

    /// The path of this node's child `name`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut path = self.0;
        if path.try_push('/').is_ok() && path.try_push_str(name).is_ok() {
            return Self(path);
        }
        // Too deep to print whole: keep what fits. The cut is on a character boundary as names are valid UTF-8.
        let mut path = self.0;
        while path.len() + 4 > MAX_PATH {
            path.pop();
        }
        path.push_str("/...");
        Self(path)
    }

    /// Not a node: the headers of a package.
    #[must_use]
    pub fn package() -> Self {
        let mut path = ArrayString::new_const();
        path.push_str("package");
        Self(path)
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What stands in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// The property or node is not there.
    Missing,
    /// The property or node is there and should not be.
    Present,
    /// A count or small number.
    Number(u64),
    /// An address, offset or bit set, printed in hexadecimal.
    Hex(u64),
    /// A string.
    Text(Name),
    /// A value of this many bytes, whose size is the problem.
    Bytes(usize),
    /// A range of addresses.
    Range(AddressRange),
    /// A UUID.
    Uuid(bulkhead_ffa::Uuid),
    /// A reason in words, for what cannot be shown (the device tree itself is broken).
    Reason(&'static str),
}

/// What should stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// In words.
    Text(&'static str),
    /// Exactly this number.
    Exactly(u64, &'static str),
    /// Exactly this address, offset or id, and why.
    HexExactly(u64, &'static str),
    /// This number or more, and why.
    AtLeast(u64, &'static str),
    /// This number or less, and of what.
    AtMost(u64, &'static str),
    /// This address or less, and why.
    HexAtMost(u64, &'static str),
    /// An address that is a multiple of this size.
    AlignedTo(u64),
    /// A range that keeps clear of somebody else's.
    ClearOf(Subject, Name, AddressRange),
    /// A device that keeps clear of somebody else's, as one of them is exclusive.
    ClearOfExclusive(Subject, Name, AddressRange),
    /// A range that keeps clear of a reserved one.
    ClearOfReserved(&'static str, AddressRange),
    /// A range inside this one, and what that is.
    Inside(AddressRange, &'static str),
    /// An address or offset inside this range, and what that is.
    PointInside(AddressRange, &'static str),
    /// A value that this other party does not have.
    UniqueAmong(Subject, Name),
    /// This UUID; the text says why.
    Uuid(bulkhead_ffa::Uuid, &'static str),
    /// An entry with this UUID, which is this partition's.
    UuidOf(bulkhead_ffa::Uuid, Subject),
    /// This text, for example a `compatible` string.
    String(&'static str),
}

/// A manifest, package or table that is not right, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Whose it is.
    pub subject: Subject,
    /// The node.
    pub path: NodePath,
    /// The property, or "" when the node itself is meant.
    pub property: &'static str,
    /// What stands there.
    pub found: Found,
    /// What should stand there.
    pub expected: Expected,
}

/// Proof that a [`Complaint`] has been made: what a reader hands up, many times smaller than what it stands for.
#[derive(Debug)]
pub(crate) struct Refused(());

/// Where a reader notes what is wrong.
pub(crate) struct Complaint(Cell<ManifestError>);

impl Complaint {
    /// None yet.
    pub(crate) fn about(subject: Subject) -> Self {
        Self(Cell::new(ManifestError { subject, path: NodePath::ROOT, property: "", found: Found::Missing, expected: Expected::Text("") }))
    }

    /// Whom it is about.
    fn subject(&self) -> Subject {
        self.0.get().subject
    }

    /// Notes what is wrong with this subject.
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&self, path: NodePath, property: &'static str, found: Found, expected: Expected) -> Refused {
        self.note_about(self.subject(), path, property, found, expected)
    }

    /// Notes what is wrong with another one.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_about(&self, subject: Subject, path: NodePath, property: &'static str, found: Found, expected: Expected) -> Refused {
        self.0.set(ManifestError { subject, path, property, found, expected });
        Refused(())
    }

    /// The result of a reading, with what was noted where it refused.
    pub(crate) fn judge<T>(&self, result: Result<T, Refused>) -> Result<T, ManifestError> {
        result.map_err(|Refused(())| self.0.get())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(" is missing"),
            Self::Present => f.write_str(" is there"),
            Self::Number(n) => write!(f, " = {n}"),
            Self::Hex(n) => write!(f, " = {n:#x}"),
            Self::Text(t) => write!(f, " = \"{t}\""),
            Self::Bytes(n) => write!(f, " has {n} bytes"),
            Self::Range(r) => write!(f, " = {r}"),
            Self::Uuid(u) => write!(f, " = {u}"),
            Self::Reason(r) => write!(f, " {r}"),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(t) => f.write_str(t),
            Self::Exactly(n, what) => write!(f, "{n} ({what})"),
            Self::HexExactly(n, what) => write!(f, "{n:#x} ({what})"),
            Self::AtLeast(n, what) => write!(f, "at least {n} {what}"),
            Self::AtMost(n, what) => write!(f, "at most {n} {what}"),
            Self::HexAtMost(n, what) => write!(f, "at most {n:#x} ({what})"),
            Self::AlignedTo(n) => write!(f, "a multiple of {n:#x}"),
            Self::ClearOf(who, name, range) if name.is_empty() => write!(f, "no overlap with {who}, {range}"),
            Self::ClearOf(who, name, range) => write!(f, "no overlap with {who}: {name}, {range}"),
            Self::ClearOfExclusive(who, name, range) => write!(f, "no overlap with {who}: {name}, {range}, as one of the two is exclusive"),
            Self::ClearOfReserved(what, range) => write!(f, "no overlap with {what}, {range}"),
            Self::Inside(range, what) => write!(f, "a range inside {what}, {range}"),
            Self::PointInside(range, what) => write!(f, "one inside {what}, {range}"),
            Self::UniqueAmong(who, name) if name.is_empty() => write!(f, "one that {who} does not have"),
            Self::UniqueAmong(who, name) => write!(f, "one that {who}: {name} does not have"),
            Self::Uuid(uuid, why) => write!(f, "{uuid} ({why})"),
            Self::UuidOf(uuid, who) => write!(f, "an entry with {uuid}, the UUID of {who}"),
            Self::String(text) => write!(f, "\"{text}\""),
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.path)?;
        if !self.property.is_empty() {
            write!(f, ": {}", self.property)?;
        }
        write!(f, "{}: expected {}", self.found, self.expected)
    }
}

impl core::error::Error for ManifestError {}

//! Typed reading of a device tree: a node that knows its path and whose it is, so that every refusal can say so.

use crate::error::{Expected, Found, ManifestError, Name, NodePath, Subject};
use dtoolkit::error::FdtErrorKind;
use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::{Node as _, Property as _};

/// Largest device tree that is read. Bounds the time that a hostile one can take.
pub const MAX_DTB: usize = 64 * 1024;

/// A node of a manifest.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    node: FdtNode<'a>,
    tree_size: usize,
    subject: Subject,
    path: NodePath,
}

impl<'a> Node<'a> {
    /// The root of the device tree that `dtb` begins with. Bytes after it (padding of a page) are ignored.
    pub(crate) fn root(dtb: &'a [u8], subject: Subject) -> Result<Self, ManifestError> {
        let error = |found, expected| ManifestError { subject, path: NodePath::ROOT, property: "device tree", found, expected };
        // The header's first two words: magic and total size, both big-endian.
        let Some(&[m0, m1, m2, m3, s0, s1, s2, s3]) = dtb.first_chunk::<8>() else {
            return Err(error(Found::Bytes(dtb.len()), Expected::Text("a flattened device tree (40 bytes or more)")));
        };
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != 0xD00D_FEED {
            return Err(error(Found::Hex(magic.into()), Expected::Text("magic 0xd00dfeed (is it a DTS source, not compiled by dtc?)")));
        }
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        if size > MAX_DTB {
            return Err(error(Found::Bytes(size), Expected::AtMost(MAX_DTB as u64, "bytes")));
        }
        let Some(dtb) = dtb.get(..size) else {
            return Err(error(Found::Bytes(dtb.len()), Expected::Exactly(size as u64, "the size in its header: is it cut short?")));
        };
        let fdt = Fdt::new(dtb).map_err(|e| error(Found::Reason(reason(&e.kind)), Expected::Text("a well-formed flattened device tree")))?;
        Ok(Self { node: fdt.root(), tree_size: size, subject, path: NodePath::ROOT })
    }

    /// An error about `property` of this node. Out of line, as are its like: there are hundreds of calls, and an error is large.
    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, property: &'static str, found: Found, expected: Expected) -> ManifestError {
        ManifestError { subject: self.subject, path: self.path, property, found, expected }
    }

    /// Bytes of the whole device tree, as its header says.
    pub(crate) fn tree_size(&self) -> usize {
        self.tree_size
    }

    /// The node's name, unit address included.
    pub(crate) fn name(&self) -> &'a str {
        self.node.name()
    }

    /// The children in the order of the source.
    pub(crate) fn children(&self) -> impl Iterator<Item = Self> + use<'a> {
        let (tree_size, subject, path) = (self.tree_size, self.subject, self.path);
        self.node.children().map(move |node| Self { node, tree_size, subject, path: path.child(node.name()) })
    }

    /// The child of exactly this name.
    pub(crate) fn child(&self, name: &str) -> Option<Self> {
        self.children().find(|child| child.name() == name)
    }

    /// The child of exactly this name, which has to be there.
    pub(crate) fn required_child(&self, name: &str, expected: &'static str) -> Result<Self, ManifestError> {
        self.child(name).ok_or_else(|| Self { path: self.path.child(name), ..*self }.error("", Found::Missing, Expected::Text(expected)))
    }

    fn property(&self, name: &str) -> Option<FdtProperty<'a>> {
        self.node.properties().find(|p| p.name() == name)
    }

    /// Whether the property is there, whatever its value.
    pub(crate) fn has(&self, property: &str) -> bool {
        self.property(property).is_some()
    }

    /// An integer of 8, 16, 32 or 64 bits, or `None` when the property is not there.
    pub(crate) fn number(&self, property: &'static str) -> Result<Option<u64>, ManifestError> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.len() {
            1 | 2 | 4 | 8 => Ok(Some(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))),
            bytes => Err(self.error(property, Found::Bytes(bytes), Expected::Text("one number: a cell <n>, or two <high low>"))),
        }
    }

    /// An integer in one cell, for what TF-A reads, too: of two cells it would take the high one.
    pub(crate) fn cell(&self, property: &'static str) -> Result<Option<u32>, ManifestError> {
        match self.cells(property)? {
            None => Ok(None),
            Some(cells) if cells.len() == 1 => Ok(Some(cells.get(0))),
            Some(cells) => Err(self.error(property, Found::Bytes(4 * cells.len()), Expected::Text("one cell, <n>"))),
        }
    }

    /// An integer that has to be there; `what` says what it is.
    pub(crate) fn required_number(&self, property: &'static str, what: &'static str) -> Result<u64, ManifestError> {
        self.number(property)?.ok_or_else(|| self.error(property, Found::Missing, Expected::Text(what)))
    }

    /// An integer of at most `max`.
    pub(crate) fn number_up_to(&self, property: &'static str, max: u64, what: &'static str) -> Result<Option<u64>, ManifestError> {
        match self.number(property)? {
            Some(n) if n > max => Err(self.error(property, Found::Number(n), Expected::AtMost(max, what))),
            n => Ok(n),
        }
    }

    /// An integer of at most 32 bits.
    pub(crate) fn number32(&self, property: &'static str) -> Result<Option<u32>, ManifestError> {
        Ok(self.number_up_to(property, u32::MAX.into(), "(32 bits)")?.map(|n| n as u32))
    }

    /// A set of bits, none outside `known`; `what` names the known ones.
    pub(crate) fn bits(&self, property: &'static str, known: u32, what: &'static str) -> Result<Option<u32>, ManifestError> {
        match self.number(property)? {
            Some(n) if n & !u64::from(known) != 0 => Err(self.error(property, Found::Hex(n), Expected::Text(what))),
            n => Ok(n.map(|n| n as u32)),
        }
    }

    /// Whether the empty property is there.
    pub(crate) fn flag(&self, property: &'static str) -> Result<bool, ManifestError> {
        match self.value(property) {
            None => Ok(false),
            Some([]) => Ok(true),
            Some(value) => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("no value: its presence says it all"))),
        }
    }

    /// A string.
    pub(crate) fn string(&self, property: &'static str) -> Result<Option<&'a str>, ManifestError> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.split_last() {
            Some((0, text)) if !text.contains(&0) => match core::str::from_utf8(text) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("a string in UTF-8"))),
            },
            _ => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("one string, \"...\""))),
        }
    }

    /// The cells of a list, or `None` when the property is not there.
    pub(crate) fn cells(&self, property: &'static str) -> Result<Option<Cells<'a>>, ManifestError> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.as_chunks::<4>() {
            (cells, []) => Ok(Some(Cells { cells })),
            _ => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("a list of cells, <a b c ...>: a multiple of 4 bytes"))),
        }
    }

    /// A list of cells that come in groups of `group`; `expected` says what a group is.
    pub(crate) fn groups(&self, property: &'static str, group: usize, expected: &'static str) -> Result<Option<Cells<'a>>, ManifestError> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.as_chunks::<4>() {
            (cells, []) if cells.len().is_multiple_of(group) => Ok(Some(Cells { cells })),
            _ => Err(self.error(property, Found::Bytes(value.len()), Expected::Text(expected))),
        }
    }

    /// Whether `compatible` lists `wanted`; an error that names it when not.
    pub(crate) fn require_compatible(&self, wanted: &'static str) -> Result<(), ManifestError> {
        let expected = Expected::String(wanted);
        let Some(value) = self.value("compatible") else {
            return Err(self.error("compatible", Found::Missing, expected));
        };
        let mut strings = value.split(|byte| *byte == 0);
        if strings.clone().any(|s| s == wanted.as_bytes()) {
            return Ok(());
        }
        let found = match strings.next().map(core::str::from_utf8) {
            Some(Ok(text)) => Found::Text(Name::new(text)),
            _ => Found::Bytes(value.len()),
        };
        Err(self.error("compatible", found, expected))
    }

    fn value(&self, property: &str) -> Option<&'a [u8]> {
        // `FdtProperty::value` ties the bytes to the tree, not to the property.
        self.property(property).and_then(|p| p.value_as::<&'a [u8]>().ok())
    }
}

/// The cells of a list property.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    cells: &'a [[u8; 4]],
}

impl<'a> Cells<'a> {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Cell `index`; 0 past the end.
    pub(crate) fn get(&self, index: usize) -> u32 {
        self.cells.get(index).map_or(0, |cell| u32::from_be_bytes(*cell))
    }

    /// One after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.cells.iter().map(|cell| u32::from_be_bytes(*cell))
    }

    /// Groups of `size` cells; what is left over at the end is not handed out.
    pub(crate) fn chunks(&self, size: usize) -> impl Iterator<Item = Cells<'a>> + use<'a> {
        self.cells.chunks_exact(size.max(1)).map(|cells| Cells { cells })
    }

    /// `count` cells (at most 2) from `index` on as one number, the high cell first.
    pub(crate) fn number(&self, index: usize, count: usize) -> u64 {
        (index..index.saturating_add(count.min(2))).fold(0, |n, i| n << 32 | u64::from(self.get(i)))
    }
}

/// The kinds of breakage in words that do not need a formatter's buffer.
fn reason(kind: &FdtErrorKind) -> &'static str {
    match kind {
        FdtErrorKind::InvalidMagic => "has a wrong magic number",
        FdtErrorKind::UnsupportedVersion(_) => "has a version other than 17",
        FdtErrorKind::InvalidLength => "is shorter than its header",
        FdtErrorKind::InvalidHeader(_) => "has a header whose offsets do not fit together",
        FdtErrorKind::BadToken(_) => "has a structure block that is broken",
        FdtErrorKind::InvalidOffset => "has an offset that leads out of it",
        FdtErrorKind::InvalidString => "has a string that is broken",
        FdtErrorKind::InvalidNodeName => "has a node name that is broken",
        FdtErrorKind::InvalidPropertyName => "has a property name that is broken",
        FdtErrorKind::MemReserveNotTerminated | FdtErrorKind::MemReserveInvalid => "has a memory reservation block that is broken",
        _ => "is broken",
    }
}

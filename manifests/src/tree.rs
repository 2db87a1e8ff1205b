//! Typed reading of a device tree: a node that knows its path and whose it is, so that every refusal can say so.

use crate::error::{Complaint, Expected, Found, ManifestError, Name, NodePath, Refused, Subject};
use crate::fdt::Fdt;

/// Largest device tree that is read. Bounds the time that a hostile one can take.
pub const MAX_DTB: usize = 64 * 1024;

/// A device tree that is being read, whose it is, and what is wrong with it.
pub(crate) struct Reading<'a> {
    fdt: Fdt<'a>,
    tree_size: usize,
    complaint: Complaint,
}

/// A node of a manifest.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    reading: &'a Reading<'a>,
    at: usize,
}

/// Opens the device tree that `dtb` begins with, and gives its root to `read`. Bytes after it (padding of a page) are ignored.
#[inline(never)]
pub(crate) fn read_tree(dtb: &[u8], subject: Subject, read: &mut dyn FnMut(Node<'_>) -> Result<(), Refused>) -> Result<(), ManifestError> {
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
    let fdt = Fdt::open(dtb).map_err(|reason| error(Found::Reason(reason), Expected::Text("a well-formed flattened device tree")))?;
    let reading = Reading { fdt, tree_size: size, complaint: Complaint::about(subject) };
    let result = read(Node { reading: &reading, at: fdt.root() });
    reading.complaint.judge(result)
}

impl<'a> Node<'a> {
    /// Refuses the tree for `property` of this node. Out of line, as are its like: there are hundreds of calls.
    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, property: &'static str, found: Found, expected: Expected) -> Refused {
        self.reading.complaint.note(self.path(), property, found, expected)
    }

    /// [`Self::error`] about a property that is not there.
    #[cold]
    #[inline(never)]
    pub(crate) fn missing(&self, property: &'static str, expected: &'static str) -> Refused {
        self.error(property, Found::Missing, Expected::Text(expected))
    }

    /// [`Self::error`] about an address, offset or bit set.
    #[cold]
    #[inline(never)]
    pub(crate) fn not_hex(&self, property: &'static str, found: u64, expected: &'static str) -> Refused {
        self.error(property, Found::Hex(found), Expected::Text(expected))
    }

    /// [`Self::error`] about a number.
    #[cold]
    #[inline(never)]
    pub(crate) fn not_number(&self, property: &'static str, found: u64, expected: &'static str) -> Refused {
        self.error(property, Found::Number(found), Expected::Text(expected))
    }

    /// [`Self::error`] about what there is too much of.
    #[cold]
    #[inline(never)]
    pub(crate) fn too_many(&self, property: &'static str, found: Found, most: usize, of: &'static str) -> Refused {
        self.error(property, found, Expected::AtMost(most as u64, of))
    }

    /// The way from the root: looked up when there is something to complain about.
    fn path(&self) -> NodePath {
        let mut path = NodePath::ROOT;
        let mut here = Self { at: self.reading.fdt.root(), ..*self };
        while let Some(next) = here.children().take_while(|child| child.at <= self.at).last() {
            path = path.child(next.name());
            here = next;
        }
        path
    }

    /// Bytes of the whole device tree, as its header says.
    pub(crate) fn tree_size(&self) -> usize {
        self.reading.tree_size
    }

    /// The node's name, unit address included.
    pub(crate) fn name(&self) -> &'a str {
        self.reading.fdt.name(self.at)
    }

    /// The children in the order of the source.
    pub(crate) fn children(&self) -> Children<'a> {
        Children { reading: self.reading, next: self.reading.fdt.first_child(self.at) }
    }

    /// The child of exactly this name.
    pub(crate) fn child(&self, name: &str) -> Option<Self> {
        self.children().find(|child| child.name() == name)
    }

    /// The child of exactly this name, which has to be there.
    pub(crate) fn required_child(&self, name: &str, expected: &'static str) -> Result<Self, Refused> {
        self.child(name).ok_or_else(|| self.reading.complaint.note(self.path().child(name), "", Found::Missing, Expected::Text(expected)))
    }

    /// Whether the property is there, whatever its value.
    pub(crate) fn has(&self, property: &str) -> bool {
        self.value(property).is_some()
    }

    /// An integer of 8, 16, 32 or 64 bits, or `None` when the property is not there.
    pub(crate) fn number(&self, property: &'static str) -> Result<Option<u64>, Refused> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.len() {
            1 | 2 | 4 | 8 => Ok(Some(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))),
            bytes => Err(self.error(property, Found::Bytes(bytes), Expected::Text("one number: a cell <n>, or two <high low>"))),
        }
    }

    /// An integer in one cell, for what TF-A reads, too: of two cells it would take the high one.
    pub(crate) fn cell(&self, property: &'static str) -> Result<Option<u32>, Refused> {
        match self.cells(property)? {
            None => Ok(None),
            Some(cells) if cells.len() == 1 => Ok(Some(cells.get(0))),
            Some(cells) => Err(self.error(property, Found::Bytes(4 * cells.len()), Expected::Text("one cell, <n>"))),
        }
    }

    /// An integer that has to be there; `what` says what it is.
    pub(crate) fn required_number(&self, property: &'static str, what: &'static str) -> Result<u64, Refused> {
        self.number(property)?.ok_or_else(|| self.error(property, Found::Missing, Expected::Text(what)))
    }

    /// An integer of at most `max`.
    pub(crate) fn number_up_to(&self, property: &'static str, max: u64, what: &'static str) -> Result<Option<u64>, Refused> {
        match self.number(property)? {
            Some(n) if n > max => Err(self.error(property, Found::Number(n), Expected::AtMost(max, what))),
            n => Ok(n),
        }
    }

    /// An integer of at most 32 bits.
    pub(crate) fn number32(&self, property: &'static str) -> Result<Option<u32>, Refused> {
        Ok(self.number_up_to(property, u32::MAX.into(), "(32 bits)")?.map(|n| n as u32))
    }

    /// A set of bits, none outside `known`; `what` names the known ones.
    pub(crate) fn bits(&self, property: &'static str, known: u32, what: &'static str) -> Result<Option<u32>, Refused> {
        match self.number(property)? {
            Some(n) if n & !u64::from(known) != 0 => Err(self.error(property, Found::Hex(n), Expected::Text(what))),
            n => Ok(n.map(|n| n as u32)),
        }
    }

    /// Whether the empty property is there.
    pub(crate) fn flag(&self, property: &'static str) -> Result<bool, Refused> {
        match self.value(property) {
            None => Ok(false),
            Some([]) => Ok(true),
            Some(value) => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("no value: its presence says it all"))),
        }
    }

    /// A string.
    pub(crate) fn string(&self, property: &'static str) -> Result<Option<&'a str>, Refused> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.split_last() {
            Some((0, text)) if !text.contains(&0) => match core::str::from_utf8(text) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("a string in UTF-8"))),
            },
            _ => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("one string, \"...\""))),
        }
    }

    /// The UUIDs of a `uuid` property that has them as text; `None` for one of cells.
    pub(crate) fn uuid_texts(&self) -> Option<impl Iterator<Item = &'a str> + Clone + use<'a>> {
        // A UUID's 36 characters and a zero, as often as there are UUIDs.
        match self.value("uuid")?.as_chunks::<37>() {
            (texts, []) if texts.iter().all(|text| text.get(8) == Some(&b'-') && text.last() == Some(&0)) && !texts.is_empty() => {
                Some(texts.iter().map(|text| text.get(..36).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")))
            }
            _ => None,
        }
    }

    /// The cells of a list, or `None` when the property is not there.
    pub(crate) fn cells(&self, property: &'static str) -> Result<Option<Cells<'a>>, Refused> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.as_chunks::<4>() {
            (cells, []) => Ok(Some(Cells { cells })),
            _ => Err(self.error(property, Found::Bytes(value.len()), Expected::Text("a list of cells, <a b c ...>: a multiple of 4 bytes"))),
        }
    }

    /// A list of cells that come in groups of `group`; `expected` says what a group is.
    pub(crate) fn groups(&self, property: &'static str, group: usize, expected: &'static str) -> Result<Option<Cells<'a>>, Refused> {
        let Some(value) = self.value(property) else { return Ok(None) };
        match value.as_chunks::<4>() {
            (cells, []) if cells.len().is_multiple_of(group) => Ok(Some(Cells { cells })),
            _ => Err(self.error(property, Found::Bytes(value.len()), Expected::Text(expected))),
        }
    }

    /// Whether `compatible` lists `wanted`; an error that names it when not.
    pub(crate) fn require_compatible(&self, wanted: &'static str) -> Result<(), Refused> {
        self.require_compatible_or(wanted, |_| false)
    }

    /// [`Self::require_compatible`]; what begins with something that `also` accepts will do, too.
    #[inline(never)]
    pub(crate) fn require_compatible_or(&self, wanted: &'static str, also: fn(&[u8]) -> bool) -> Result<(), Refused> {
        let expected = Expected::String(wanted);
        let Some(value) = self.value("compatible") else {
            return Err(self.error("compatible", Found::Missing, expected));
        };
        let mut strings = value.split(|byte| *byte == 0);
        let first = strings.clone().next().unwrap_or_default();
        if also(first) || strings.any(|s| s == wanted.as_bytes()) {
            return Ok(());
        }
        let found = match core::str::from_utf8(first) {
            Ok(text) => Found::Text(Name::new(text)),
            Err(_) => Found::Bytes(value.len()),
        };
        Err(self.error("compatible", found, expected))
    }

    #[inline(never)]
    fn value(&self, property: &str) -> Option<&'a [u8]> {
        self.reading.fdt.value(self.at, property)
    }
}

/// Children of a node.
pub(crate) struct Children<'a> {
    reading: &'a Reading<'a>,
    next: Option<usize>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Node<'a>> {
        let at = self.next?;
        self.next = self.reading.fdt.next_sibling(at);
        Some(Node { reading: self.reading, at })
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

//! Flattened device trees (Devicetree Specification v0.4 chapter 5), read in place: no allocation, no recursion, and every
//! offset is a hostile one until it was looked up.
//!
//! Our own and not a crate's: it is all that is needed of one at boot, in a tenth of the image. A crate is the oracle that
//! it is tested against.

/// `FDT_BEGIN_NODE` and its like (section 5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// The version whose layout this is.
const VERSION: u32 = 17;
/// Bytes of the header.
const HEADER_SIZE: usize = 40;

/// The blocks of a tree that [`Fdt::open`] found well formed.
#[derive(Clone, Copy)]
pub(crate) struct Fdt<'a> {
    structure: &'a [[u8; 4]],
    strings: &'a [u8],
}

/// What stands at one place of the structure block.
enum Token<'a> {
    /// A node begins: its name.
    Begin(&'a [u8]),
    /// A node ends.
    End,
    /// A property: offset of its name, and its value.
    Property(u32, &'a [u8]),
    /// The tree ends.
    Finish,
}

impl<'a> Fdt<'a> {
    /// The tree that `bytes` are, exactly.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence about it.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let header = bytes.first_chunk::<HEADER_SIZE>().ok_or("is shorter than its header")?;
        let field = |n: usize| header.as_chunks::<4>().0.get(n).map_or(0, |word| u32::from_be_bytes(*word));
        let block = |offset: u32, size: u32| bytes.get(offset as usize..)?.get(..size as usize);
        if field(5) < VERSION || field(6) > VERSION {
            return Err("has a version other than 17");
        }
        let (Some(structure), Some(strings)) = (block(field(2), field(9)), block(field(3), field(8))) else {
            return Err("has a header whose offsets do not fit together");
        };
        let fdt = Self { structure: structure.as_chunks().0, strings };
        fdt.check().ok_or("has a structure block that is broken")?;
        Ok(fdt)
    }

    /// The place of the root node.
    pub(crate) fn root(&self) -> usize {
        self.skip_nops(0)
    }

    /// Name of the node at `node`.
    pub(crate) fn name(&self, node: usize) -> &'a str {
        match self.token(node) {
            Some((Token::Begin(name), _)) => core::str::from_utf8(name).unwrap_or_default(),
            _ => "",
        }
    }

    /// Value of a property of the node at `node`.
    pub(crate) fn value(&self, node: usize, property: &str) -> Option<&'a [u8]> {
        let (_, mut at) = self.token(node)?;
        loop {
            match self.token(at)? {
                (Token::Property(name, value), next) => {
                    if self.is_string(name, property) {
                        return Some(value);
                    }
                    at = next;
                }
                _ => return None,
            }
        }
    }

    /// The first child of the node at `node`.
    pub(crate) fn first_child(&self, node: usize) -> Option<usize> {
        let (_, mut at) = self.token(node)?;
        loop {
            match self.token(at)? {
                (Token::Property(..), next) => at = next,
                (Token::Begin(_), _) => return Some(self.skip_nops(at)),
                _ => return None,
            }
        }
    }

    /// The node after the one at `node` with the same parent.
    pub(crate) fn next_sibling(&self, node: usize) -> Option<usize> {
        let (mut at, mut depth) = (node, 0u32);
        loop {
            let (token, next) = self.token(at)?;
            match token {
                Token::Begin(_) if depth == 0 && at != node => return Some(self.skip_nops(at)),
                Token::Begin(_) => depth += 1,
                Token::End => depth = depth.checked_sub(1)?,
                Token::Property(..) => {}
                Token::Finish => return None,
            }
            at = next;
        }
    }

    /// Every node begins and ends, has a printable name (the root: none), and its properties come before its children.
    fn check(&self) -> Option<()> {
        let (mut at, mut depth, mut properties) = (self.root(), 0u32, false);
        loop {
            let (token, next) = self.token(at)?;
            match token {
                Token::Begin([]) if at == self.root() => (depth, properties) = (1, true),
                Token::Begin(name) if depth > 0 && !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b'/') => {
                    (depth, properties) = (depth + 1, true);
                }
                Token::Property(name, _) if properties => {
                    self.string(name)?;
                }
                Token::End if depth > 1 => (depth, properties) = (depth - 1, false),
                // The root ends, and then the tree.
                Token::End if depth == 1 => return matches!(self.token(next)?.0, Token::Finish).then_some(()),
                _ => return None,
            }
            at = next;
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.structure.get(at).map(|word| u32::from_be_bytes(*word))
    }

    fn skip_nops(&self, mut at: usize) -> usize {
        while self.word(at) == Some(NOP) {
            at += 1;
        }
        at
    }

    /// The token at word `at` or after the NOPs there, and the place after it. Each moves on by a word at the least.
    #[inline(never)]
    fn token(&self, at: usize) -> Option<(Token<'a>, usize)> {
        let mut at = at;
        let kind = loop {
            match self.word(at)? {
                NOP => at += 1,
                kind => break kind,
            }
        };
        let rest = self.structure.get(at + 1..)?;
        match kind {
            BEGIN_NODE => {
                let name = terminated(rest.as_flattened())?;
                Some((Token::Begin(name), at + 2 + name.len() / 4))
            }
            END_NODE => Some((Token::End, at + 1)),
            PROPERTY => {
                let value = rest.get(2..)?.as_flattened().get(..self.word(at + 1)? as usize)?;
                Some((Token::Property(self.word(at + 2)?, value), at + 3 + value.len().div_ceil(4)))
            }
            END => Some((Token::Finish, at + 1)),
            _ => None,
        }
    }

    /// The string at `offset`.
    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        terminated(self.strings.get(offset as usize..)?)
    }

    /// Whether the string at `offset` is `text`.
    fn is_string(&self, offset: u32, text: &str) -> bool {
        // Its end first: most of those that a search meets differ in length.
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.get(text.len()) == Some(&0) && rest.starts_with(text.as_bytes())
    }
}

/// The bytes before the first zero, which has to be there.
fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..bytes.iter().position(|byte| *byte == 0)?)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::Fdt;
    use dtoolkit::fdt::FdtNode;
    use dtoolkit::{Node as _, Property as _};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Both readers find the same nodes with the same properties, in the same order.
    fn compare(fdt: &Fdt<'_>, node: usize, theirs: FdtNode<'_>) {
        assert_eq!(fdt.name(node), theirs.name());
        let mut seen = Vec::new();
        for property in theirs.properties() {
            // Of two with one name, the first counts.
            if !seen.iter().any(|name: &std::string::String| name == property.name()) {
                assert_eq!(fdt.value(node, property.name()), Some(property.value()), "{}", property.name());
                seen.push(std::string::String::from(property.name()));
            }
        }
        assert_eq!(fdt.value(node, "no-such-property"), None);
        let mut child = fdt.first_child(node);
        for theirs in theirs.children() {
            let ours = child.expect("a child that the oracle finds");
            compare(fdt, ours, theirs);
            child = fdt.next_sibling(ours);
        }
        assert_eq!(child, None, "a child that the oracle does not find");
    }

    /// A tree around `structure`, with a few strings.
    fn tree(structure: &[u32]) -> Vec<u8> {
        let strings = b"reg\0compatible\0\0";
        let start = 56u32;
        let size = 4 * structure.len() as u32;
        let header = [0xd00d_feed, start + size + strings.len() as u32, start, start + size, 40, 17, 16, 0, strings.len() as u32, size, 0, 0, 0, 0];
        let mut bytes: Vec<u8> = header.iter().chain(structure).flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend_from_slice(strings);
        bytes
    }

    fn judge(bytes: &[u8]) {
        if let Ok(theirs) = dtoolkit::fdt::Fdt::new(bytes) {
            let fdt = Fdt::open(bytes).expect("a tree that the oracle accepts");
            compare(&fdt, fdt.root(), theirs.root());
        } else if let Ok(fdt) = Fdt::open(bytes) {
            // What only this reader accepts (it has no use for memory reservations) has still an end.
            let mut nodes = std::vec![fdt.root()];
            while let Some(node) = nodes.pop() {
                assert!(nodes.len() <= bytes.len());
                nodes.extend(core::iter::successors(fdt.first_child(node), |child| fdt.next_sibling(*child)));
            }
        }
    }

    /// One node with a property and a child, among NOPs.
    const GOOD: [u32; 16] = [1, 0, 4, 3, 4, 0, 0x1234_5678, 4, 1, 0x6162_4063, 0, 4, 2, 4, 2, 9];

    #[test]
    fn a_small_tree_is_read() {
        let bytes = tree(&GOOD);
        let fdt = Fdt::open(&bytes).unwrap();
        let child = fdt.first_child(fdt.root()).unwrap();
        assert_eq!((fdt.name(child), fdt.next_sibling(child)), ("ab@c", None));
        assert_eq!(fdt.value(fdt.root(), "reg"), Some(&[0x12, 0x34, 0x56, 0x78][..]));
        assert!(dtoolkit::fdt::Fdt::new(&bytes).is_ok());
        judge(&bytes);
    }

    #[test]
    fn each_breakage_has_its_reason() {
        let broken = |at: usize, byte: u8| {
            let mut bytes = tree(&GOOD);
            bytes[at] = byte;
            Fdt::open(&bytes).err()
        };
        assert_eq!(broken(23, 16), Some("has a version other than 17"));
        assert_eq!(broken(27, 18), Some("has a version other than 17"));
        assert_eq!(broken(33, 1), Some("has a header whose offsets do not fit together"));
        // A control character in a name, a property without a name, and no end.
        assert_eq!(broken(56 + 4 * 9, 7), Some("has a structure block that is broken"));
        assert_eq!(broken(56 + 4 * 5, 7), Some("has a structure block that is broken"));
        assert_eq!(broken(56 + 4 * 15 + 3, 4), Some("has a structure block that is broken"));
        assert_eq!(Fdt::open(&[0; 39]).err(), Some("is shorter than its header"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn mutated_trees_are_read_as_the_oracle_reads_them(changes in vec((0..16usize, prop_oneof![0..10u32, Just(0x6162_0000), any::<u32>()]), 0..4)) {
            let mut structure = GOOD;
            for (at, word) in changes {
                structure[at] = word;
            }
            judge(&tree(&structure));
        }

        #[test]
        fn words_at_random_are_read_as_the_oracle_reads_them(words in vec(prop_oneof![5 => 0..10u32, 1 => Just(0x6162_0000)], 0..20)) {
            let mut structure = std::vec![1, 0];
            structure.extend(words);
            structure.extend([2, 9]);
            judge(&tree(&structure));
        }
    }
}

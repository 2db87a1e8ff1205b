//! TF-A's table of partition packages, TB_FW_CONFIG: which packages BL2 loads from the FIP, by UUID, and where to. Only the
//! host looks at it; at boot its work is done.

use crate::error::{Expected, Found, ManifestError, Name, NodePath, Refused, Subject};
use crate::system::LoadedPartition;
use crate::tree::{Node, read_tree};
use arrayvec::ArrayVec;
use bulkhead_ffa::Uuid;

/// Most packages that TF-A's BL2 loads on QEMU's virt machine.
pub const MAX_PACKAGES: usize = 8;

/// One package of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadEntry {
    /// The node's name.
    pub name: Name,
    /// By which BL2 finds it in the FIP.
    pub uuid: Uuid,
    /// Where BL2 puts it.
    pub load_address: u64,
}

impl LoadEntry {
    fn error(&self, property: &'static str, found: Found, expected: Expected) -> ManifestError {
        ManifestError { subject: Subject::LoadTable, path: NodePath::ROOT.child(NODE).child(self.name.as_str()), property, found, expected }
    }
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LoadTable {
    /// In the order of the source.
    pub entries: ArrayVec<LoadEntry, MAX_PACKAGES>,
}

const NODE: &str = "secure-partitions";
pub(crate) const UUID_FORM: &str = "a UUID as text, 00112233-4455-6677-8899-aabbccddeeff";

impl LoadTable {
    /// Reads the table from the device tree that `dtb` begins with.
    pub fn read(dtb: &[u8]) -> Result<Self, ManifestError> {
        let mut table = Self::default();
        read_tree(dtb, Subject::LoadTable, &mut |root| table.parse(root)).map(|()| table)
    }

    fn parse(&mut self, root: Node<'_>) -> Result<(), Refused> {
        let node = root.required_child(NODE, "the packages that BL2 loads")?;
        node.require_compatible("arm,sp")?;
        for child in node.children() {
            let text = child.string("uuid")?.ok_or_else(|| child.missing("uuid", UUID_FORM))?;
            let uuid = parse_uuid(text).ok_or_else(|| child.error("uuid", Found::Text(Name::new(text)), Expected::Text(UUID_FORM)))?;
            let load_address = child
                .cell("load-address")?
                .ok_or_else(|| child.missing("load-address", "where BL2 puts the package, one cell"))?;
            if self.entries.iter().any(|other| other.uuid == uuid) {
                return Err(child.error("uuid", Found::Uuid(uuid), Expected::Text("each UUID once: BL2 would load one package twice")));
            }
            let full = |_| child.too_many("", Found::Present, MAX_PACKAGES, "packages: BL2 has room for no more");
            self.entries.try_push(LoadEntry { name: Name::new(child.name()), uuid, load_address: load_address.into() }).map_err(full)?;
        }
        Ok(())
    }
}

/// Checks that BL2 loads exactly the packages of `partitions`, to where the SPMC looks for them.
pub fn check_load_table(table: &LoadTable, partitions: &[LoadedPartition<'_>]) -> Result<(), ManifestError> {
    for partition in partitions {
        check_entry(table, partition, partitions)?;
    }
    for entry in &table.entries {
        if !partitions.iter().any(|partition| partition.vm.load_address == entry.load_address) {
            return Err(entry.error("load-address", Found::Hex(entry.load_address), Expected::Text("load_address of a vmN node in the SPMC manifest")));
        }
    }
    Ok(())
}

fn check_entry(table: &LoadTable, partition: &LoadedPartition<'_>, all: &[LoadedPartition<'_>]) -> Result<(), ManifestError> {
    // sptool names the package by the manifest's first UUID.
    let first = |one: &LoadedPartition<'_>| one.manifest.services.first().map(|service| service.uuid);
    let Some(uuid) = first(partition) else { return Ok(()) };
    let here = table.entries.iter().any(|entry| entry.load_address == partition.vm.load_address);
    if here && all.iter().filter(|one| first(one) == Some(uuid)).count() > 1 {
        // Of several with the same one, only one package can have it.
        return Ok(());
    }
    if let Some(entry) = table.entries.iter().find(|entry| entry.uuid == uuid) {
        if entry.load_address == partition.vm.load_address {
            return Ok(());
        }
        let expected = Expected::HexExactly(partition.vm.load_address, "load_address of its vmN node");
        return Err(entry.error("load-address", Found::Hex(entry.load_address), expected));
    }
    let swapped = Uuid::from_words(uuid.words().map(u32::swap_bytes));
    if let Some(entry) = table.entries.iter().find(|entry| entry.uuid == swapped) {
        return Err(ManifestError {
            subject: partition.vm.subject(),
            path: NodePath::ROOT,
            property: "uuid",
            found: Found::Uuid(uuid),
            expected: Expected::Uuid(entry.uuid, "as in TB_FW_CONFIG: the cells have their bytes reversed"),
        });
    }
    Err(ManifestError {
        subject: Subject::LoadTable,
        path: NodePath::ROOT.child(NODE),
        property: "uuid",
        found: Found::Missing,
        expected: Expected::UuidOf(uuid, partition.vm.subject()),
    })
}

/// The text form of a UUID, in either case.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut digits = ArrayVec::<u8, 32>::new();
    for (index, byte) in text.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
        } else {
            digits.try_push(char::from(*byte).to_digit(16)? as u8).ok()?;
        }
    }
    let (pairs, _) = digits.as_chunks::<2>();
    let mut bytes = [0; 16];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = high << 4 | low;
    }
    Some(Uuid(bytes))
}

//! A partition of somebody else's: what its manifest says that TF-A's table, the layout of memory and the SPMC's manifest need.
//!
//! The manifest is read property by property here, not by the validator: it may be meant for another SPMC, and what Bulkhead
//! makes of it is said later, by the linter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_manifests::{Name, Package, Subject};

use super::argument::SpArgument;
use crate::exec;
use crate::package;
use crate::system;
use crate::toolchain;

/// Where the image goes in its package when the manifest does not say where its entry point is: `sptool`'s own default.
const DEFAULT_IMAGE_OFFSET: u64 = package::IMAGE_OFFSET as u64;
const PAGE: u64 = 4096;

/// A partition, read.
pub struct Guest {
    /// How the command line named it.
    pub argument: SpArgument,
    /// Name for files.
    pub file: String,
    /// Name for people: `description` or `debug_name` of its manifest, else the image's file name.
    pub name: String,
    /// Its first UUID as text.
    pub uuid: String,
    /// N of its `vmN` node, if its manifest has an id.
    pub number: Option<u8>,
    /// Number of vCPUs.
    pub contexts: u16,
    /// Where it is to be loaded, if anything says so.
    pub load_address: Option<u64>,
    /// `mem-size`.
    pub mem_size: Option<u64>,
    /// Bytes from the load address that it takes at the least: package, regions relative to it, regions without an address.
    pub extent: u64,
    /// Its secure memory regions with addresses of their own: first byte and bytes.
    pub regions: Vec<(u64, u64)>,
    /// The compiled manifest, which is this guest's copy.
    blob: PathBuf,
    content: Content,
}

enum Content {
    /// The package as it came.
    Package(Vec<u8>),
    /// An image, where it goes in the package, and where it is linked if it says so.
    Image { bytes: Vec<u8>, offset: u64, linked: Option<u64> },
}

impl Guest {
    /// Reads the partition of `argument`; `place` is its place on the command line.
    ///
    /// # Errors
    /// When a file cannot be read, or the manifest lacks what is needed.
    pub fn read(argument: &SpArgument, dir: &Path, place: usize) -> Result<Self> {
        let image = fs::read(&argument.image).with_context(|| format!("cannot read {}", argument.image.display()))?;
        let stem = argument.image.file_stem().map_or_else(|| "sp".into(), |s| s.to_string_lossy().into_owned());
        let file = format!("sp{place}-{}", plain(&stem));
        let packed = package::is_package(&image);
        let manifest = if packed {
            let name = Name::new(&file);
            let parts = Package::read(&image, Subject::Named(name)).map_err(|e| anyhow::anyhow!("{e}"))?;
            let path = dir.join(format!("{file}.packed.dtb"));
            fs::write(&path, parts.manifest.of(&image)).with_context(|| format!("cannot write {}", path.display()))?;
            path
        } else {
            argument.manifest.clone().context("it is not a package, so its manifest is needed: --sp IMAGE:MANIFEST")?
        };
        system::compile(dir, &file, &manifest)?;
        let tree = Tree { blob: dir.join(format!("{file}.dtb")) };
        let uuid = tree.uuid()?;
        if let (true, Some(beside)) = (packed, &argument.manifest) {
            system::compile(dir, &format!("{file}-beside"), beside)?;
            let theirs = Tree { blob: dir.join(format!("{file}-beside.dtb")) }.uuid()?;
            ensure!(theirs == uuid, "it is a package, whose own manifest has the UUID {uuid} and is used; {} has {theirs}", beside.display());
        }
        let granule = match tree.number("/", "xlat-granule")?.unwrap_or(0) {
            1 => 4 * PAGE,
            2 => 16 * PAGE,
            _ => PAGE,
        };
        let content = if packed {
            Content::Package(image)
        } else {
            let (linked, bytes) = match toolchain::flat_image(&image)? {
                // One that is linked at 0 is position-independent.
                Some((base, bytes)) => (Some(base).filter(|base| *base != 0), bytes),
                None => (None, image),
            };
            Content::Image { bytes, offset: tree.image_offset()?, linked }
        };
        let package_size = match &content {
            Content::Package(bytes) => bytes.len() as u64,
            Content::Image { bytes, offset, .. } => bytes.len() as u64 + offset,
        };
        let (extent, regions) = tree.memory(package_size, granule)?;
        let number = tree.number("/", "id")?.map(|id| if id > 0x8000 { id - 0x8000 } else { id });
        let number = match number {
            None => None,
            Some(n @ 1..=255) => Some(n as u8),
            Some(n) => bail!("its manifest's id is {n:#x}: expected 0x8001 to 0x80ff, or 1 to 0xff"),
        };
        let name = ["description", "debug_name"].into_iter().find_map(|property| tree.text("/", property)).unwrap_or(stem);
        Ok(Self {
            argument: argument.clone(),
            name: name.chars().filter(|c| !c.is_control() && *c != '"' && *c != '\\').take(bulkhead_manifests::error::MAX_NAME).collect(),
            uuid,
            number,
            contexts: tree.number("/", "execution-ctx-count")?.unwrap_or(1).clamp(1, 8) as u16,
            load_address: argument.load_address.or(tree.number("/", "load-address")?),
            mem_size: tree.number("/", "mem-size")?,
            extent,
            regions,
            blob: tree.blob,
            content,
            file,
        })
    }

    /// The package for `address`. The manifest of an image is made to say that address.
    ///
    /// # Errors
    /// When manifest and image do not fit a package.
    pub fn package(&self, address: u64) -> Result<Vec<u8>> {
        let (image, offset) = match &self.content {
            Content::Package(bytes) => return Ok(bytes.clone()),
            Content::Image { bytes, offset, linked } => {
                if let Some(linked) = linked.filter(|linked| *linked != address + offset) {
                    bail!("it is an ELF file linked at {linked:#x}, but will run at {:#x}: its load address and the page of its entrypoint-offset", address + offset);
                }
                (bytes, *offset)
            }
        };
        let tree = Tree { blob: self.blob.clone() };
        if tree.number("/", "load-address")?.is_some_and(|theirs| theirs != address) {
            tree.set("/", "load-address", address)?;
        }
        if tree.number("/", "entrypoint-offset")?.is_none() {
            tree.set("/", "entrypoint-offset", offset)?;
        }
        let manifest = fs::read(&self.blob).with_context(|| format!("cannot read {}", self.blob.display()))?;
        package::sptool(&manifest, image, usize::try_from(offset)?)
    }
}

/// `text` with nothing in it that a file or node name could not have.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).take(24).collect()
}

/// A compiled manifest.
struct Tree {
    blob: PathBuf,
}

impl Tree {
    fn get(&self, arguments: &[&str]) -> Option<String> {
        exec::output(Command::new("fdtget").args(&arguments[..arguments.len() - 2]).arg(&self.blob).args(&arguments[arguments.len() - 2..])).ok()
    }

    fn cells(&self, node: &str, property: &str) -> Result<Option<Vec<u64>>> {
        let Some(text) = self.get(&["-t", "x", node, property]) else { return Ok(None) };
        let cell = |word: &str| u64::from_str_radix(word, 16).with_context(|| format!("{node}: {property} is not a list of numbers"));
        text.split_whitespace().map(cell).collect::<Result<_>>().map(Some)
    }

    /// A number of one or two cells.
    fn number(&self, node: &str, property: &str) -> Result<Option<u64>> {
        match self.cells(node, property)?.as_deref() {
            None => Ok(None),
            Some([n]) => Ok(Some(*n)),
            Some([high, low]) => Ok(Some(high << 32 | low)),
            Some(other) => bail!("its manifest's {node}: {property} has {} cells: expected one, or two for 64 bits", other.len()),
        }
    }

    fn set(&self, node: &str, property: &str, number: u64) -> Result<()> {
        let cells = [format!("{:x}", number >> 32), format!("{:x}", number & 0xffff_ffff)];
        exec::output(Command::new("fdtput").args(["-t", "x"]).arg(&self.blob).args([node, property]).args(cells)).map(drop)
    }

    fn text(&self, node: &str, property: &str) -> Option<String> {
        self.get(&["-t", "s", node, property]).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn children(&self, node: &str) -> Vec<String> {
        let listed = exec::output(Command::new("fdtget").arg("-l").arg(&self.blob).arg(node));
        listed.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The first UUID: cells or text of the root, or text of the first node of `services`.
    fn uuid(&self) -> Result<String> {
        let service = self.children("/services").first().map(|child| format!("/services/{child}"));
        for node in std::iter::once("/".to_owned()).chain(service) {
            if let Some(text) = self.text(&node, "uuid").and_then(|t| t.split_whitespace().next().map(str::to_lowercase))
                && crate::fip::entry_id(&text).is_ok()
            {
                return Ok(text);
            }
            if let Some([a, b, c, d, ..]) = self.cells(&node, "uuid").ok().flatten().as_deref() {
                let bytes: Vec<u8> = [a, b, c, d].iter().flat_map(|cell| (**cell as u32).to_le_bytes()).collect();
                return Ok(uuid_text(&bytes));
            }
        }
        bail!("its manifest has no uuid of four cells: is it an FF-A partition manifest?")
    }

    /// Where the image goes in its package: the page of its entry point.
    fn image_offset(&self) -> Result<u64> {
        match self.number("/", "entrypoint-offset")? {
            None => Ok(DEFAULT_IMAGE_OFFSET),
            Some(offset) if offset < PAGE => bail!("its manifest's entrypoint-offset is {offset:#x}: expected 0x1000 or more, as a package starts with its header and the manifest"),
            Some(offset) => Ok(offset / PAGE * PAGE),
        }
    }

    /// What the memory regions take: bytes from the load address on, and secure ranges elsewhere.
    fn memory(&self, package_size: u64, granule: u64) -> Result<(u64, Vec<(u64, u64)>)> {
        let round = |bytes: u64| bytes.next_multiple_of(granule);
        let (mut end, mut unplaced, mut elsewhere) = (round(package_size), 0, Vec::new());
        for child in self.children("/memory-regions") {
            let node = format!("/memory-regions/{child}");
            let size = self.number(&node, "pages-count")?.unwrap_or(0).saturating_mul(granule);
            let relative = match self.number(&node, "load-address-relative-offset")? {
                None => self.number(&node, "relative-address")?,
                offset => offset,
            };
            let non_secure = self.number(&node, "attributes")?.unwrap_or(0) & 8 != 0;
            match (relative, self.number(&node, "base-address")?) {
                (Some(offset), _) => end = end.max(round(offset.saturating_add(size))),
                (None, Some(base)) if !non_secure => elsewhere.push((base, size)),
                (None, Some(_)) => {}
                (None, None) => unplaced += round(size),
            }
        }
        Ok((end.saturating_add(unplaced), elsewhere))
    }
}

/// The number of each guest's `vmN` node: what its manifest says, of several with the same one the first; else the next free one.
///
/// # Errors
/// When none is left.
pub fn numbers(guests: &[Guest]) -> Result<Vec<u8>> {
    let own = |n: usize| guests[n].number.filter(|number| guests[..n].iter().all(|other| other.number != Some(*number)));
    let own: Vec<Option<u8>> = (0..guests.len()).map(own).collect();
    let mut free = (1..=u8::MAX).filter(|n| !own.contains(&Some(*n)));
    own.iter().map(|number| number.or_else(|| free.next()).context("no partition id is left")).collect()
}

/// By which TF-A finds each guest's package: its first UUID, or, where an earlier one has that, the next that nobody has.
///
/// # Errors
/// When a UUID is not one.
pub fn keys(guests: &[Guest]) -> Result<Vec<String>> {
    let mut keys: Vec<u128> = Vec::new();
    for guest in guests {
        let mut key = u128::from_be_bytes(crate::fip::entry_id(&guest.uuid)?);
        while keys.contains(&key) {
            key = key.wrapping_add(1);
        }
        keys.push(key);
    }
    Ok(keys.into_iter().map(|key| uuid_text(&key.to_be_bytes())).collect())
}

/// The text form of a UUID.
fn uuid_text(bytes: &[u8]) -> String {
    let hex = crate::fetch::hex(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

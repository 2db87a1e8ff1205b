//! An initramfs as the kernel reads it: a cpio archive in the `newc` format (kernel documentation, "initramfs buffer
//! format"). Owners are root and times zero, so that the same files make the same archive.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive in the making. Directories must come before what is in them, or the kernel drops that.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory.
    pub fn dir(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, &[]);
    }

    /// A symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, LINK | 0o777, target.as_bytes());
    }

    /// A file with permission bits.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, FILE | mode, content);
    }

    /// Everything below `source`, as `name` (the empty name is the root); a directory for `name` itself is added.
    ///
    /// # Errors
    /// When something cannot be read, or is neither file, directory nor link.
    pub fn tree(&mut self, name: &str, source: &Path) -> Result<()> {
        if !name.is_empty() {
            self.dir(name);
        }
        for path in super::entries(source)? {
            let Some(last) = path.file_name().and_then(|n| n.to_str()) else { bail!("{} has no plain name", path.display()) };
            let name = if name.is_empty() { last.to_owned() } else { format!("{name}/{last}") };
            if path.is_symlink() {
                let target = fs::read_link(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.link(&name, &target.to_string_lossy());
            } else if path.is_dir() {
                self.tree(&name, &path)?;
            } else if path.is_file() {
                self.file(&name, super::mode(&path)?, &super::read(&path)?);
            } else {
                bail!("{} is neither a file, a directory nor a link", path.display());
            }
        }
        Ok(())
    }

    /// The archive's bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY != 0 && mode & FILE == 0 { 2 } else { 1 };
        let mut header = "070701".to_owned();
        // Inode, mode, owner, group, links, time, size, device (two numbers), device of a node (two), length of the name
        // with its NUL, checksum (not used in this format).
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        for field in [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            // Writing to a string cannot fail.
            let _ = write!(header, "{field:08x}");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn entries_are_aligned_and_closed_by_a_trailer() {
        let mut archive = Archive::default();
        archive.dir("d");
        archive.file("d/f", 0o755, b"12345");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(bytes.len().is_multiple_of(4));
        assert_eq!(text.matches("070701").count(), 3);
        let file = text.find("d/f\0").unwrap();
        assert_eq!(&text[file - 110..file - 110 + 22], "07070100000002000081ed");
        assert_eq!(&bytes[(file + 4).next_multiple_of(4)..][..5], b"12345");
        assert!(text.contains("TRAILER!!!\0"));
    }

    #[test]
    fn trees_keep_links_modes_and_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/z"), "z").unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("c")).unwrap();
        let mut archive = Archive::default();
        archive.tree("top", dir.path()).unwrap();
        let text = String::from_utf8(archive.finish()).unwrap();
        let at: Vec<usize> = ["top\0", "top/a\0", "top/b\0", "top/b/z\0", "top/c\0"].iter().map(|n| text.find(n).unwrap()).collect();
        assert!(at.is_sorted(), "{at:?}");
        // The link's content is its target.
        assert_eq!(&text[at[4]..at[4] + 7], "top/c\0a");
    }

    #[test]
    fn the_systems_own_cpio_reads_it_where_there_is_one() {
        let mut archive = Archive::default();
        archive.dir("d");
        archive.file("d/f", 0o644, b"content");
        archive.link("l", "d/f");
        let Ok(mut child) = Command::new("cpio").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            return;
        };
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &archive.finish()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        assert_eq!(String::from_utf8_lossy(&out.stdout), "d\nd/f\nl\n");
    }
}

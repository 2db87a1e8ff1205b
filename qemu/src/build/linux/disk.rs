//! The boot disk: one FAT16 volume without a partition table, which UEFI takes as removable media.

use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};

/// The smallest volume made: how many clusters there are tells FAT16 from FAT12.
const LEAST: usize = 32 << 20;
const CLUSTER: u32 = 4096;

/// The image of a disk with these files (path with slashes, content).
///
/// # Errors
/// When a name or size does not fit FAT.
pub fn write(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    // Room for the allocation tables and the last, partly filled clusters.
    let size = (content + content / 64 + (4 << 20)).next_multiple_of(1 << 20).max(LEAST);
    let mut disk = Cursor::new(vec![0u8; size]);
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat16).bytes_per_cluster(CLUSTER).volume_label(*b"BULKHEAD   ");
    format_volume(&mut disk, options).context("cannot format")?;
    {
        let volume = FileSystem::new(&mut disk, FsOptions::new()).context("cannot open the new volume")?;
        for (path, bytes) in files {
            put(&volume, path, bytes).with_context(|| format!("cannot write {path}"))?;
        }
        volume.unmount().context("cannot close the volume")?;
    }
    Ok(disk.into_inner())
}

fn put(volume: &FileSystem<&mut Cursor<Vec<u8>>>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut dir = volume.root_dir();
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or(path);
    for part in parts {
        dir = dir.create_dir(part)?;
    }
    let mut file = dir.create_file(name)?;
    file.write_all(bytes)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_are_found_where_uefi_looks() {
        let kernel: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let image = write(&[("EFI/BOOT/BOOTAA64.EFI", b"loader"), ("hello-unsigned.efi", b"hello"), ("linux.efi", &kernel)]).unwrap();
        assert_eq!((image[510], image[511]), (0x55, 0xaa));
        let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        assert_eq!(volume.fat_type(), FatType::Fat16);
        let read = |path: &str| {
            let mut bytes = Vec::new();
            volume.root_dir().open_file(path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read("EFI/BOOT/BOOTAA64.EFI"), b"loader");
        assert_eq!(read("hello-unsigned.efi"), b"hello");
        assert!(read("linux.efi") == kernel);
    }
}

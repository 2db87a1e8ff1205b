//! Downloads: pinned source archives and arm64 packages, verified by checksum, resumed after an interruption.
//!
//! Files arrive under `downloads/partial/` and are renamed into `downloads/` when their SHA-256 is right. The transfer
//! itself is apt's (`apt-helper`): it knows the machine's proxies, credentials and transports, and continues a partial file.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apt::{self, LocatedDeb, PrivateApt};
use crate::exec;
use crate::progress::Task;
use crate::project::{Project, create_dir};
use crate::recipe::Tarball;

/// A file in the archive, with what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Where it lies.
    pub uri: String,
    /// Name in the cache.
    pub file_name: String,
    /// Expected SHA-256, lower-case hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// arm64 packages of one suite that a recipe needs. What was taken is written down in the cache, so that the same versions
/// serve until `cargo xtask fetch --update` asks for newer ones.
#[derive(Clone, Debug)]
pub struct DebSet {
    /// Name of the set, unique: `linux-kernel`, for example.
    pub name: &'static str,
    /// Suite: `sid`, `trixie`.
    pub suite: &'static str,
    /// The packages.
    pub picks: Vec<Pick>,
}

/// Which package to take.
#[derive(Clone, Debug)]
pub enum Pick {
    /// The package of this name.
    Name(&'static str),
    /// Of all packages whose name matches `pattern` (a whole-name regular expression with one group), the newest one by
    /// that group for which all `companions` exist too (`$1` in them stands for the group).
    Newest {
        /// Regular expression, anchored by us.
        pattern: &'static str,
        /// Names of packages that go with it.
        companions: &'static [&'static str],
    },
}

/// A downloaded package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deb {
    /// Package name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The .deb file.
    pub path: PathBuf,
    /// Its checksum.
    pub sha256: String,
}

/// What was taken for a [`DebSet`], as written down in the cache.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Taken {
    name: String,
    version: String,
    remote: Remote,
}

impl DebSet {
    fn record(&self, project: &Project) -> PathBuf {
        // The picks are part of the name: a changed list is resolved anew.
        let digest = hex(&Sha256::digest(format!("{:?}", self.picks)));
        project.cache.join("apt").join("taken").join(format!("{}-{}-{}.json", self.name, self.suite, &digest[..12]))
    }

    /// What was taken before, if anything.
    fn recorded(&self, project: &Project) -> Option<Vec<Taken>> {
        serde_json::from_slice(&fs::read(self.record(project)).ok()?).ok()
    }
}

/// Which files `set` stands for: as written down, or (with `update`, or the first time) newly asked from the archive.
///
/// # Errors
/// When the archive cannot be asked or lacks a package.
fn resolve(project: &Project, set: &DebSet, update: bool, task: &Task) -> Result<Vec<Taken>> {
    if !update && let Some(taken) = set.recorded(project) {
        return Ok(taken);
    }
    apt::require()?;
    let apt = PrivateApt::open(project, set.suite, "arm64")?;
    if update || !apt.has_index() {
        apt.update(task)?;
    }
    task.stage(&format!("choosing packages for {}", set.name));
    let mut names = Vec::new();
    for pick in &set.picks {
        match pick {
            Pick::Name(name) => names.push((*name).to_owned()),
            Pick::Newest { pattern, companions } => {
                let regex = Regex::new(&format!("^(?:{pattern})$")).with_context(|| format!("bad pattern {pattern}"))?;
                let all = apt.names()?;
                names.extend(newest(&all, &regex, companions).with_context(|| {
                    format!("no package in {}/arm64 matches {pattern} (with {})", set.suite, companions.join(", "))
                })?);
            }
        }
    }
    let taken: Vec<Taken> =
        apt.locate(&names)?.into_iter().map(|LocatedDeb { name, version, remote }| Taken { name, version, remote }).collect();
    write_whole(&set.record(project), &serde_json::to_vec_pretty(&taken)?)?;
    Ok(taken)
}

/// See [`Pick::Newest`].
fn newest(all: &[String], pattern: &Regex, companions: &[&str]) -> Option<Vec<String>> {
    let mut candidates: Vec<(&str, &String)> =
        all.iter().filter_map(|name| Some((pattern.captures(name)?.get(1)?.as_str(), name))).collect();
    candidates.sort_by(|a, b| apt::compare_versions(b.0, a.0));
    candidates.into_iter().find_map(|(version, name)| {
        let mut names = vec![name.clone()];
        names.extend(companions.iter().map(|c| c.replace("$1", version)));
        names.iter().all(|n| all.contains(n)).then_some(names)
    })
}

/// Checksums that `set` contributes to a cache key, resolving the set if that was never done.
///
/// # Errors
/// When the archive cannot be asked.
pub fn checksums(project: &Project, set: &DebSet, task: &Task) -> Result<Vec<String>> {
    Ok(resolve(project, set, false, task)?.into_iter().map(|t| t.remote.sha256).collect())
}

/// Forgets what was taken for `set` and asks the archive anew.
///
/// # Errors
/// When the archive cannot be asked.
pub fn update(project: &Project, set: &DebSet, task: &Task) -> Result<()> {
    resolve(project, set, true, task).map(drop)
}

/// Downloads all packages of `set` that the cache lacks.
///
/// # Errors
/// When a download fails or a checksum is wrong.
pub fn debs(project: &Project, set: &DebSet, task: &Task) -> Result<Vec<Deb>> {
    let mut taken = resolve(project, set, false, task)?;
    let remotes = |taken: &[Taken]| taken.iter().map(|t| t.remote.clone()).collect::<Vec<_>>();
    if let Err(first) = download(project, &remotes(&taken), task) {
        crate::interrupt::check()?;
        // The suite may have moved on since the index was read: the file is gone, a newer one is there.
        taken = resolve(project, set, true, task).with_context(|| format!("{first:#}"))?;
        download(project, &remotes(&taken), task)?;
    }
    Ok(taken
        .into_iter()
        .map(|t| Deb { name: t.name, version: t.version, path: project.downloads().join(&t.remote.file_name), sha256: t.remote.sha256 })
        .collect())
}

/// Downloads a pinned source archive unless the cache has it.
///
/// # Errors
/// When the download fails or the checksum is wrong.
pub fn tarball(project: &Project, tarball: &Tarball, task: &Task) -> Result<PathBuf> {
    let path = project.downloads().join(tarball.file_name());
    let mut remote =
        Remote { uri: String::new(), file_name: tarball.file_name().to_owned(), sha256: tarball.sha256.to_owned(), size: tarball.size };
    if !has(project, &remote) {
        apt::require()?;
        remote.uri = format!("{}pool/main/{}", apt::mirror()?, tarball.pool_path);
        download(project, &[remote], task)?;
    }
    Ok(path)
}

/// Whether the cache has `remote`, whole. Names carry versions and files are only ever renamed in after their checksum
/// was right, so presence and size suffice here.
fn has(project: &Project, remote: &Remote) -> bool {
    fs::metadata(project.downloads().join(&remote.file_name)).is_ok_and(|m| m.len() == remote.size)
}

/// Downloads what the cache lacks of `remotes`, one after the other, with their bytes as one progress bar.
fn download(project: &Project, remotes: &[Remote], task: &Task) -> Result<()> {
    let missing: Vec<&Remote> = remotes.iter().filter(|r| !has(project, r)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let total: u64 = missing.iter().map(|r| r.size).sum();
    let what = if let [one] = missing[..] { one.file_name.clone() } else { format!("{} packages", missing.len()) };
    task.stage(&format!("downloading {what} ({})", crate::progress::bytes(total)));
    let partial_dir = project.downloads().join("partial");
    create_dir(&partial_dir)?;
    let mut before = 0;
    for remote in missing {
        crate::interrupt::check()?;
        let partial = partial_dir.join(&remote.file_name);
        // Several recipes share an archive, and several clones share the cache: one transfers, the others wait and find it.
        let lock_path = partial_dir.join(format!("{}.lock", remote.file_name));
        let lock = fs::File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
        if has(project, remote) {
            before += remote.size;
            continue;
        }
        with_watch(&partial, |size| task.bytes(before + size.min(remote.size), total), || transfer(&remote.uri, &partial))
            .with_context(|| format!("cannot download {} from {}", remote.file_name, remote.uri))?;
        verify(&partial, remote)?;
        let target = project.downloads().join(&remote.file_name);
        fs::rename(&partial, &target).with_context(|| format!("cannot rename {} to {}", partial.display(), target.display()))?;
        before += remote.size;
    }
    Ok(())
}

/// One transfer to `target`, which it continues if it is there.
fn transfer(uri: &str, target: &Path) -> Result<()> {
    exec::output(
        Command::new("/usr/lib/apt/apt-helper")
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "-o", "Dir::Cache::archives=/nonexistent", "download-file", uri])
            .arg(target),
    )
    .map(drop)
}

/// Calls `report` with the size of `path` a few times a second while `work` runs.
fn with_watch<T>(path: &Path, report: impl Fn(u64) + Sync, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Ok(meta) = fs::metadata(path) {
                    report(meta.len());
                }
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        result
    })
}

/// Checks a downloaded file; a wrong one is removed, so that the next try starts afresh.
fn verify(path: &Path, remote: &Remote) -> Result<()> {
    let found = sha256_file(path)?;
    if found != remote.sha256 {
        let size = fs::metadata(path).map_or(0, |m| m.len());
        fs::remove_file(path).ok();
        bail!(
            "wrong checksum of {}:\n    expected {} ({} bytes)\n    found    {found} ({size} bytes)\n    from     {}\n\
             The file was removed. Run the command again; if it happens again, the mirror or a proxy serves something else.",
            remote.file_name,
            remote.sha256,
            remote.size,
            remote.uri,
        );
    }
    Ok(())
}

/// SHA-256 of a file, lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes a file so that nobody ever sees half of it.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file needs a directory")?;
    create_dir(dir)?;
    let temporary = tempfile::NamedTempFile::new_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    fs::write(temporary.path(), bytes).with_context(|| format!("cannot write {}", temporary.path().display()))?;
    temporary.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_names_file_expected_and_found_and_removes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.tar.gz");
        fs::write(&path, "abc").unwrap();
        let good = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let remote =
            |sha256: &str| Remote { uri: "http://x/thing.tar.gz".into(), file_name: "thing.tar.gz".into(), sha256: sha256.into(), size: 3 };
        verify(&path, &remote(good)).unwrap();
        let error = verify(&path, &remote("1234")).unwrap_err().to_string();
        assert!(error.contains("thing.tar.gz") && error.contains("expected 1234") && error.contains(good), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn the_newest_with_all_companions_wins() {
        let all: Vec<String> = ["linux-binary-7.2.9-arm64", "linux-modules-7.2.9-arm64", "linux-binary-7.2.13-arm64", "linux-binary-7.2.13-arm64-16k"]
            .map(str::to_owned)
            .to_vec();
        let regex = Regex::new(r"^(?:linux-binary-(7\..*)-arm64)$").unwrap();
        // 7.2.13 is newer, but its modules are missing.
        assert_eq!(newest(&all, &regex, &["linux-modules-$1-arm64"]).unwrap(), ["linux-binary-7.2.9-arm64", "linux-modules-7.2.9-arm64"]);
        assert_eq!(newest(&all, &regex, &[]).unwrap(), ["linux-binary-7.2.13-arm64"]);
        assert_eq!(newest(&all, &regex, &["no-$1"]), None);
    }

    #[test]
    fn whole_files_replace_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/file");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

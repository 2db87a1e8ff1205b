//! The artifact cache: one directory per recipe and key, complete or absent.
//!
//! Invariant: a directory below `artifacts/` is whole. It is filled elsewhere on the same file system and renamed in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::fetch::hex;
use crate::project::{Project, create_dir};

/// Finished artifacts of one recipe that are kept: switching between branches should not rebuild everything.
const KEEP: usize = 4;

/// Collects everything that an artifact depends on.
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// An empty key; the version changes when the meaning of keys does.
    #[must_use]
    pub fn new() -> Self {
        let mut key = Self(Sha256::new());
        key.add("format", b"1");
        key
    }

    /// Adds one labelled value. Lengths are part of it, so that neighbours cannot be confused.
    pub fn add(&mut self, label: &str, value: &[u8]) {
        for part in [label.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Adds a file, or all files of a directory, by relative name, content and whether it is executable.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn add_path(&mut self, root: &Path, relative: &Path) -> Result<()> {
        let path = root.join(relative);
        let meta = fs::metadata(&path).with_context(|| format!("cannot read {}, an input of a recipe", path.display()))?;
        if meta.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path)
                .with_context(|| format!("cannot list {}", path.display()))?
                .collect::<std::io::Result<Vec<_>>>()?
                .into_iter()
                .map(|e| e.file_name())
                .collect();
            names.sort();
            for name in names {
                self.add_path(root, &relative.join(name))?;
            }
        } else {
            use std::os::unix::fs::PermissionsExt;
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            self.add("path", relative.to_string_lossy().as_bytes());
            self.add("executable", &[u8::from(meta.permissions().mode() & 0o100 != 0)]);
            self.add("content", &bytes);
        }
        Ok(())
    }

    /// The key: 20 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())[..20].to_owned()
    }
}

/// Where the artifact of `name` with `key` lies or will lie.
#[must_use]
pub fn artifact_dir(project: &Project, name: &str, key: &str) -> PathBuf {
    project.artifacts().join(format!("{name}-{key}"))
}

/// An artifact being made: two directories that vanish unless it is published.
pub struct Draft {
    temporary: tempfile::TempDir,
    target: PathBuf,
}

impl Draft {
    /// Starts one.
    ///
    /// # Errors
    /// When directories cannot be created.
    pub fn new(project: &Project, name: &str, key: &str) -> Result<Self> {
        create_dir(&project.building())?;
        create_dir(&project.artifacts())?;
        let temporary = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(project.building())
            .with_context(|| format!("cannot create a directory in {}", project.building().display()))?;
        let draft = Self { temporary, target: artifact_dir(project, name, key) };
        create_dir(&draft.out())?;
        create_dir(&draft.work())?;
        Ok(draft)
    }

    /// What becomes the artifact.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.temporary.path().join("out")
    }

    /// Scratch space.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.temporary.path().join("work")
    }

    /// Renames the outputs into place; returns where they are.
    ///
    /// # Errors
    /// When the rename fails.
    pub fn publish(self) -> Result<PathBuf> {
        if self.target.exists() {
            // Only a half-removed one can be here: a whole one would have been used.
            fs::remove_dir_all(&self.target).with_context(|| format!("cannot remove {}", self.target.display()))?;
        }
        fs::rename(self.out(), &self.target)
            .with_context(|| format!("cannot rename {} to {}", self.out().display(), self.target.display()))?;
        Ok(self.target.clone())
    }
}

/// Removes older artifacts of `name`, all but the newest few and `keep`.
pub fn prune(project: &Project, name: &str, keep: &Path) {
    let Ok(entries) = fs::read_dir(project.artifacts()) else { return };
    let mut old: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|e| {
            let file_name = e.file_name();
            let Some(key) = file_name.to_str().and_then(|n| n.strip_prefix(name)).and_then(|n| n.strip_prefix('-')) else { return false };
            key.len() == 20 && key.bytes().all(|b| b.is_ascii_hexdigit()) && e.path() != keep
        })
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    old.sort();
    for (_, path) in old.iter().rev().skip(KEEP - 1) {
        fs::remove_dir_all(path).ok();
    }
}

/// Held while the cache is written; a second run waits for the first.
pub struct CacheLock(#[expect(dead_code, reason = "the lock is released when the file is closed")] File);

/// Takes the lock; `waiting` is called once if someone else has it.
///
/// # Errors
/// When the lock file cannot be made.
pub fn lock(project: &Project, waiting: impl FnOnce(&Path)) -> Result<CacheLock> {
    create_dir(&project.cache)?;
    let path = project.cache.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            waiting(&path);
            while matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                crate::interrupt::check()?;
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        }
        Err(fs::TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
    // Whoever holds the lock may sweep up after builds that were killed.
    if let Ok(entries) = fs::read_dir(project.building()) {
        for entry in entries.filter_map(Result::ok) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    Ok(CacheLock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(dir: &Path) -> Project {
        Project { root: dir.join("repo"), cache: dir.join("cache") }
    }

    fn key_of(root: &Path, paths: &[&str]) -> String {
        let mut key = KeyBuilder::new();
        for path in paths {
            key.add_path(root, Path::new(path)).unwrap();
        }
        key.finish()
    }

    #[test]
    fn a_key_changes_with_content_name_and_mode_of_any_input() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in/a/file");
        create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "one").unwrap();
        let first = key_of(dir.path(), &["in"]);
        assert_eq!(first, key_of(dir.path(), &["in"]), "same inputs, same key");
        fs::write(&file, "two").unwrap();
        let second = key_of(dir.path(), &["in"]);
        assert_ne!(first, second);
        fs::rename(&file, dir.path().join("in/a/other")).unwrap();
        let third = key_of(dir.path(), &["in"]);
        assert_ne!(second, third);
        fs::set_permissions(dir.path().join("in/a/other"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(third, key_of(dir.path(), &["in"]));
    }

    #[test]
    fn neighbouring_values_are_not_confused() {
        let key = |parts: &[(&str, &str)]| {
            let mut key = KeyBuilder::new();
            parts.iter().for_each(|(l, v)| key.add(l, v.as_bytes()));
            key.finish()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "")]), key(&[("a", "bc")]));
    }

    #[test]
    fn an_unpublished_draft_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let draft = Draft::new(&project, "tfa", "00").unwrap();
        fs::write(draft.out().join("bl1.bin"), "half").unwrap();
        drop(draft);
        assert!(!artifact_dir(&project, "tfa", "00").exists());
        assert_eq!(fs::read_dir(project.building()).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_of_a_killed_build_are_swept_by_the_next_lock() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let draft = Draft::new(&project, "tfa", "00").unwrap();
        fs::write(draft.work().join("x.o"), "half").unwrap();
        std::mem::forget(draft);
        let _lock = lock(&project, |_| panic!("nobody else holds it")).unwrap();
        assert_eq!(fs::read_dir(project.building()).unwrap().count(), 0);
    }

    #[test]
    fn publishing_replaces_and_pruning_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let mut last = PathBuf::new();
        for n in 0..8 {
            let draft = Draft::new(&project, "tfa", &format!("{n:020x}")).unwrap();
            fs::write(draft.out().join("file"), "x").unwrap();
            last = draft.publish().unwrap();
        }
        let other = Draft::new(&project, "tfa-debug", &format!("{:020x}", 1)).unwrap().publish().unwrap();
        prune(&project, "tfa", &last);
        assert!(last.join("file").is_file());
        assert!(other.is_dir(), "another recipe whose name starts alike is left alone");
        assert_eq!(fs::read_dir(project.artifacts()).unwrap().count(), KEEP + 1);
    }

    #[test]
    fn a_second_run_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let first = lock(&project, |_| ()).unwrap();
        let waited = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| lock(&project, |_| waited.store(true, Ordering::SeqCst)).map(drop));
            while !waited.load(Ordering::SeqCst) {
                assert!(!second.is_finished(), "the second got the lock while the first held it");
                std::thread::yield_now();
            }
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    use std::sync::atomic::{AtomicBool, Ordering};
}

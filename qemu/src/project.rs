//! Where things lie: the repository, the cache outside it, and the directories for what we build and run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The clone that this tool was built from, and the cache.
#[derive(Clone, Debug)]
pub struct Project {
    /// Root of the repository.
    pub root: PathBuf,
    /// The cache: downloads, artifacts, logs. Shared by all clones of this user.
    pub cache: PathBuf,
}

impl Project {
    /// Finds the repository from the place of this crate (cargo sets it at build time, and at run time under `cargo run`)
    /// and the cache from the environment.
    ///
    /// # Errors
    /// When there is no home directory for the cache.
    pub fn find() -> Result<Self> {
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir.parent().context("the xtask crate has no parent directory")?.to_path_buf();
        if !root.join("Cargo.toml").is_file() {
            bail!("{} is not the repository: it has no Cargo.toml. Run `cargo xtask` inside the clone.", root.display());
        }
        Ok(Self { root, cache: cache_dir(|name| std::env::var_os(name).map(PathBuf::from))? })
    }

    /// Downloaded files, named as in the archive.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.cache.join("downloads")
    }

    /// Finished artifacts, one directory each.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.cache.join("artifacts")
    }

    /// Builds in progress; anything left here is garbage.
    #[must_use]
    pub fn building(&self) -> PathBuf {
        self.cache.join("building")
    }

    /// Logs of builds, kept also after a failure.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.cache.join("logs")
    }

    /// Everything of this clone that is made at run time: images, consoles, variable store.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// Cargo's target directory for the bare-metal crates: apart from the host's, so that neither invalidates the other.
    #[must_use]
    pub fn bare_metal_target(&self) -> PathBuf {
        self.root.join("target").join("aarch64")
    }
}

/// The cache directory: `$BULKHEAD_CACHE`, else `$XDG_CACHE_HOME/bulkhead`, else `~/.cache/bulkhead`.
fn cache_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|p| !p.as_os_str().is_empty());
    let dir = if let Some(dir) = set("BULKHEAD_CACHE") {
        dir
    } else if let Some(xdg) = set("XDG_CACHE_HOME") {
        xdg.join("bulkhead")
    } else if let Some(home) = set("HOME") {
        home.join(".cache").join("bulkhead")
    } else {
        bail!("no place for the cache: none of BULKHEAD_CACHE, XDG_CACHE_HOME and HOME is set. Set BULKHEAD_CACHE to a directory.");
    };
    std::path::absolute(&dir).with_context(|| format!("cannot make {} absolute", dir.display()))
}

/// Creates `dir` and its parents.
///
/// # Errors
/// When that fails; the message names the directory.
pub fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create the directory {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<PathBuf> {
        cache_dir(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v)))
    }

    #[test]
    fn cache_prefers_our_own_variable_then_xdg_then_home() {
        let all = [("BULKHEAD_CACHE", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(&all).unwrap(), Path::new("/c"));
        assert_eq!(with(&all[1..]).unwrap(), Path::new("/x/bulkhead"));
        assert_eq!(with(&all[2..]).unwrap(), Path::new("/h/.cache/bulkhead"));
    }

    #[test]
    fn empty_variables_count_as_unset() {
        assert_eq!(with(&[("BULKHEAD_CACHE", ""), ("HOME", "/h")]).unwrap(), Path::new("/h/.cache/bulkhead"));
    }

    #[test]
    fn no_place_for_the_cache_says_what_to_set() {
        assert!(with(&[]).unwrap_err().to_string().contains("Set BULKHEAD_CACHE"));
    }
}

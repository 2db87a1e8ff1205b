//! Recipes: how one component of the chain is made from pinned sources and our own files.
//!
//! A recipe says what goes in (downloads, our own files, other recipes) and how its outputs are made. [`crate::graph`]
//! does the rest: it fetches what is missing, computes the cache key, builds in a temporary directory, checks that every
//! output is there, and renames the directory into the cache when it is whole. A recipe whose key is in the cache is not
//! run again; an interrupted or failed one leaves nothing behind but its log.
//!
//! # To add a component
//!
//! 1. Write `src/build/<name>.rs` with a unit struct (or one with fields for variants) that implements [`Recipe`], and
//!    list it in `build::all()`. Recipes are cheap values: make them afresh whenever one is needed.
//! 2. `sources()` names downloads: [`Source::Tarball`] for a pinned source archive, [`Source::Debs`] for arm64 packages.
//! 3. `inputs()` names our own files or directories, relative to the repository (directories count with all files in
//!    them). They are part of the cache key: name all that the build reads.
//! 4. `text()` is `include_str!("<name>.rs")`: a changed recipe builds anew. Anything else that changes the result (a
//!    variant's name, for example) goes to `parameters()`.
//! 5. `build()` gets a [`Job`]: unpack with [`Job::unpack`], run commands with [`Job::run`] (log, progress, Ctrl-C and
//!    the log's tail in the error are handled there), write results into [`Job::out`]. [`Job::work`] is scratch space that
//!    vanishes. Never write anywhere else. Use [`Job::cores`] for `-j`.
//! 6. `outputs()` lists the files, relative to the artifact's directory, that must exist in the end.
//!
//! Consumers get the artifact's directory from [`crate::graph::Artifacts::dir`], or a file of it from `Artifacts::file`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::fetch::DebSet;
use crate::progress::Task;
use crate::project::Project;

/// A pinned source archive in the pool of the Debian mirror that this machine is configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tarball {
    /// Path below the mirror's `pool/main/`.
    pub pool_path: &'static str,
    /// Expected SHA-256, lower-case hex.
    pub sha256: &'static str,
    /// Bytes, for the progress bar.
    pub size: u64,
}

impl Tarball {
    /// File name of the archive, also its name in the cache.
    #[must_use]
    pub fn file_name(&self) -> &'static str {
        self.pool_path.rsplit('/').next().unwrap_or(self.pool_path)
    }
}

/// Something to download.
#[derive(Clone, Debug)]
pub enum Source {
    /// A pinned source archive; reach it in the build by [`Job::unpack`].
    Tarball(Tarball),
    /// arm64 packages from a suite; reach them in the build by [`Job::debs`].
    Debs(DebSet),
}

/// How one component is made. See the module's documentation.
pub trait Recipe: Send + Sync {
    /// Short name, unique; also the name of the artifact's directory in the cache (lower case, digits, hyphens).
    fn name(&self) -> String;
    /// One line for progress and `doctor`.
    fn summary(&self) -> String;
    /// The recipe's own source text: `include_str!` of its file.
    fn text(&self) -> &'static str;
    /// Whatever else tells this variant from another one of the same text.
    fn parameters(&self) -> String {
        String::new()
    }
    /// Downloads.
    fn sources(&self) -> Vec<Source> {
        Vec::new()
    }
    /// Our own files and directories that the build reads, relative to the repository.
    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }
    /// Recipes whose artifacts the build reads; their keys are part of this one's.
    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        Vec::new()
    }
    /// Files that the build must leave in [`Job::out`].
    fn outputs(&self) -> Vec<&'static str>;
    /// Makes the outputs.
    ///
    /// # Errors
    /// When a step fails; the artifact is then thrown away.
    fn build(&self, job: &Job<'_>) -> Result<()>;
}

/// One running build: its directories, its downloads, its log.
pub struct Job<'a> {
    /// The repository and the cache.
    pub project: &'a Project,
    /// Name of the recipe, for messages.
    pub name: String,
    /// Directory that becomes the artifact.
    pub out_dir: PathBuf,
    /// Scratch directory, removed afterwards.
    pub work_dir: PathBuf,
    /// Log of every command that the job runs.
    pub log: PathBuf,
    /// Progress line.
    pub task: &'a Task,
    /// Where each downloaded tarball lies.
    pub tarballs: Vec<(Tarball, PathBuf)>,
    /// Where each downloaded package lies.
    pub debs: Vec<crate::fetch::Deb>,
    /// Artifacts of the recipes that this one needs.
    pub artifacts: Vec<(String, PathBuf)>,
}

impl Job<'_> {
    /// Directory whose content becomes the artifact.
    #[must_use]
    pub fn out(&self) -> &Path {
        &self.out_dir
    }

    /// Scratch directory.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work_dir
    }

    /// `path` of our repository as an absolute path (for the files named by [`Recipe::inputs`]).
    #[must_use]
    pub fn repo(&self, path: &str) -> PathBuf {
        self.project.root.join(path)
    }

    /// How many parallel jobs a build tool should use.
    #[must_use]
    pub fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Directory of the artifact of a recipe named in [`Recipe::needs`].
    ///
    /// # Errors
    /// When the recipe did not name it.
    pub fn artifact(&self, name: &str) -> Result<&Path> {
        self.artifacts.iter().find(|(n, _)| n == name).map(|(_, dir)| dir.as_path()).with_context(|| {
            format!("recipe {} reads the artifact of '{name}' but does not name it in needs()", self.name)
        })
    }

    /// Packages downloaded for this recipe.
    #[must_use]
    pub fn debs(&self) -> &[crate::fetch::Deb] {
        &self.debs
    }

    /// Unpacks `tarball` into `work()/<dir>`, without the archive's own top directory, and returns that path.
    ///
    /// # Errors
    /// When the recipe did not name the tarball among its sources, or tar fails.
    pub fn unpack(&self, tarball: &Tarball, dir: &str) -> Result<PathBuf> {
        let Some((_, path)) = self.tarballs.iter().find(|(t, _)| t == tarball) else {
            bail!("recipe {} unpacks {} but does not name it in sources()", self.name, tarball.file_name());
        };
        let target = self.work_dir.join(dir);
        std::fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
        self.run(
            &format!("unpacking {}", tarball.file_name()),
            Command::new("tar").arg("-xf").arg(path).arg("--strip-components=1").arg("-C").arg(&target),
        )?;
        Ok(target)
    }

    /// Unpacks a Debian package's files into `target` (created if missing).
    ///
    /// # Errors
    /// When dpkg-deb fails.
    pub fn unpack_deb(&self, deb: &crate::fetch::Deb, target: &Path) -> Result<()> {
        std::fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
        self.run(
            &format!("unpacking {} {}", deb.name, deb.version),
            Command::new("dpkg-deb").arg("-x").arg(&deb.path).arg(target),
        )
    }

    /// Runs a command of this build: standard output and error go to the log, the progress line shows `stage`. The system's
    /// own tools come first on PATH, so that a build finds Debian's python3 and not a private one.
    ///
    /// # Errors
    /// When it cannot start, fails, or the tool is interrupted; the message carries the tail of the log and its path.
    pub fn run(&self, stage: &str, command: &mut Command) -> Result<()> {
        self.task.stage(stage);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/usr/bin:/bin:{path}"));
        for variable in ["MAKEFLAGS", "MFLAGS", "CFLAGS", "LDFLAGS", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(variable);
        }
        exec::run_logged(command, &self.log, self.task).with_context(|| format!("{}: {stage}", self.name))
    }
}

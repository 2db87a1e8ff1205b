//! The build graph: brings the artifacts of a set of recipes up to date, in parallel where that helps.
//!
//! Each missing artifact has a thread: it waits for the recipes that it needs, downloads, then builds. Two downloads and
//! two builds run at a time; a build itself uses all cores, and a second one fills the gaps of the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{self, Draft, KeyBuilder};
use crate::fetch;
use crate::interrupt;
use crate::progress::Progress;
use crate::project::{Project, create_dir};
use crate::recipe::{Job, Recipe, Source};

/// Downloads, and builds, at a time.
const PARALLEL: usize = 2;

/// Where the artifacts of the recipes asked for (and of those they need) lie.
#[derive(Debug, Default)]
pub struct Artifacts(BTreeMap<String, PathBuf>);

impl Artifacts {
    /// Directory of the artifact of recipe `name`.
    ///
    /// # Errors
    /// When the recipe was not among those brought up to date.
    pub fn dir(&self, name: &str) -> Result<&Path> {
        self.0.get(name).map(PathBuf::as_path).with_context(|| format!("the artifact '{name}' was not asked for"))
    }

    /// All artifacts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(n, d)| (n.as_str(), d.as_path()))
    }

    /// A file of the artifact of recipe `name`.
    ///
    /// # Errors
    /// When the recipe was not among those brought up to date, or has no such file.
    pub fn file(&self, name: &str, file: &str) -> Result<PathBuf> {
        let path = self.dir(name)?.join(file);
        if !path.is_file() {
            bail!("the artifact '{name}' has no file {file} ({})", path.display());
        }
        Ok(path)
    }
}

/// One recipe with all that is known about it.
struct Node {
    recipe: Box<dyn Recipe>,
    name: String,
    needs: Vec<String>,
    key: String,
    dir: PathBuf,
}

impl Node {
    fn is_whole(&self) -> bool {
        self.dir.is_dir() && self.recipe.outputs().iter().all(|o| self.dir.join(o).exists())
    }
}

/// Brings `recipes` and all that they need up to date.
///
/// # Errors
/// When a download or a build fails.
pub fn ensure(project: &Project, progress: &Progress, recipes: Vec<Box<dyn Recipe>>) -> Result<Artifacts> {
    let start = Instant::now();
    let mut nodes = Vec::new();
    for recipe in recipes {
        add(project, progress, &mut nodes, recipe)?;
    }
    if nodes.iter().any(|n| !n.is_whole()) {
        let _lock = cache::lock(project, |path| {
            progress.line(&format!("  another `cargo xtask` fills the cache ({} is locked); waiting for it", path.display()));
        })?;
        let missing: Vec<&Node> = nodes.iter().filter(|n| !n.is_whole()).collect();
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|n| n.name.as_str()).collect();
            progress.line(&format!("Building {} (once; kept in {})", names.join(", "), project.cache.display()));
            build_all(project, progress, &nodes, &missing)?;
            progress.line(&format!("Built {} in {}", names.join(", "), crate::progress::elapsed(start)));
        }
    }
    Ok(Artifacts(nodes.into_iter().map(|n| (n.name, n.dir)).collect()))
}

/// Downloads all that `recipes` and those that they need build from; with `update`, asks for newer packages first.
///
/// # Errors
/// When a download fails.
pub fn fetch_all(project: &Project, progress: &Progress, recipes: &[Box<dyn Recipe>], update: bool) -> Result<()> {
    for recipe in recipes {
        fetch_all(project, progress, &recipe.needs(), update)?;
        for source in recipe.sources() {
            let task = progress.task(&recipe.name());
            match source {
                Source::Tarball(tarball) => fetch::tarball(project, &tarball, &task).map(drop),
                Source::Debs(set) => {
                    let updated = if update { fetch::update(project, &set, &task) } else { Ok(()) };
                    updated.and_then(|()| fetch::debs(project, &set, &task)).map(drop)
                }
            }
            .with_context(|| format!("cannot fetch the sources of {}", recipe.name()))?;
        }
    }
    Ok(())
}

/// Adds `recipe` after all that it needs, each once.
fn add(project: &Project, progress: &Progress, nodes: &mut Vec<Node>, recipe: Box<dyn Recipe>) -> Result<()> {
    let name = recipe.name();
    if nodes.iter().any(|n| n.name == name) {
        return Ok(());
    }
    let mut key = KeyBuilder::new();
    key.add("name", name.as_bytes());
    key.add("text", recipe.text().as_bytes());
    key.add("parameters", recipe.parameters().as_bytes());
    let mut needs = Vec::new();
    for need in recipe.needs() {
        let need_name = need.name();
        add(project, progress, nodes, need)?;
        let node = nodes.iter().find(|n| n.name == need_name).with_context(|| format!("{name} and {need_name} need each other"))?;
        key.add("need", node.key.as_bytes());
        needs.push(need_name);
    }
    for source in recipe.sources() {
        match source {
            Source::Tarball(tarball) => key.add("tarball", tarball.sha256.as_bytes()),
            Source::Debs(set) => {
                let task = progress.task_silent(&name);
                for checksum in fetch::checksums(project, &set, &task)? {
                    key.add("deb", checksum.as_bytes());
                }
            }
        }
    }
    for input in recipe.inputs() {
        key.add_path(&project.root, &input).with_context(|| format!("recipe {name}"))?;
    }
    let key = key.finish();
    let dir = cache::artifact_dir(project, &name, &key);
    nodes.push(Node { recipe, name, needs, key, dir });
    Ok(())
}

/// What the threads share.
struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    done: Vec<String>,
    failed: bool,
    downloading: usize,
    building: usize,
}

impl Board {
    /// Waits until `ready` (which may take what it waits for); fails when another thread failed.
    fn wait(&self, mut ready: impl FnMut(&mut State) -> bool) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.failed {
                bail!(Cancelled);
            }
            if ready(&mut state) {
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// Marks the errors of threads that stopped because another one failed.
#[derive(Debug)]
struct Cancelled;

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not built because another build failed")
    }
}

impl std::error::Error for Cancelled {}

fn build_all(project: &Project, progress: &Progress, nodes: &[Node], missing: &[&Node]) -> Result<()> {
    let present = nodes.iter().filter(|n| n.is_whole()).map(|n| n.name.clone()).collect();
    let board = Board { state: Mutex::new(State { done: present, ..State::default() }), changed: Condvar::new() };
    let mut errors = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = missing
            .iter()
            .map(|node| {
                let board = &board;
                scope.spawn(move || {
                    let result = make(project, progress, nodes, node, board);
                    board.change(|s| match &result {
                        Ok(()) => s.done.push(node.name.clone()),
                        Err(_) => s.failed = true,
                    });
                    result
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(e)) if e.is::<Cancelled>() => {}
                Ok(Err(e)) => errors.push(e),
                Err(_) => errors.push(anyhow!("a build thread panicked")),
            }
        }
    });
    interrupt::check()?;
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => bail!("{}", errors.iter().map(|e| format!("{e:#}")).collect::<Vec<_>>().join("\n\n")),
    }
}

/// Downloads, builds and publishes one artifact.
fn make(project: &Project, progress: &Progress, nodes: &[Node], node: &Node, board: &Board) -> Result<()> {
    // Downloads first: they need nothing of other recipes.
    let sources = node.recipe.sources();
    let mut tarballs = Vec::new();
    let mut debs = Vec::new();
    let task;
    if sources.is_empty() {
        board.wait(|s| node.needs.iter().all(|n| s.done.contains(n)))?;
        task = progress.task(&node.name);
    } else {
        board.wait(|s| take(&mut s.downloading))?;
        task = progress.task(&node.name);
        let result = (|| -> Result<()> {
            for source in &sources {
                match source {
                    Source::Tarball(t) => tarballs.push((*t, fetch::tarball(project, t, &task)?)),
                    Source::Debs(set) => debs.extend(fetch::debs(project, set, &task)?),
                }
            }
            Ok(())
        })();
        board.change(|s| s.downloading -= 1);
        result.with_context(|| format!("cannot fetch the sources of {}", node.name))?;
        board.wait(|s| node.needs.iter().all(|n| s.done.contains(n)))?;
    }
    task.stage("waiting for its turn");
    board.wait(|s| take(&mut s.building))?;
    let result = build(project, nodes, node, &task, tarballs, debs);
    board.change(|s| s.building -= 1);
    result.with_context(|| format!("cannot build {}", node.name))?;
    task.done("built");
    Ok(())
}

fn take(permits: &mut usize) -> bool {
    let free = *permits < PARALLEL;
    if free {
        *permits += 1;
    }
    free
}

fn build(
    project: &Project,
    nodes: &[Node],
    node: &Node,
    task: &crate::progress::Task,
    tarballs: Vec<(crate::recipe::Tarball, PathBuf)>,
    debs: Vec<fetch::Deb>,
) -> Result<()> {
    let draft = Draft::new(project, &node.name, &node.key)?;
    create_dir(&project.logs())?;
    let log = project.logs().join(format!("{}.log", node.name));
    std::fs::remove_file(&log).ok();
    let artifacts = nodes.iter().filter(|n| node.needs.contains(&n.name)).map(|n| (n.name.clone(), n.dir.clone())).collect();
    let job = Job {
        project,
        name: node.name.clone(),
        out_dir: draft.out(),
        work_dir: draft.work(),
        log: log.clone(),
        task,
        tarballs,
        debs,
        artifacts,
    };
    node.recipe.build(&job)?;
    interrupt::check()?;
    for output in node.recipe.outputs() {
        if !draft.out().join(output).exists() {
            bail!("the build ended without an error but did not make {output}; its log: {}", log.display());
        }
    }
    let dir = draft.publish()?;
    cache::prune(project, &node.name, &dir);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::Arc;

    /// A recipe that copies its input and counts its builds.
    #[derive(Clone, Default)]
    struct Copy {
        name: &'static str,
        needs: Vec<Copy>,
        builds: Arc<AtomicUsize>,
        fail: bool,
        forget: bool,
    }

    impl Recipe for Copy {
        fn name(&self) -> String {
            self.name.into()
        }
        fn summary(&self) -> String {
            "copies".into()
        }
        fn text(&self) -> &'static str {
            "text"
        }
        fn inputs(&self) -> Vec<PathBuf> {
            vec!["input".into()]
        }
        fn needs(&self) -> Vec<Box<dyn Recipe>> {
            self.needs.iter().map(|n| Box::new(n.clone()) as Box<dyn Recipe>).collect()
        }
        fn outputs(&self) -> Vec<&'static str> {
            vec!["output"]
        }
        fn build(&self, job: &Job<'_>) -> Result<()> {
            self.builds.fetch_add(1, Ordering::SeqCst);
            for need in &self.needs {
                assert!(job.artifact(need.name)?.join("output").is_file());
            }
            std::fs::write(job.out().join("half"), "x")?;
            if self.fail {
                bail!("it fails");
            }
            if !self.forget {
                std::fs::copy(job.repo("input"), job.out().join("output"))?;
            }
            Ok(())
        }
    }

    fn project(dir: &Path) -> Project {
        let project = Project { root: dir.join("repo"), cache: dir.join("cache") };
        create_dir(&project.root).unwrap();
        std::fs::write(project.root.join("input"), "one").unwrap();
        project
    }

    fn run(project: &Project, recipe: &Copy) -> Result<Artifacts> {
        ensure(project, &Progress::quiet(), vec![Box::new(recipe.clone())])
    }

    #[test]
    fn an_artifact_is_built_once_and_again_when_its_input_changes() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let recipe = Copy { name: "copy", ..Copy::default() };
        run(&project, &recipe).unwrap();
        let file = run(&project, &recipe).unwrap().file("copy", "output").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one");
        assert_eq!(recipe.builds.load(Ordering::SeqCst), 1);
        std::fs::write(project.root.join("input"), "two").unwrap();
        let file = run(&project, &recipe).unwrap().file("copy", "output").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "two");
        assert_eq!(recipe.builds.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn needs_are_built_first_and_change_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let inner = Copy { name: "inner", ..Copy::default() };
        let outer = Copy { name: "outer", needs: vec![inner.clone()], ..Copy::default() };
        let artifacts = run(&project, &outer).unwrap();
        assert!(artifacts.file("inner", "output").is_ok());
        let alone = Copy { name: "outer", builds: Arc::clone(&outer.builds), ..Copy::default() };
        run(&project, &alone).unwrap();
        assert_eq!(outer.builds.load(Ordering::SeqCst), 2, "without its need it has another key");
        assert_eq!(inner.builds.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_build_leaves_no_artifact_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let bad = Copy { name: "copy", fail: true, ..Copy::default() };
        let error = format!("{:#}", run(&project, &bad).unwrap_err());
        assert!(error.contains("cannot build copy") && error.contains("it fails"), "{error}");
        assert_eq!(std::fs::read_dir(project.artifacts()).unwrap().count(), 0);
        let good = Copy { fail: false, ..bad.clone() };
        run(&project, &good).unwrap();
        assert_eq!(bad.builds.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_build_that_forgets_an_output_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let error = format!("{:#}", run(&project, &Copy { name: "copy", forget: true, ..Copy::default() }).unwrap_err());
        assert!(error.contains("did not make output"), "{error}");
    }

    #[test]
    fn a_failing_need_is_the_only_error() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let inner = Copy { name: "inner", fail: true, ..Copy::default() };
        let outer = Copy { name: "outer", needs: vec![inner], ..Copy::default() };
        let error = format!("{:#}", run(&project, &outer).unwrap_err());
        assert!(error.contains("cannot build inner") && !error.contains("outer"), "{error}");
        assert_eq!(outer.builds.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_damaged_artifact_is_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let recipe = Copy { name: "copy", ..Copy::default() };
        let file = run(&project, &recipe).unwrap().file("copy", "output").unwrap();
        std::fs::remove_file(&file).unwrap();
        run(&project, &recipe).unwrap();
        assert!(file.is_file());
        assert_eq!(recipe.builds.load(Ordering::SeqCst), 2);
    }
}

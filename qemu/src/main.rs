//! The host tool behind `cargo xtask`: fetches, builds, packs, boots and tests the whole chain.

mod apt;
mod bench;
mod bridge;
mod build;
mod cache;
mod chain;
mod cli;
mod conformance;
mod console;
mod demonstration;
mod doctor;
mod exec;
mod fetch;
mod fip;
mod graph;
mod interrupt;
mod limits;
mod machine;
mod package;
mod progress;
mod project;
mod recipe;
mod reset;
mod run;
mod system;
mod tests;
mod third_party;
mod toolchain;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Cmd};
use progress::Progress;
use project::Project;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(_) if interrupt::requested() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    interrupt::install()?;
    let project = Project::find()?;
    let progress = Progress::new();
    match cli.command {
        Cmd::Run(options) => {
            doctor::ensure(&project, &progress, false)?;
            if options.batch && options.third_party() {
                if !run::batch(&project, &progress, &options)? {
                    return Ok(ExitCode::FAILURE);
                }
            } else if options.batch {
                if !tests::target::demonstration(&project, &progress, &options)? {
                    return Ok(ExitCode::FAILURE);
                }
            } else {
                run::interactive(&project, &progress, &options)?;
            }
        }
        Cmd::Test(options) => {
            if !options.host {
                doctor::ensure(&project, &progress, false)?;
            }
            if !tests::run(&project, &progress, &options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Cmd::Conformance(options) => {
            doctor::ensure(&project, &progress, false)?;
            if !conformance::command(&project, &progress, &options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Cmd::Bench(options) => {
            doctor::ensure(&project, &progress, false)?;
            if !bench::run(&project, &progress, &options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Cmd::CompareBridge { json } => {
            doctor::ensure(&project, &progress, false)?;
            if !bench::compare::run(&project, &progress, json.as_deref())? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Cmd::Build { list: true, .. } => {
            for recipe in build::all() {
                println!("{:<14} {}", recipe.name(), recipe.summary());
            }
        }
        Cmd::Build { names, .. } => {
            doctor::ensure(&project, &progress, false)?;
            build_components(&project, &progress, &names)?;
        }
        Cmd::Fetch { update } => {
            doctor::ensure(&project, &progress, false)?;
            graph::fetch_all(&project, &progress, &build::all(), update)?;
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            exec::output(std::process::Command::new(cargo).current_dir(&project.root).args(["fetch", "--locked"])).context("cannot fetch the crates")?;
        }
        Cmd::Clean { cache } => clean(&project, cache)?,
        Cmd::Doctor { install } => doctor::run(&project, &progress, install)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `build`: the components, then (unless only some were asked for) the SPMC with its limits.
fn build_components(project: &Project, progress: &Progress, names: &[String]) -> Result<()> {
    let mut recipes = build::all();
    for name in names {
        recipes.iter().find(|r| r.name() == *name).with_context(|| format!("no component is called {name}: see --list"))?;
    }
    recipes.retain(|r| names.is_empty() || names.contains(&r.name()));
    let artifacts = graph::ensure(project, progress, recipes)?;
    for (name, dir) in artifacts.iter() {
        println!("{name}: {}", dir.display());
    }
    if names.is_empty() {
        let spmc = limits::build_spmc(project, progress, toolchain::Profile::Release)?;
        limits::check(&spmc)?;
    }
    Ok(())
}

/// `clean`: what this clone built and ran, and with `cache` also what all clones share.
fn clean(project: &Project, cache: bool) -> Result<()> {
    let mut directories = vec![project.out(), project.bare_metal_target()];
    if cache {
        directories.push(project.cache.clone());
    }
    for dir in directories {
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => println!("removed {}", dir.display()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot remove {}", dir.display())),
        }
    }
    Ok(())
}

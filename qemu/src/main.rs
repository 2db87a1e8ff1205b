//! The host tool behind `cargo xtask`: fetches, builds, packs, boots and tests the whole chain.

mod apt;
mod build;
mod cache;
mod cli;
mod exec;
mod fetch;
mod fip;
mod graph;
mod interrupt;
mod package;
mod progress;
mod project;
mod recipe;
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
        Cmd::Fetch { update: _ } => {}
        Cmd::Build { list: true, .. } => {
            for recipe in build::all() {
                println!("{:<14} {}", recipe.name(), recipe.summary());
            }
        }
        Cmd::Build { names, .. } => {
            let mut recipes = build::all();
            for name in &names {
                recipes.iter().find(|r| r.name() == *name).with_context(|| format!("no component is called {name}: see --list"))?;
            }
            recipes.retain(|r| names.is_empty() || names.contains(&r.name()));
            let artifacts = graph::ensure(&project, &progress, recipes)?;
            for (name, dir) in artifacts.iter() {
                println!("{name}: {}", dir.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! The command line of `cargo xtask`.

use clap::{Parser, Subcommand};

/// Fetches, builds, packs, boots and tests the whole chain.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Cmd,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Cmd {
    /// Download all sources and packages.
    Fetch {
        /// Ask the archive for newer versions of the packages (source archives are pinned).
        #[arg(long)]
        update: bool,
    },
    /// Build everything; or only the named components.
    Build {
        /// Components, by name (see `--list`).
        names: Vec<String>,
        /// List the components.
        #[arg(long)]
        list: bool,
    },
}

//! The command line of `cargo xtask`.

use clap::{Args, Parser, Subcommand};

/// Fetches, builds, packs, boots and tests the whole chain: TF-A, Bulkhead, OP-TEE, StMM, UEFI and Linux.
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
    /// Host tests, then boots on QEMU; closes with 'N passed, N failed'.
    Test(TestOptions),
    /// Build everything (or only the named components) and print the SPMC's size against its limits.
    Build {
        /// Components, by name (see `--list`).
        names: Vec<String>,
        /// List the components.
        #[arg(long)]
        list: bool,
    },
    /// Download all sources and packages, so that everything else works without a network.
    Fetch {
        /// Ask the archive for newer versions of the packages (source archives are pinned).
        #[arg(long)]
        update: bool,
    },
    /// Remove what was built and run in this clone: images, consoles, the variable store.
    Clean {
        /// The cache of downloads and built components too, which all clones share.
        #[arg(long)]
        cache: bool,
    },
    /// Say what this machine lacks and the one command that installs it. As root, install it.
    Doctor {
        /// Install it through sudo.
        #[arg(long)]
        install: bool,
    },
}

/// What `test` runs.
#[derive(Debug, Args)]
pub struct TestOptions {
    /// Only tests on the host: seconds, no QEMU.
    #[arg(long, conflicts_with = "target")]
    pub host: bool,
    /// Only boots on QEMU.
    #[arg(long)]
    pub target: bool,
    /// Only host tests whose name contains this text, and boots whose name does.
    pub filter: Option<String>,
}

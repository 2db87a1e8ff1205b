//! The command line of `cargo xtask`.

use std::ffi::OsString;
use std::path::PathBuf;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use regex::Regex;

use crate::chain::{Changes, Firmware};
use crate::machine::Limits;
use crate::third_party::argument::SpArgument;
use crate::third_party::batch::Rules;

/// Heading of options for somebody else's software.
const SOMEBODY_ELSES: &str = "Somebody else's suite";

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
    /// Build what is missing and boot to a Linux shell with OP-TEE and secure UEFI variables.
    ///
    /// Linux's console is this terminal; the secure world's log is a file, whose path is printed first. Leave by `poweroff`,
    /// Ctrl-A X or Ctrl-C.
    Run(RunOptions),
    /// Host tests, then boots on QEMU; closes with 'N passed, N failed'.
    Test(TestOptions),
    /// Check an SPMC against the FF-A specification, call by call: from the normal world and from partitions at S-EL1 and S-EL0.
    ///
    /// Takes Bulkhead unless told otherwise. Prints each check as it ends, then passed, failed and skipped checks by group.
    Conformance(ConformanceOptions),
    /// Count the instructions that each operation executes, by who executes them, on the SPMC as shipped.
    Bench(BenchOptions),
    /// Run the same variable workload on the bridge (StMM inside OP-TEE) and on Bulkhead, with one StMM image, and print side by side what each operation
    /// costs.
    ///
    /// Counts executed instructions, exactly, by who executes them: the normal world's firmware, EL3, OP-TEE or the SPMC, StMM. With
    /// U-Boot on both, and with UEFI on Bulkhead. StMM keeps variables in memory each time, as it has no flash in OP-TEE.
    CompareBridge {
        /// Write the figures to this file, one object for each operation.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
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

/// What `conformance` checks, and of which SPMC.
#[derive(Debug, Default, Args)]
pub struct ConformanceOptions {
    /// Only checks with this text in `group.name instance version`, or those of the boot with this name.
    pub filter: Option<String>,
    /// List the checks and what each expects, without booting.
    #[arg(long)]
    pub list: bool,
    /// Write the results to this file, one object for each check.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the results to this file as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Check this SPMC: an image (flat or ELF) that TF-A loads and enters at 0xe100000.
    #[arg(long, value_name = "FILE")]
    pub bl32: Option<PathBuf>,
    /// The SPMC's manifest (DTS or DTB), for the partitions of manifests/tests/spmc.dts.
    #[arg(long, value_name = "FILE")]
    pub spmc_manifest: Option<PathBuf>,
    /// Check this repository's SPMC without its fast path: the results have to be the same.
    #[arg(long, conflicts_with = "bl32")]
    pub no_fast_path: bool,
    /// Show that the checks can fail: boot deliberately wrong builds of the SPMC, one mistake each, and say which check catches
    /// it. The filter selects mutants by name or group; with --list they are only listed.
    #[arg(long, conflicts_with_all = ["json", "junit", "bl32", "spmc_manifest"])]
    pub mutants: bool,
}

/// What `bench` reports.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Only operations whose name or instance contains this text; or one of the parts `single`, `real` (OP-TEE and StMM), `growth` (more
    /// partitions and cores), `cores` (what they cost each other) and `rates` (by wall time), of which only that is booted.
    /// The first part that has something with the text is the last that is booted.
    pub filter: Option<String>,
    /// Write the figures to this file, one object for each operation.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Compare with the figures that an earlier --json wrote: SPMC instructions then, and now in percent of them. Without it,
    /// another SPMC's figures are compared with Bulkhead's.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Say for each operation which functions of the SPMC execute how many of its instructions.
    #[arg(long)]
    pub profile: bool,
    /// Measure this SPMC in place of Bulkhead: an image (flat or ELF) that TF-A loads and enters at 0xe100000. What it does not do is
    /// named, and left out.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["profile", "write_docs"])]
    pub bl32: Option<PathBuf>,
    /// The SPMC's manifest (DTS or DTB), for the partitions of manifests/tests/bench.dts.
    #[arg(long, value_name = "FILE", conflicts_with = "write_docs")]
    pub spmc_manifest: Option<PathBuf>,
    /// Record the figures: write docs/performance.json, with which `cargo xtask test` compares, and docs/performance.md.
    #[arg(long, conflicts_with = "filter")]
    pub write_docs: bool,
}

/// How `run` boots.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Cores.
    #[arg(long, default_value_t = crate::machine::CPUS, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: u32,
    /// The normal world's memory, in MiB.
    #[arg(long, default_value_t = crate::machine::MEMORY, value_parser = clap::value_parser!(u32).range(1024..=3072))]
    pub memory: u32,
    /// Bulkhead optimised, as shipped (the default).
    #[arg(long, conflicts_with = "debug")]
    pub release: bool,
    /// Bulkhead with debug assertions.
    #[arg(long)]
    pub debug: bool,
    /// Forget the variable store of earlier runs.
    #[arg(long)]
    pub fresh: bool,
    /// Wait for a debugger; prints the command that attaches one with symbols and stops at S-EL2.
    #[arg(long)]
    pub gdb: bool,
    /// The secure console on a socket too; prints the command that shows it on another terminal.
    #[arg(long)]
    pub secure_console: bool,
    /// Without a terminal. Of the chain itself: the demonstration, one line per step, exit status 0 only if all hold. Of
    /// somebody else's software (any of the options below): until --until, or until it powers off.
    #[arg(long)]
    pub batch: bool,
    /// With --batch: all of xtest.
    #[arg(long, requires = "batch")]
    pub full: bool,
    /// What the normal world starts with: EDK2's UEFI, or U-Boot, whose UEFI variables StMM keeps as well.
    #[arg(long, value_enum, default_value_t = Firmware::Uefi, conflicts_with_all = ["bl33", "sp"])]
    pub firmware: Firmware,
    /// With --batch: only the demonstration's boots with this text in their names (first, second, peers, contained, neighbours), and those that must
    /// come before them; or u-boot, its own firmware; or bridge, the comparison with StMM inside OP-TEE.
    #[arg(long, requires = "batch", value_name = "NAME", conflicts_with = "firmware")]
    pub scenario: Option<String>,
    /// With --scenario: how long a step lasts that goes on for some time.
    #[arg(long, requires = "scenario", value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=60))]
    pub minutes: Option<u32>,
    /// Leave a partition out (op-tee or stmm; with U-Boot, mm-gateway).
    #[arg(long, value_name = "PARTITION", conflicts_with = "sp")]
    pub without: Vec<String>,
    /// A second OP-TEE beside the first, with which it shares out the memory (`partitions/second-os`).
    #[arg(long, conflicts_with_all = ["firmware", "sp", "batch"])]
    pub second_op_tee: bool,
    /// Start the normal world with this image (flat or ELF) at 0x60000000 and NS-EL2 in place of UEFI, without a disk.
    #[arg(long, value_name = "IMAGE", visible_alias = "normal-world")]
    pub bl33: Option<PathBuf>,
    /// A partition in place of OP-TEE and StMM; repeat it for more, up to 8. IMAGE is flat, an ELF file or a package, which has
    /// its manifest inside; MANIFEST is an FF-A partition manifest, source or compiled. Without an address: where the manifest
    /// says, else at a free place.
    #[arg(long, value_name = "IMAGE:MANIFEST[@LOAD_ADDRESS]", help_heading = SOMEBODY_ELSES)]
    pub sp: Vec<SpArgument>,
    /// An SPMC in place of Bulkhead: flat or ELF, at 0x0e100000.
    #[arg(long, value_name = "IMAGE", help_heading = SOMEBODY_ELSES)]
    pub spmc: Option<PathBuf>,
    /// The SPMC's manifest, source or compiled, in place of one made for the partitions.
    #[arg(long, value_name = "FILE", help_heading = SOMEBODY_ELSES)]
    pub spmc_manifest: Option<PathBuf>,
    /// With --batch: a line on either console that ends the run, with exit status 0.
    #[arg(long, value_name = "REGEX", requires = "batch", help_heading = SOMEBODY_ELSES)]
    pub until: Option<Regex>,
    /// With --batch: seconds until the run fails [default: 900].
    #[arg(long, value_name = "S", requires = "batch", value_parser = seconds, help_heading = SOMEBODY_ELSES)]
    pub timeout: Option<Duration>,
    /// With --batch: reset the machine when neither console has said anything for so many seconds, as a watchdog would.
    #[arg(long, value_name = "S", requires = "batch", value_parser = seconds, help_heading = SOMEBODY_ELSES)]
    pub reset_on_silence: Option<Duration>,
    /// Further arguments for QEMU.
    #[arg(last = true)]
    pub qemu: Vec<OsString>,
}

/// A time in seconds, `90` or `2.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| *seconds > 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "expected seconds, more than 0".to_owned())
}

impl RunOptions {
    /// What of the chain is left out or replaced.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            memory: self.memory,
            without: self.without.clone(),
            second_optee: self.second_op_tee,
            firmware: self.firmware,
            normal_world: self.bl33.clone(),
            ..Changes::default()
        }
    }

    /// Whether somebody else's software is to run, or a run of its kind is asked for.
    #[must_use]
    pub fn third_party(&self) -> bool {
        let parts = !self.sp.is_empty() || self.spmc.is_some() || self.spmc_manifest.is_some();
        parts || self.until.is_some() || self.timeout.is_some() || self.reset_on_silence.is_some()
    }

    /// When a batch of somebody else's is over.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            until: self.until.clone(),
            timeout: self.timeout.unwrap_or(Limits::default().total),
            reset_on_silence: self.reset_on_silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<RunOptions, String> {
        match Cli::try_parse_from(["cargo xtask", "run"].iter().chain(arguments)) {
            Ok(Cli { command: Cmd::Run(options) }) => Ok(options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn somebody_elses_software_is_told_from_the_chain() {
        assert!(!run(&["--batch", "--full"]).unwrap().third_party());
        assert!(!run(&["--normal-world", "x"]).unwrap().third_party(), "the older name of --bl33");
        let options = run(&["--bl33", "b", "--sp", "i:m@0x1000", "--sp", "p", "--batch", "--until", "^DONE", "--timeout", "2.5", "--", "-d", "int"]).unwrap();
        let rules = options.rules();
        assert!(options.third_party() && rules.until.unwrap().is_match("DONE") && rules.reset_on_silence.is_none());
        assert_eq!((rules.timeout, options.sp.len(), options.qemu.len()), (Duration::from_millis(2500), 2, 2));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        for (arguments, name) in [
            (["--batch", "--until", "("].as_slice(), "--until"),
            (&["--batch", "--timeout", "0"], "--timeout"),
            (&["--batch", "--timeout", "soon"], "--timeout"),
            (&["--reset-on-silence", "5"], "--batch"),
            (&["--sp", "i:m", "--without", "stmm"], "--without"),
            (&["--sp", ":m"], "--sp"),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(error.contains(name), "{arguments:?}: {error}");
        }
    }
}

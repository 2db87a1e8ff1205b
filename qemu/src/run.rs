//! `cargo xtask run`: the chain, or somebody else's software, at a terminal or without one.

use anyhow::Result;

use crate::chain::Chain;
use crate::cli::RunOptions;
use crate::limits;
use crate::machine::{Machine, Terminal};
use crate::progress::Progress;
use crate::project::Project;
use crate::system;
use crate::third_party::{self, Parts};
use crate::toolchain::Profile;

/// Name of the system whose variable store `run` keeps.
const SYSTEM: &str = "run";

/// Builds what `options` describe.
fn prepare(project: &Project, progress: &Progress, options: &RunOptions) -> Result<(Chain, Machine)> {
    let profile = if options.debug { Profile::Debug } else { Profile::Release };
    let name = if options.third_party() { third_party::SYSTEM } else { SYSTEM };
    let (chain, assembled, machine) = third_party::prepare(project, progress, profile, options.changes(), &Parts::of(options), options.cpus, name)?;
    if options.fresh {
        system::forget_variables(&assembled)?;
    }
    Ok((chain, Machine { extra: options.qemu.clone(), ..machine }))
}

/// Boots somebody else's software without a terminal, to the end that `options` name. Returns whether it ended well.
///
/// # Errors
/// When a part cannot be built or read, or QEMU fails.
pub fn batch(project: &Project, progress: &Progress, options: &RunOptions) -> Result<bool> {
    let (_, machine) = prepare(project, progress, options)?;
    third_party::batch::run(&machine, &options.rules())
}

/// Boots the chain with the normal world's console on this terminal, until it powers off.
///
/// # Errors
/// When a part cannot be built or QEMU fails.
pub fn interactive(project: &Project, progress: &Progress, options: &RunOptions) -> Result<()> {
    let (chain, machine) = prepare(project, progress, options)?;
    println!("secure world's log: {}", machine.secure_log().display());
    if options.gdb {
        println!(
            "waiting for a debugger; in another terminal, to stop at Bulkhead's first instruction:\n    \
             gdb-multiarch {} -ex 'target remote 127.0.0.1:1234' -ex 'thbreak *{:#x}' -ex continue",
            chain.spmc().elf.display(),
            limits::BASE
        );
    }
    println!("leave: poweroff, Ctrl-A X or Ctrl-C");
    machine.interact(Terminal { show_secure_socket: options.secure_console, gdb: options.gdb })
}

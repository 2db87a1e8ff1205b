//! `cargo xtask run`: the chain at a terminal.

use anyhow::Result;

use crate::chain::{Chain, StmmImage};
use crate::cli::RunOptions;
use crate::limits;
use crate::machine::{Machine, Terminal};
use crate::progress::Progress;
use crate::project::Project;
use crate::system;
use crate::toolchain::Profile;

/// Name of the system whose variable store `run` keeps.
const SYSTEM: &str = "run";

/// Boots the chain with the normal world's console on this terminal, until it powers off.
///
/// # Errors
/// When a part cannot be built or QEMU fails.
pub fn interactive(project: &Project, progress: &Progress, options: &RunOptions) -> Result<()> {
    let profile = if options.debug { Profile::Debug } else { Profile::Release };
    let chain = Chain::build(project, progress, profile, options.changes())?;
    let assembled = chain.assemble(project, SYSTEM, StmmImage::Plain)?;
    if options.fresh {
        system::forget_variables(&assembled)?;
    }
    let machine = Machine { cpus: options.cpus, extra: options.qemu.clone(), ..chain.machine(&assembled)? };
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

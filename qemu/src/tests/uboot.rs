//! U-Boot in UEFI's place: a person's commands at its prompt, typed by a program. UEFI variables go through the MM gateway to
//! StMM, into the store that UEFI uses on other boots; Linux starts from U-Boot; and what U-Boot says when something is missing.

use std::time::Duration;

use anyhow::{Context, Result};
use regex::Regex;

use super::Tally;
use super::boot::{self, Expected};
use crate::chain::{Chain, Changes, Firmware, GATEWAY, OPTEE, OpteeKind, STMM, StmmImage};
use crate::console::Port;
use crate::demonstration::item;
use crate::machine::{CPUS, Limits, Machine, Run};
use crate::progress::Progress;
use crate::project::Project;
use crate::system::{self, Edit, SPMC};
use crate::toolchain::Profile;

/// Name for reports and filters, and of the system.
pub const NAME: &str = "u-boot";
/// From power-on to U-Boot's countdown.
const BOOT: Duration = Duration::from_secs(120);
/// For an answer to a command.
const ANSWER: Duration = Duration::from_secs(60);

/// How the machine is made.
pub struct Settings {
    /// Cores.
    pub cpus: u32,
    /// Which build of the SPMC.
    pub profile: Profile,
    /// The normal world's memory, in MiB.
    pub memory: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cpus: CPUS, profile: Profile::Release, memory: crate::machine::MEMORY }
    }
}

/// A command at the prompt and a pattern that its answer has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Name of the test; without one it only prepares what follows.
    name: &'static str,
    typed: &'static str,
    says: &'static str,
}

pub(super) const fn line(name: &'static str, typed: &'static str, says: &'static str) -> Line {
    Line { name, typed, says }
}

pub(super) const fn first(typed: &'static str) -> Line {
    line("", typed, "")
}

/// The pattern of an answer that says nothing: the command did what it was told.
pub(super) const SILENCE: &str = r"^\s*$";
/// What U-Boot says when StMM's verdict on an update is no.
pub(super) const REFUSED: &str = r"Failed to set EFI variable \(validation failed\)";

/// One boot, all with the same flash.
struct Boot {
    name: &'static str,
    shows: &'static str,
    firmware: Firmware,
    without: &'static [&'static str],
    optee: OpteeKind,
    stmm: StmmImage,
    /// Changes of manifests.
    edits: &'static [Edit],
    /// Patterns that must appear on the secure console.
    secure: &'static [&'static str],
    how: How,
}

/// What most boots are.
const PLAIN: Boot = Boot {
    name: "",
    shows: "",
    firmware: Firmware::UBoot,
    without: &[],
    optee: OpteeKind::Plain,
    stmm: StmmImage::Plain,
    edits: &[],
    secure: &[],
    how: How::Prompt(Vec::new),
};

enum How {
    /// Commands at U-Boot's prompt.
    Prompt(fn() -> Vec<Line>),
    /// The same, then a command that starts Linux; steps of Linux, and those that must be seen.
    PromptThenLinux { lines: fn() -> Vec<Line>, start: &'static str, linux: &'static str, expects: &'static [&'static str] },
    /// Nobody types: steps of the loader and of Linux (none for Linux if it is not started), and those that must be seen.
    Alone { uefi: &'static str, linux: &'static str, expects: &'static [&'static str] },
}

/// Loads an update from the disk and enrols it: what follows the four bytes of attributes that efivarfs wants.
macro_rules! enrol {
    ($name:expr, $file:literal, $variable:literal, $append:literal, $says:expr) => {
        [
            first(concat!("load virtio 0 ${kernel_addr_r} ", $file)),
            first("setexpr address ${kernel_addr_r} + 4; setexpr size ${filesize} - 4"),
            line($name, concat!("setenv -e -nv -bs -rt -at ", $append, "-i ${address}:${size} ", $variable), $says),
        ]
    };
}
pub(super) use enrol;

/// The demonstration's vendor, as in `partitions/linux/loader/src/variables.rs`.
macro_rules! vendor {
    () => {
        "-guid 6f1e5c0a-3b7d-4c52-9a84-2d1f0b97c6e5 "
    };
}

const BOOTS: &[Boot] = &[
    Boot {
        name: "u-boot.uefi-before",
        shows: "UEFI writes variables, for U-Boot to find",
        firmware: Firmware::Uefi,
        how: How::Alone { uefi: "variables power-off", linux: "", expects: &["uefi.create", "uefi.append"] },
        ..PLAIN
    },
    Boot {
        name: "u-boot.prompt",
        shows: "variables and secure boot's keys at U-Boot's prompt",
        how: How::Prompt(prompt),
        ..PLAIN
    },
    Boot {
        name: "u-boot.linux",
        shows: "everything kept over power-off; secure boot; Linux from U-Boot",
        how: How::Alone { uefi: "u-boot secure-boot full", linux: "discovery u-boot", expects: &["uefi.from-u-boot", "uefi.unsigned-refused", "uefi.full", "linux.u-boot.kept", "linux.u-boot.tee"] },
        ..PLAIN
    },
    Boot {
        name: "u-boot.uefi-after",
        shows: "UEFI finds U-Boot's variables, and its keys enforced; a partition with OP-TEE's UUID is not taken for OP-TEE",
        firmware: Firmware::Uefi,
        optee: OpteeKind::Foreign,
        how: How::Alone {
            uefi: "u-boot secure-boot optee-foreign power-off",
            linux: "",
            expects: &["uefi.from-u-boot", "uefi.u-boot-gone", "uefi.user-mode", "uefi.signed-boots", "uefi.unsigned-refused", "uefi.optee-foreign"],
        },
        ..PLAIN
    },
    Boot {
        name: "u-boot.no-gateway",
        shows: "no MM gateway: U-Boot says so and goes on",
        without: &[GATEWAY],
        how: How::Prompt(|| vec![
            line("no-gateway.says-so", "printenv -e", "MM SP discovery failure[^=]*Cannot initialize UEFI sub-system"),
            line("no-gateway.goes-on", "version", r"U-Boot 2025\.01"),
        ]),
        ..PLAIN
    },
    Boot {
        name: "u-boot.no-op-tee",
        shows: "no OP-TEE: variables are none of its business",
        without: &[OPTEE],
        how: How::Prompt(|| vec![
            line("no-op-tee.read", concat!("printenv -e ", vendor!(), "UBootKept"), r"NV\|BS\|RT, DataSize = 0x1f"),
            line("no-op-tee.write", concat!("setenv -e -nv -bs -rt ", vendor!(), "UBootKept \"written without OP-TEE\""), SILENCE),
        ]),
        ..PLAIN
    },
    Boot {
        name: "u-boot.uefi-no-op-tee",
        shows: "no OP-TEE: UEFI's programs and Linux's that use it are told so; variables are none of its business",
        firmware: Firmware::Uefi,
        without: &[OPTEE],
        how: How::Alone {
            uefi: "optee-absent",
            linux: "no-op-tee",
            expects: &["uefi.optee-absent", "linux.no-op-tee.variables", "linux.no-op-tee.client", "linux.no-op-tee.ta"],
        },
        ..PLAIN
    },
    Boot {
        name: "u-boot.no-stmm",
        shows: "no StMM: the gateway answers for it; OP-TEE serves Linux, and its TA for variables says what is missing",
        without: &[STMM],
        secure: &["mm-gateway: there is no StMM .*: every request will be answered with NOT_SUPPORTED"],
        how: How::PromptThenLinux {
            lines: no_stmm,
            start: "booti 48000000 50000000:${filesize} ${fdtcontroladdr}",
            linux: "no-stmm",
            expects: &["linux.no-stmm.bus", "linux.no-stmm.op-tee-serves", "linux.no-stmm.ta"],
        },
        ..PLAIN
    },
    Boot {
        name: "u-boot.stmm-ends",
        shows: "StMM goes wild on a request through the gateway and is ended; U-Boot says what that means and goes on",
        stmm: StmmImage::Wild,
        secure: &["mm-gateway: StMM, partition 0x8002, has ended: no variables until the next reset"],
        how: How::Prompt(|| WILD.to_vec()),
        ..PLAIN
    },
    Boot {
        name: "u-boot.misplaced-buffer",
        shows: "the gateway's manifest has another buffer than U-Boot and StMM",
        edits: &[Edit { of: GATEWAY, from: "bulkhead,mm-buffer = <0x0 0x5ff00000 0x10000>;", to: "bulkhead,mm-buffer = <0x0 0x5fe00000 0x10000>;" }],
        secure: &[r"mm-gateway: StMM, partition 0x8002, refuses the message at 0x5fe00000 \(.*\): is bulkhead,mm-buffer the ns_comm_buffer of its manifest\?"],
        how: How::Prompt(|| vec![
            // EFI_ACCESS_DENIED.
            line("misplaced-buffer.says-so", "printenv -e", "mm_communicate failed!\\s+Error: Cannot initialize UEFI sub-system, r = 15"),
            line("misplaced-buffer.goes-on", "version", r"U-Boot 2025\.01"),
        ]),
        ..PLAIN
    },
    Boot {
        name: "u-boot.no-spmc",
        shows: "EL3 does not start an SPMC of a version that it does not know; U-Boot says so and goes on",
        edits: &[Edit { of: SPMC, from: "maj_ver = <0x1>;", to: "maj_ver = <0x2>;" }],
        how: How::Prompt(|| vec![
            line("no-spmc.says-so", "printenv -e", r"Unable to open OP-TEE session \(err=-19\)\s+mm_communicate failed!\s+Error: Cannot initialize UEFI sub-system, r = 3"),
            line("no-spmc.goes-on", "version", r"U-Boot 2025\.01"),
        ]),
        ..PLAIN
    },
];

/// What a person tries who has U-Boot with StMM for the first time: the bus, variables of each kind, then keys.
fn prompt() -> Vec<Line> {
    let mut lines = vec![
        line("u-boot.bus", "armffa devlist", "arm_ffa"),
        line("u-boot.discovery", "armffa getpart 33d532ed-e699-0942-c09c-a798d9cd722d", "id = 8003 , exec_ctxt 1 , properties"),
        line("u-boot.wrong-uuid", "armffa getpart 00112233-4455-6677-8899-aabbccddeeff", r"Unrecognized UUID\s+Failure in querying partition"),
        // Its payload is no offset in the buffer.
        line("u-boot.misplaced-message", "armffa ping 0x8003", r"SP response:\s+\[LSB\]\s+fffffffffffffffe"),
        line("u-boot.32-bit-message", "smc 0x8400006f 0x8003", r"Res:  0x84000070 0x80030000 0x0 0xffffffff$"),
        line("u-boot.no-room-for-a-header", "smc 0xc400006f 0x8003 0 0xffe9", r"Res:  0xc4000070 0x80030000 0x0 0xfffffffffffffffe"),
        // Of 2^63 bytes: StMM refuses it.
        first("mw.q 5ff00000 0 3; mw.q 5ff00010 8000000000000000"),
        line("u-boot.message-too-long", "smc 0xc400006f 0x8003 0 0", r"Res:  0xc4000070 0x80030000 0x0 0xfffffffffffffff[de]"),
        line("u-boot.buffer-is-reserved", "load virtio 0 5ff00000 linux.efi", "would overwrite reserved memory"),
        line("u-boot.setup-mode", "printenv -e SetupMode", r"BS\|RT\|RO, DataSize = 0x1\s+00000000: 01"),
        line("u-boot.kept-from-uefi", concat!("printenv -e ", vendor!(), "UefiKept"), r"NV\|BS\|RT, DataSize = 0x1d\s+00000000: [0-9a-f ]+  written by UEFI,"),
        line("u-boot.volatile-gone", concat!("printenv -e ", vendor!(), "UefiVolatile"), "not defined"),
        line("u-boot.create", concat!("setenv -e -nv -bs -rt ", vendor!(), "UBootKept \"written by U-Boot\""), SILENCE),
        line("u-boot.append", concat!("setenv -e -nv -bs -rt -a ", vendor!(), "UBootKept \", and appended\""), SILENCE),
        line("u-boot.read", concat!("printenv -e ", vendor!(), "UBootKept"), r"NV\|BS\|RT, DataSize = 0x1f"),
        line("u-boot.attributes", concat!("setenv -e -nv -bs ", vendor!(), "UBootKept \"other attributes\""), "Failed to set EFI variable"),
        // More than StMM takes, and more than the buffer has.
        line("u-boot.variable-too-long", concat!("setenv -e -nv -bs -rt ", vendor!(), "-i ${kernel_addr_r}:8000 UBootLong"), r"Failed to set EFI variable \(invalid parameter\)"),
        line("u-boot.message-exceeds-buffer", concat!("setenv -e -nv -bs -rt ", vendor!(), "-i ${kernel_addr_r}:20000 UBootLong"), r"Failed to set EFI variable \(invalid parameter\)"),
        line("u-boot.volatile", concat!("setenv -e -bs -rt ", vendor!(), "UBootVolatile \"until power-off\""), SILENCE),
        first(concat!("setenv -e -nv -bs -rt ", vendor!(), "UBootGone \"not for long\"")),
        line("u-boot.delete", concat!("setenv -e ", vendor!(), "UBootGone"), SILENCE),
        line("u-boot.deleted", concat!("printenv -e ", vendor!(), "UBootGone"), "not defined"),
        line("u-boot.query", "efidebug query -bs -rt -nv", r"Max storage size 26\d{4}\s+Remaining storage size \d+\s+Max variable size \d{5}"),
        // Made by U-Boot's boot manager for the disk, kept in the store.
        line("u-boot.boot-options", "efidebug boot dump", r"label: virtio 0\s+file_path: /VenHw"),
        first("setenv bootargs hello; load virtio 0 ${kernel_addr_r} hello-unsigned.efi"),
        line("u-boot.unsigned-before-keys", "bootefi ${kernel_addr_r}", "hello from an EFI binary"),
    ];
    lines.extend(enrol!("u-boot.enrol-db", "db", "db", "", SILENCE));
    lines.extend(enrol!("u-boot.enrol-kek", "KEK", "KEK", "", SILENCE));
    lines.extend(enrol!("u-boot.enrol-pk", "PK", "PK", "", SILENCE));
    lines.push(line("u-boot.user-mode", "printenv -e SetupMode; printenv -e SecureBoot", r"(?s)SetupMode:.*00000000: 00.*SecureBoot:.*00000000: 01"));
    lines.extend(enrol!("u-boot.signed-update", "db-append", "db", "-a ", SILENCE));
    lines.extend([
        // 28 KiB each, until the store is full. The last word is U-Boot's for EFI_OUT_OF_RESOURCES.
        first("setexpr n 0"),
        line(
            "u-boot.full",
            concat!("while setenv -e -nv -bs -rt ", vendor!(), "-i ${kernel_addr_r}:7000 UBootFill${n}; do setexpr n ${n} + 1; done"),
            r"^## Failed to set EFI variable \(out of memory\)$",
        ),
        line("u-boot.full-unharmed", concat!("printenv -e ", vendor!(), "UBootKept"), r"NV\|BS\|RT, DataSize = 0x1f"),
        first("setexpr n 0"),
        line(
            "u-boot.full-emptied",
            concat!("while setenv -e ", vendor!(), "UBootFill${n}; do setexpr n ${n} + 1; done; echo ${n} deleted"),
            r"^## Failed to set EFI variable \(not found\)\s+[1-9a-f] deleted$",
        ),
        // The first write that makes room: it takes the most heap that StMM ever needs.
        line("u-boot.writable-again", concat!("setenv -e -nv -bs -rt ", vendor!(), "-i ${kernel_addr_r}:7000 UBootFill0"), SILENCE),
        line("u-boot.emptied-again", concat!("setenv -e ", vendor!(), "UBootFill0"), SILENCE),
    ]);
    for update in [
        enrol!("u-boot.unsigned-update", "db-unsigned", "db", "", REFUSED),
        enrol!("u-boot.rogue-update", "db-rogue", "db", "", REFUSED),
        enrol!("u-boot.replayed-update", "db", "db", "", REFUSED),
    ] {
        lines.extend(update);
    }
    lines.extend([
        first("load virtio 0 ${kernel_addr_r} hello-unsigned.efi"),
        line("u-boot.unsigned-refused", "bootefi ${kernel_addr_r}", "Image not authenticated"),
        first("load virtio 0 ${kernel_addr_r} hello-rogue.efi"),
        line("u-boot.rogue-refused", "bootefi ${kernel_addr_r}", "Image not authenticated"),
        first("load virtio 0 ${kernel_addr_r} hello-signed.efi"),
        line("u-boot.signed-boots", "bootefi ${kernel_addr_r}", "hello from an EFI binary"),
    ]);
    lines.extend(BUSY);
    lines
}

/// What a person is told who has no StMM, and how Linux starts all the same.
fn no_stmm() -> Vec<Line> {
    vec![
        line("no-stmm.not-supported", "smc 0xc400006f 0x8003", r"Res:  0xc4000070 0x80030000 0x0 0xffffffffffffffff"),
        // EFI_DEVICE_ERROR.
        line("no-stmm.says-so", "printenv -e", "mm_communicate failed!\\s+Error: Cannot initialize UEFI sub-system, r = 7"),
        // Nobody knows the keys.
        first("load virtio 0 ${kernel_addr_r} hello-unsigned.efi"),
        line("no-stmm.boots-nothing", "bootefi ${kernel_addr_r}", "Cannot initialize UEFI sub-system, r = 7"),
        line("no-stmm.goes-on", "version", r"U-Boot 2025\.01"),
        // Linux as booti starts it, without UEFI's services: nobody asks for keys, nor for variables.
        first("load virtio 0 48000000 linux.efi"),
        first("load virtio 0 50000000 initrd.img"),
        first("setenv bootargs console=ttyAMA0 loglevel=5 rdinit=/bulkhead/init"),
    ]
}

/// Another core sends StMM one message after the other, to the end: what U-Boot asks meanwhile has to wait, and must come through.
const BUSY: [Line; 5] = [
    // The message, at the buffer's end: for a handler that does not exist, 8 bytes. StMM answers it as it is.
    first("mw.q 5ff0f000 0 4; mw.q 5ff0f010 8"),
    // x20 = FFA_MSG_SEND_DIRECT_REQ; x0 = x20, w1 = StMM, x2 = 0.
    first("mw.l 41000000 d2800df4; mw.l 41000004 f2b88014; mw.l 41000008 aa1403e0; mw.l 4100000c 52900041; mw.l 41000010 aa1f03e2"),
    // x3 = the message; SMC; again.
    first("mw.l 41000014 d29e0003; mw.l 41000018 f2abfe03; mw.l 4100001c d4000003; mw.l 41000020 17fffffa"),
    // CPU_ON.
    line("busy.other-core", "smc 0xc4000003 1 0x41000000 0", "^Res:  0x0 "),
    line(
        "busy.served",
        concat!("for turn in 1 2 3 4 5 6 7 8; do printenv -e ", vendor!(), "UBootKept; done"),
        r"^(UBootKept:\s+6f1e5c0a[^\n]*\n[^\n]*DataSize = 0x1f\s+00000000:[^\n]*\n\s+00000010:[^\n]*\s*){8}$",
    ),
];

/// A message to the test driver in StMM (partitions/stmm), as `partitions/linux/loader/src/wild.rs` has it: a write to OP-TEE.
const WILD: &[Line] = &[
    line("stmm-ends.before", "efidebug query -bs -rt -nv", "Max storage size"),
    first("mw.q 5ff00000 4b6e42f85a7d3c10; mw.q 5ff00008 c73af1d6049b218e; mw.q 5ff00010 20"),
    first("mw.q 5ff00018 1; mw.q 5ff00020 e604000; mw.q 5ff00028 6675; mw.q 5ff00030 0"),
    line("stmm-ends.request", "smc 0xc400006f 0x8003 0 0", r"Res:  0xc4000070 0x80030000 0x0 0xffffffffffffffff"),
    line("stmm-ends.write", concat!("setenv -e -nv -bs -rt ", vendor!(), "UBootAfterwards lost"), "mm_communicate failed!\\s+## Failed to set EFI variable"),
    line("stmm-ends.query", "efidebug query -bs -rt -nv", r"mm_communicate failed!\s+Error: Cannot query UEFI variables, r = 7"),
    // The keys are enrolled, and db cannot be read any more.
    first("setenv bootargs hello; load virtio 0 ${kernel_addr_r} hello-unsigned.efi"),
    line("stmm-ends.unsigned-refused", "bootefi ${kernel_addr_r}", "Image not authenticated"),
    line("stmm-ends.goes-on", "version", r"U-Boot 2025\.01"),
];

/// The boots, in order: later ones find what earlier ones left in the store.
///
/// # Errors
/// When a part cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress, settings: &Settings) -> Result<Tally> {
    let mut tally = Tally::default();
    for (number, one) in BOOTS.iter().enumerate() {
        println!("Boot '{}': {}", one.name, one.shows);
        let without = one.without.iter().map(|&name| name.to_owned()).collect();
        let changes = Changes { memory: settings.memory, without, firmware: one.firmware, optee: one.optee, ..Changes::default() };
        let chain = Chain::build(project, progress, settings.profile, changes)?;
        let mut system = chain.system(project, NAME, one.stmm)?;
        system.judged = one.edits.is_empty();
        system.edit(project, one.edits)?;
        let assembled = system::assemble(project, &system).with_context(|| format!("cannot assemble {}", one.name))?;
        if number == 0 {
            system::forget_variables(&assembled)?;
        }
        let machine = Machine { cpus: settings.cpus, resets: false, ..chain.machine(&assembled)? };
        tally += match &one.how {
            How::Prompt(lines) => dialogue_then(&machine, &expected(one.name, &[], None, one.secure), &lines(), "poweroff")?,
            How::PromptThenLinux { lines, start, linux, expects } => {
                let machine = Machine { fw_cfg: vec![item("steps", linux)], ..machine };
                dialogue_then(&machine, &expected(one.name, expects, Some(&[]), one.secure), &lines(), start)?
            }
            How::Alone { uefi, linux, expects } => {
                let steps = [("uefi", uefi), ("steps", linux)].into_iter().filter(|(_, steps)| !steps.is_empty());
                let machine = Machine { fw_cfg: steps.map(|(name, steps)| item(name, steps)).collect(), ..machine };
                let outside_sum: &[&str] = &["uefi"];
                boot::boot(&machine, &expected(one.name, expects, (!linux.is_empty()).then_some(outside_sum), one.secure))?
            }
        };
    }
    Ok(tally)
}

/// What one of these boots must show: these steps, of which those with such names are not in Linux's sum, and patterns on the secure console.
fn expected(name: &'static str, steps: &'static [&'static str], outside_sum: Option<&'static [&'static str]>, secure: &'static [&'static str]) -> Expected<'static> {
    let limits = Limits { silence: Duration::from_secs(120), total: Duration::from_secs(300) };
    Expected { name, steps, outside_sum, secure, limits }
}

/// A boot to the prompt with a dialogue there, for which the whole boot is one test more.
pub(super) fn dialogue(machine: &Machine, name: &'static str, lines: &[Line]) -> Result<Tally> {
    dialogue_then(machine, &expected(name, &[], None, &[]), lines, "poweroff")
}

/// Boots to the prompt, has the dialogue, then types the command that powers off or starts Linux.
fn dialogue_then(machine: &Machine, expected: &Expected<'_>, lines: &[Line], last: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut run = machine.start()?;
    let outcome = prompt_at(&mut run).and_then(|()| {
        for line in lines {
            let answer = ask(&mut run, line.typed)?;
            let holds = Regex::new(line.says)?.is_match(&answer);
            match (line.name, holds) {
                ("", true) => {}
                ("", false) => anyhow::bail!("`{}` says {answer:?}", line.typed),
                (name, true) => {
                    tally.passed += 1;
                    println!("  PASS {name} `{}`: {}", line.typed, summary(&answer));
                }
                (name, false) => {
                    tally.failed += 1;
                    println!("  FAIL {name} `{}` says {answer:?}, expected {:?}", line.typed, line.says);
                }
            }
        }
        run.send(Port::Normal, &format!("{last}\n"))
    });
    crate::interrupt::check()?;
    match outcome {
        Ok(()) => tally += boot::to_the_end(machine, run, expected)?,
        Err(error) => {
            tally.failed += 1;
            println!("  FAIL boot.{} {error:#}", expected.name);
        }
    }
    Ok(tally)
}

/// Stops U-Boot's countdown.
///
/// # Errors
/// When there is none, or no prompt after it.
pub fn prompt_at(run: &mut Run) -> Result<()> {
    run.expect(Port::Normal, &Regex::new("Hit any key to stop autoboot")?, BOOT)?;
    run.send(Port::Normal, " ")?;
    run.expect(Port::Normal, &Regex::new(r"\n=> ")?, ANSWER)?;
    Ok(())
}

/// Types a command; what U-Boot says up to its next prompt.
fn ask(run: &mut Run, typed: &str) -> Result<String> {
    run.send(Port::Normal, &format!("{typed}\n"))?;
    // The first line is the echo, and the prompt stands at the beginning of a line.
    let found = run.expect(Port::Normal, &Regex::new(r"(?s)[^\n]*\n(?:(.*?)\n)?=> ")?, ANSWER).with_context(|| format!("`{typed}`"))?;
    Ok(found[1].trim().to_owned())
}

/// The end of an answer, for a report.
fn summary(answer: &str) -> String {
    let last = answer.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("done");
    last.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_valid_and_names_are_unique() {
        let mut names: Vec<&str> = BOOTS.iter().map(|boot| boot.name).collect();
        let lines = |boot: &Boot| match boot.how {
            How::Prompt(lines) | How::PromptThenLinux { lines, .. } => Some(lines()),
            How::Alone { .. } => None,
        };
        for lines in BOOTS.iter().filter_map(lines) {
            for line in &lines {
                Regex::new(line.says).unwrap();
                assert!(!line.typed.contains('\n'));
            }
            names.extend(lines.iter().map(|line| line.name).filter(|name| !name.is_empty()));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

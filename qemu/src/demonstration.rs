//! The demonstration as data: which boots of the chain there are, what each of them shows, and what must be seen.
//!
//! Steps of the boot-time loader (`partitions/linux/loader`) and of Linux (`partitions/linux/guest/steps`) are passed to a
//! boot by name; each prints `STEP` lines. To add a step, write it there and name it here.

use std::ffi::OsString;

use crate::chain::StmmImage;

/// One boot.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// Name in reports and for filters.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// The boot that must come before: this one continues with its variable store.
    pub after: Option<&'static str>,
    /// Which StMM.
    pub stmm: StmmImage,
    /// Whether there is a second OP-TEE.
    pub second_optee: bool,
    /// Whether Linux gives UEFI's run-time services virtual addresses (SetVirtualAddressMap).
    pub virtual_addresses: bool,
    /// Steps of the loader, separated by spaces.
    pub uefi: &'static str,
    /// Steps of Linux.
    pub linux: &'static str,
    /// Further steps of Linux with `--full`, in place of those of the same name.
    pub linux_full: &'static str,
    /// Steps without which the boot does not count as complete.
    pub expects: &'static [&'static str],
    /// Patterns that must appear on the secure console.
    pub secure: &'static [&'static str],
    /// Longest silence on both consoles, in seconds.
    pub silence: u64,
    /// Longest time in all, in seconds.
    pub total: u64,
}

/// Steps of Linux that go on for as many seconds as their argument says.
const LASTING: &[&str] = &["peers", "neighbours", "run-time-load"];

/// What software in the machine reads by `name`, as QEMU's fw_cfg has it: `uefi` has steps of the loader, `steps` those of Linux.
#[must_use]
pub fn item(name: &str, value: &str) -> (String, String) {
    (format!("opt/bulkhead/{name}"), value.to_owned())
}

/// Arguments for QEMU by which Linux takes the machine for one of those that do not work without SetVirtualAddressMap. On others it leaves
/// that call out: its kernel has room for UEFI's own addresses.
const VIRTUAL_ADDRESSES: &[&str] = &["-smbios", "type=4,version=eMAG"];

impl Boot {
    /// Further arguments for QEMU.
    #[must_use]
    pub fn qemu(&self) -> Vec<OsString> {
        let arguments = if self.virtual_addresses { VIRTUAL_ADDRESSES } else { &[] };
        arguments.iter().map(OsString::from).collect()
    }

    /// Its steps of Linux, with those that last going on for `minutes`; `None` if none of them does.
    #[must_use]
    pub fn linux_for(&self, minutes: u32) -> Option<String> {
        let step = |word: &str| word.split(':').next().unwrap_or_default().to_owned();
        let words = self.linux.split(' ').map(|word| match step(word) {
            step if LASTING.contains(&step.as_str()) => format!("{step}:{}", minutes * 60),
            _ => word.to_owned(),
        });
        let steps = words.collect::<Vec<_>>().join(" ");
        (steps != self.linux).then_some(steps)
    }
}

/// All of them, in order.
pub const BOOTS: &[Boot] = &[
    Boot {
        name: "first",
        shows: "discovery; UEFI's drivers use OP-TEE, at run time too; variables from UEFI and Linux; a full store; keys enrolled; secure memory unreadable",
        after: None,
        stmm: StmmImage::Plain,
        second_optee: false,
        virtual_addresses: false,
        uefi: "discovery setup-mode optee variables refused full",
        linux: "discovery secure-memory run-time variables keys full",
        linux_full: "discovery secure-memory run-time variables keys full",
        expects: &[
            "uefi.discovery",
            "uefi.setup-mode",
            "uefi.optee",
            "uefi.create",
            "uefi.short",
            "uefi.message-too-long",
            "uefi.full",
            "linux.bus.op-tee",
            "linux.bus.stmm",
            "linux.run-time.random",
            "linux.user-mode",
            "linux.full",
        ],
        secure: &[],
        silence: 180,
        total: 900,
    },
    Boot {
        name: "second",
        shows: "everything kept over power-off; secure boot; run-time services at virtual addresses, beside heavy use of OP-TEE; xtest; xtest and variables at once",
        after: Some("first"),
        stmm: StmmImage::Plain,
        second_optee: false,
        virtual_addresses: true,
        uefi: "persistence secure-boot",
        linux: "persistence run-time:virtual run-time-load xtest both",
        linux_full: "persistence run-time:virtual run-time-load xtest:full both",
        expects: &[
            "uefi.kept",
            "uefi.signed-boots",
            "uefi.unsigned-refused",
            "linux.kept",
            "linux.run-time.random",
            "linux.run-time.addresses",
            "linux.run-time-load.calls",
            "linux.run-time-load.busy",
            "linux.secure-boot",
        ],
        secure: &[],
        silence: 300,
        total: 3600,
    },
    Boot {
        name: "peers",
        shows: "OP-TEE and StMM talk: a trusted application and Linux share the variable store, one after the other and at once; StMM is ended while both use it",
        after: None,
        stmm: StmmImage::Wild,
        second_optee: false,
        virtual_addresses: false,
        uefi: "variables",
        linux: "peers",
        linux_full: "peers:60",
        expects: &["uefi.create", "linux.peers.reads-uefi", "linux.peers.writes", "linux.peers.both.ta", "linux.peers.both.linux", "linux.peers.both.kept", "linux.peers.full", "linux.peers.ends-for-ta", "linux.peers.ends-for-linux", "linux.peers.op-tee-serves"],
        secure: &[r"stmm.*write .*at address 0x0*e604000"],
        silence: 180,
        total: 900,
    },
    Boot {
        name: "contained",
        shows: "StMM goes wild and is ended, by name; OP-TEE serves on",
        after: None,
        stmm: StmmImage::Wild,
        second_optee: false,
        virtual_addresses: false,
        uefi: "wild",
        linux: "contained",
        linux_full: "contained",
        expects: &["uefi.wild", "uefi.wild-later", "linux.op-tee-serves", "linux.variables-gone"],
        secure: &[r"stmm.*write .*at address 0x0*e604000"],
        silence: 120,
        total: 600,
    },
    Boot {
        name: "neighbours",
        shows: "two OP-TEEs and StMM, each with its own memory, interrupts and clients, used at once; one is ended and the others go on; in the end so is the one that firmware uses",
        after: None,
        stmm: StmmImage::Plain,
        second_optee: true,
        virtual_addresses: false,
        uefi: "variables",
        linux: "neighbours",
        linux_full: "neighbours:60",
        expects: &[
            "uefi.create",
            "linux.neighbours.bus",
            "linux.neighbours.storage",
            "linux.neighbours.both.first",
            "linux.neighbours.both.second",
            "linux.neighbours.both.variables",
            "linux.neighbours.ended",
            "linux.neighbours.first-serves",
            "linux.neighbours.firmware-is-told",
        ],
        secure: &[r"second-op-tee.*read .*at address 0x0*e604000", r"op-tee.*read .*at address 0x0*eb04000"],
        silence: 180,
        total: 600,
    },
];

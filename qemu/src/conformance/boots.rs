//! The systems in which checks run, as data: partitions and their manifests, who speaks which version, and the groups of checks.

use crate::package::Format;
use crate::toolchain::Crate;

/// One boot.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// Name in reports, and of its directory.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// The manifest of the SPMC that is in this repository, relative to it.
    pub spmc_manifest: &'static str,
    /// The partitions.
    pub partitions: &'static [TestPartition],
    /// Versions that the normal world and the partitions `probe-el1`, `probe-el0`, `victim-el1` and `victim-el0` speak.
    pub speak: [&'static str; 5],
    /// Groups of checks, in the order in which they run.
    pub groups: &'static [&'static str],
    /// Cores of the machine.
    pub cpus: u32,
    /// Longest silence of the machine, in seconds.
    pub silence: u64,
}

impl Boot {
    /// The version that an instance speaks.
    #[must_use]
    pub fn version(&self, instance: &str) -> &'static str {
        match instance {
            "S-EL1" => self.speak[1],
            "S-EL0" => self.speak[2],
            _ => self.speak[0],
        }
    }
}

/// A test partition of a boot.
#[derive(Clone, Copy, Debug)]
pub struct TestPartition {
    /// Its `debug_name`.
    pub name: &'static str,
    /// Its manifest, relative to the repository.
    pub manifest: &'static str,
    /// Its program.
    pub program: Crate,
    /// Where its package is loaded.
    pub load_address: u32,
    /// By which TF-A finds its package.
    pub uuid: &'static str,
    /// Format of its package.
    pub format: Format,
}

/// The normal world's program.
pub const PAYLOAD: Crate = Crate { package: "conformance-payload", binary: "conformance-payload", features: &[], flags: &[] };
const PROBE_EL1: Crate = Crate { package: "conformance-probe", binary: "probe-el1", features: &[], flags: &[] };
const PROBE_EL0: Crate = Crate { package: "conformance-probe", binary: "probe-el0", features: &[], flags: &[] };

/// A test partition; the addresses and UUIDs are also in `tests/conformance/testkit` and the manifests.
const fn partition(name: &'static str, manifest: &'static str, program: Crate, load_address: u32, uuid: &'static str) -> TestPartition {
    TestPartition { name, manifest, program, load_address, uuid, format: Format::Sptool }
}

const fn probe_el1(manifest: &'static str) -> TestPartition {
    partition("probe-el1", manifest, PROBE_EL1, 0x0e60_0000, "b01c4ead-7e57-4011-9233-445566778801")
}

const fn probe_el0(manifest: &'static str) -> TestPartition {
    partition("probe-el0", manifest, PROBE_EL0, 0x0e20_0000, "b01c4ead-7e57-4011-9233-445566778802")
}

const fn victim_el1(manifest: &'static str) -> TestPartition {
    partition("victim-el1", manifest, PROBE_EL1, 0x0e80_0000, "b01c4ead-7e57-4011-9233-445566778803")
}

const fn victim_el0(manifest: &'static str) -> TestPartition {
    partition("victim-el0", manifest, PROBE_EL0, 0x0ea0_0000, "b01c4ead-7e57-4011-9233-445566778804")
}

/// The two partitions that serve in all boots.
pub const EL1: TestPartition = probe_el1("manifests/tests/probe-el1.dts");
/// The one at S-EL0.
pub const EL0: TestPartition = probe_el0("manifests/tests/probe-el0.dts");
const VICTIM_EL1: TestPartition = victim_el1("manifests/tests/victim-el1.dts");
const VICTIM_EL0: TestPartition = victim_el0("manifests/tests/victim-el0.dts");

/// The four test partitions as they should be.
const FOUR: &[TestPartition] = &[EL1, EL0, VICTIM_EL1, VICTIM_EL0];

/// As many as there may be.
const EIGHT: &[TestPartition] = &[
    EL1,
    EL0,
    VICTIM_EL1,
    VICTIM_EL0,
    partition("third-el1", "manifests/tests/third-el1.dts", PROBE_EL1, 0x0e40_0000, "b01c4ead-7e57-4011-9233-445566778805"),
    partition("third-el0", "manifests/tests/third-el0.dts", PROBE_EL0, 0x0e50_0000, "b01c4ead-7e57-4011-9233-445566778806"),
    partition("fourth-el1", "manifests/tests/fourth-el1.dts", PROBE_EL1, 0x0ec0_0000, "b01c4ead-7e57-4011-9233-445566778807"),
    partition("fourth-el0", "manifests/tests/fourth-el0.dts", PROBE_EL0, 0x0ed0_0000, "b01c4ead-7e57-4011-9233-445566778808"),
];

/// What all boots have in common unless they say otherwise.
const PLAIN: Boot = Boot {
    name: "",
    shows: "",
    spmc_manifest: "manifests/tests/spmc.dts",
    partitions: FOUR,
    speak: ["1.2"; 5],
    groups: &[],
    cpus: crate::machine::CPUS,
    silence: 60,
};

/// Groups that are checked at every version.
const VERSION_GROUPS: &[&str] = &[
    "discovery", "buffers", "versions", "codes", "rules", "console", "messages", "requests", "preemption", "memory", "memory-rules",
    "notifications", "bindings", "indirect", "interrupts", "partition-calls", "failure",
];

/// All boots of the suite.
pub const BOOTS: &[Boot] = &[
    Boot {
        name: "calls",
        shows: "every call, from the normal world and from two partitions, on four cores",
        groups: &[
            "discovery", "buffers", "versions", "codes", "rules", "console", "messages", "requests", "preemption", "memory", "memory-rules",
            "notifications", "bindings", "indirect", "interrupts", "state",
            "partition-calls", "stress", "normal-world", "failure",
        ],
        ..PLAIN
    },
    Boot {
        name: "isolation",
        shows: "each forbidden access ends the partition that makes it, alone; the machine restarts in between",
        groups: &["isolation"],
        ..PLAIN
    },
    Boot { name: "all-cores", shows: "eight cores, each with a vCPU of its own", groups: &["all-cores"], cpus: 8, ..PLAIN },
    Boot {
        name: "interface",
        shows: "a partition that drives a GICv3 by itself",
        partitions: &[probe_el1("manifests/tests/interface.dts"), EL0, VICTIM_EL1, VICTIM_EL0],
        groups: &["interface"],
        ..PLAIN
    },
    Boot {
        name: "interrupt-messages",
        shows: "a device's interrupt that belongs to a partition at S-EL0, and a partition that holds others' interrupts back",
        partitions: &[
            probe_el1("manifests/tests/no-interrupt.dts"),
            probe_el0("manifests/tests/interrupt-el0.dts"),
            victim_el1("manifests/tests/holds-others.dts"),
            VICTIM_EL0,
        ],
        groups: &["interrupt-messages"],
        ..PLAIN
    },
    Boot { name: "vms", shows: "a hypervisor of the normal world with two virtual machines", groups: &["vms"], ..PLAIN },
    Boot { name: "one-core", shows: "a machine with one core", groups: &["one-core"], cpus: 1, ..PLAIN },
    Boot {
        name: "services",
        shows: "a partition with several UUIDs",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/three-services.dts"), VICTIM_EL0],
        groups: &["services"],
        ..PLAIN
    },
    Boot {
        name: "managed-exit",
        shows: "partitions that are asked for a managed exit, or whose requests interrupts wait for",
        spmc_manifest: "manifests/tests/spmc-limits.dts",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/managed-exit.dts"), victim_el0("manifests/tests/queued.dts")],
        groups: &["managed-exit"],
        ..PLAIN
    },
    Boot {
        name: "versions-1.0",
        shows: "a normal world and partitions that speak FF-A 1.0, beside others that speak 1.2 and 1.1",
        partitions: &[
            probe_el1("manifests/tests/probe-el1-1-0.dts"),
            probe_el0("manifests/tests/probe-el0-1-0.dts"),
            VICTIM_EL1,
            victim_el0("manifests/tests/speaks-1-1.dts"),
        ],
        speak: ["1.0", "1.0", "1.0", "1.2", "1.1"],
        groups: VERSION_GROUPS,
        ..PLAIN
    },
    Boot {
        name: "versions-1.1",
        shows: "a normal world and partitions that speak FF-A 1.1, beside others that speak 1.0 and 1.2",
        partitions: &[
            probe_el1("manifests/tests/probe-el1-1-1.dts"),
            probe_el0("manifests/tests/probe-el0-1-1.dts"),
            victim_el1("manifests/tests/speaks-1-0.dts"),
            VICTIM_EL0,
        ],
        speak: ["1.1", "1.1", "1.1", "1.0", "1.2"],
        groups: VERSION_GROUPS,
        ..PLAIN
    },
    Boot {
        name: "mixed",
        shows: "a normal world that speaks FF-A 1.2 with a partition that speaks 1.0, and one that takes REQ2 alone",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/speaks-1-0.dts"), victim_el0("manifests/tests/only-req2.dts")],
        speak: ["1.2", "1.2", "1.2", "1.0", "1.2"],
        groups: &["mixed"],
        ..PLAIN
    },
    Boot {
        name: "bad-init-1",
        shows: "a partition that never ends its initialisation, and one that reads the SPMC's memory in it; the others serve",
        spmc_manifest: "manifests/tests/spmc-limits.dts",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/init-loops.dts"), victim_el0("manifests/tests/init-reads-wild.dts")],
        groups: &["init-1"],
        ..PLAIN
    },
    Boot {
        name: "bad-init-2",
        shows: "a partition whose initialisation ends with FFA_ERROR, and one that ends it by the answer to a request which nobody made",
        spmc_manifest: "manifests/tests/spmc-limits.dts",
        partitions: &[EL1, EL0, victim_el1("manifests/tests/init-fails.dts"), victim_el0("manifests/tests/init-responds.dts")],
        groups: &["init-2"],
        ..PLAIN
    },
];

/// Boots that only this repository's own tests make: what they check is not the specification's.
pub const OWN_BOOTS: &[Boot] = &[
    Boot {
        name: "template",
        shows: "the partition of partitions/template",
        spmc_manifest: "manifests/tests/spmc-template.dts",
        partitions: &[
            EL1,
            partition(
                "adder",
                "partitions/template/template.dts",
                Crate { package: "bulkhead-template", binary: "bulkhead-template", features: &[], flags: &[] },
                0x0ec0_0000,
                "0add0add-1234-4567-89ab-cdef01234567",
            ),
        ],
        groups: &["template"],
        ..PLAIN
    },
    Boot {
        name: "eight",
        shows: "as many partitions as there may be, on as many cores",
        spmc_manifest: "manifests/tests/spmc-eight.dts",
        partitions: EIGHT,
        groups: &["eight"],
        cpus: 8,
        ..PLAIN
    },
    HARNESS,
];

/// A payload that breaks the machine in every way that the host must notice.
pub const HARNESS: Boot =
    Boot { name: "harness", shows: "a payload that hangs, resets and crashes, and goes on", groups: &["harness"], silence: 8, ..PLAIN };

/// What is benchmarked: one partition of each kind. The payload runs no checks, but what it repeats.
pub const BENCH: Boot = Boot {
    name: "bench",
    shows: "what each operation costs",
    spmc_manifest: "manifests/tests/bench.dts",
    partitions: &[EL1, TestPartition { load_address: 0x0e80_0000, ..probe_el0("manifests/tests/bench-el0.dts") }],
    cpus: 1,
    ..PLAIN
};
/// The same on as many cores as there may be.
pub const BENCH_EIGHT_CORES: Boot = Boot { name: "bench-8-cores", cpus: 8, ..BENCH };
/// Twice as many partitions.
pub const BENCH_FOUR: Boot = Boot { name: "bench-4", partitions: FOUR, cpus: 1, ..PLAIN };
/// As many as there may be.
pub const BENCH_EIGHT: Boot = Boot { name: "bench-8", spmc_manifest: "manifests/tests/spmc-eight.dts", partitions: EIGHT, ..BENCH_FOUR };
/// Partitions enough for one on each of four cores.
pub const BENCH_CORES: Boot = Boot { name: "bench-cores", cpus: 4, ..BENCH_EIGHT };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_boot_do_not_collide() {
        for boot in BOOTS.iter().chain(OWN_BOOTS) {
            for (n, one) in boot.partitions.iter().enumerate() {
                let others = &boot.partitions[..n];
                assert!(others.iter().all(|o| o.load_address != one.load_address && o.uuid != one.uuid && o.name != one.name), "{}", boot.name);
            }
        }
    }

    #[test]
    fn no_two_boots_make_the_same_check() {
        let mut seen = Vec::new();
        for boot in BOOTS.iter().chain(OWN_BOOTS) {
            for group in boot.groups {
                for instance in ["NS", "S-EL1", "S-EL0"] {
                    let check = (group, instance, boot.version(instance));
                    assert!(!seen.contains(&check), "{check:?} in {}", boot.name);
                    seen.push(check);
                }
            }
        }
    }
}

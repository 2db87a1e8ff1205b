//! The SPMC's manifest (TF-A's TOS_FW_CONFIG) for partitions that came without one.
//!
//! It names memory, and no devices: a partition may then have any device that its manifest asks for, as suites drive what the
//! platform has.

use std::fmt::Write as _;

use anyhow::Result;

use super::guest::{Guest, numbers};
use super::layout::Place;

/// Its source, for a machine with `cpus` cores and `memory` MiB.
///
/// # Errors
/// When ids collide.
pub fn text(guests: &[Guest], places: &[Place], cpus: u32, memory: u32) -> Result<String> {
    let mut text = String::from(
        "/* Made by `cargo xtask run --sp`. */\n\n/dts-v1/;\n\n/ {\n\tcompatible = \"arm,ffa-core-manifest-1.0\";\n\t#address-cells = <2>;\n\t#size-cells = <1>;\n\n\
         \tattribute {\n\t\tspmc_id = <0x8000>;\n\t\tmaj_ver = <1>;\n\t\tmin_ver = <2>;\n\t\texec_state = <0>;\n\
         \t\tload_address = <0x0 0x0e100000>;\n\t\tentrypoint = <0x0 0x0e100000>;\n\t\tbinary_size = <0x100000>;\n\t};\n\n\
         \thypervisor {\n\t\tcompatible = \"hafnium,hafnium\";\n",
    );
    for ((guest, place), number) in guests.iter().zip(places).zip(numbers(guests)?) {
        let _ = write!(
            text,
            "\n\t\tvm{number} {{\n\t\t\tis_ffa_partition;\n\t\t\tdebug_name = \"{}\";\n\t\t\tload_address = <{:#x}>;\n\t\t\tmem_size = <{:#x}>;\n\
             \t\t\tvcpu_count = <{}>;\n\t\t}};\n",
            guest.name, place.address, place.size, guest.contexts
        );
    }
    text += "\t};\n\n\tcpus {\n\t\t#address-cells = <2>;\n\t\t#size-cells = <0>;\n";
    for cpu in 0..cpus {
        let _ = write!(text, "\n\t\tcpu@{cpu} {{ device_type = \"cpu\"; reg = <0x0 {cpu:#x}>; }};");
    }
    let _ = write!(
        text,
        "\n\t}};\n\n\tmemory@e000000 {{\n\t\tdevice_type = \"memory\";\n\t\treg = <0x0 0x0e000000 0x01000000>;\n\t}};\n\n\
         \tmemory@40000000 {{\n\t\tdevice_type = \"ns-memory\";\n\t\treg = <0x0 0x40000000 {:#x}>;\n\t}};\n}};\n",
        u64::from(memory) << 20
    );
    Ok(text)
}

//! The catalogue: every check as text, one line each, for the host, which reads it out of this program's ELF file by the symbol's
//! name. Fields are separated by tabs: group, name, section, instances, first and last version, expected.
#![expect(unsafe_code, reason = "the symbol's name must be known outside")]

use crate::check::Check;
use crate::checks::TABLE;
use bulkhead_sdk::ffa::Version;

/// The text.
#[unsafe(no_mangle)]
pub static CONFORMANCE_CATALOGUE: [u8; SIZE] = {
    let mut text = Text { bytes: [0; SIZE], length: 0 };
    write(&mut text);
    text.bytes
};

const SIZE: usize = {
    let mut text = Text::<0> { bytes: [], length: 0 };
    write(&mut text);
    text.length
};

/// Bytes as far as there is room, and how many there are.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const fn push(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut n = 0;
        while n < bytes.len() {
            if self.length < N {
                self.bytes[self.length] = bytes[n];
            }
            self.length += 1;
            n += 1;
        }
    }
}

const fn write<const N: usize>(text: &mut Text<N>) {
    let mut group = 0;
    while group < TABLE.len() {
        let mut n = 0;
        while n < TABLE[group].len() {
            line(text, &TABLE[group][n]);
            n += 1;
        }
        group += 1;
    }
}

const fn line<const N: usize>(text: &mut Text<N>, check: &Check) {
    text.push(check.group);
    text.push("\t");
    text.push(check.name);
    text.push("\t");
    text.push(check.section);
    text.push("\t");
    let mut n = 0;
    while n < check.instances.len() {
        if n > 0 {
            text.push(" ");
        }
        text.push(check.instances[n].name());
        n += 1;
    }
    text.push("\t");
    text.push(version(check.versions.from));
    text.push(" ");
    text.push(version(check.versions.to));
    text.push("\t");
    text.push(check.expected);
    text.push("\n");
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::V1_0 => "1.0",
        Version::V1_1 => "1.1",
        _ => "1.2",
    }
}

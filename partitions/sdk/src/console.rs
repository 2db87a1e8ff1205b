//! The console: FFA_CONSOLE_LOG, by whole lines.

use crate::call;
use arrayvec::ArrayString;
use bulkhead_ffa::{Regs, function};
use core::fmt::{self, Write};

/// Characters in the registers of one 64-bit FFA_CONSOLE_LOG that every version has: x2 to x7.
const CHARACTERS: usize = 48;

/// A line of text; what does not fit is cut off.
pub type Line = Cut<160>;

/// Text with a bound, cut off where it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut<const N: usize>(ArrayString<N>);

impl<const N: usize> Cut<N> {
    /// The text that `arguments` make.
    #[must_use]
    pub fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self(ArrayString::new());
        // Writing into this type never fails; a Display that reports an error just ends the text.
        let _ = text.write_fmt(arguments);
        text
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> Write for Cut<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.try_push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Cut<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints text by FFA_CONSOLE_LOG; the SPMC shows it when its line ends.
pub fn print(text: &str) {
    for chunk in text.as_bytes().chunks(CHARACTERS) {
        let mut regs = Regs::new(&[u64::from(function::CONSOLE_LOG_64), chunk.len() as u64]);
        for (register, bytes) in regs.0[2..8].iter_mut().zip(chunk.chunks(8)) {
            *register = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        // A console that refuses is no reason to stop.
        let _ = call(regs);
    }
}

/// Prints a line.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {{
        let line = $crate::Line::new(format_args!($($argument)*));
        $crate::print(line.as_str());
        $crate::print("\n");
    }};
}

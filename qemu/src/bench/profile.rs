//! Where the SPMC's instructions of an operation go, by function.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

use super::figures::Operation;
use super::steps;

/// Names of addresses.
pub struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    /// The symbols of a linked program.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes).with_context(|| format!("{} is not an ELF file", elf.display()))?;
        let mut names = BTreeMap::new();
        for symbol in file.symbols() {
            // Mapping symbols ($x, $d) and assembler constants name no code.
            if let Ok(name) = symbol.name()
                && !name.is_empty()
                && !name.starts_with('$')
                && symbol.section_index().is_some()
            {
                names.insert(symbol.address(), format!("{:#}", rustc_demangle::demangle(name)));
            }
        }
        Ok(Self(names))
    }

    /// The symbol in which an address lies.
    #[must_use]
    pub fn name(&self, address: u64) -> &str {
        self.0.range(..=address).next_back().map_or("?", |(_, name)| name)
    }

    /// An operation's functions, the most expensive one first.
    #[must_use]
    pub fn show(&self, operation: &Operation) -> String {
        let mut functions: BTreeMap<&str, u64> = BTreeMap::new();
        for (&address, times) in &operation.profile {
            *functions.entry(self.name(address)).or_default() += times;
        }
        let mut functions: Vec<(&str, u64)> = functions.into_iter().collect();
        functions.sort_by_key(|&(name, times)| (std::cmp::Reverse(times), name));
        let mut text = format!("\n{} ({}): {} instructions of the SPMC\n", operation.figures.operation, operation.figures.instance, operation.figures.spmc);
        for (name, times) in functions {
            let _ = writeln!(text, "{times:>8}  {name}");
        }
        text + &steps::show(&operation.figures.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figures;

    #[test]
    fn instructions_belong_to_the_symbol_before_them() {
        let symbols = Symbols(BTreeMap::from([(0x1000, "first".into()), (0x1010, "second".into())]));
        let operation = Operation {
            figures: Figures { operation: "o".into(), instance: "i".into(), spmc: 9, ..Figures::default() },
            profile: BTreeMap::from([(0xffc, 1), (0x1000, 1), (0x100c, 2), (0x1010, 5)]),
        };
        assert_eq!(symbols.show(&operation), "\no (i): 9 instructions of the SPMC\n       5  second\n       3  first\n       1  ?\n");
    }
}

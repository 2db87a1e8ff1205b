//! What checks there are: the catalogue that the payload carries in its ELF file, and the checks that a boot makes of it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};

use super::boots::Boot;

/// The symbol of the catalogue (`tests/conformance/payload/src/catalogue.rs`).
const SYMBOL: &str = "CONFORMANCE_CATALOGUE";

/// A rule of the specification, which is checked at each of its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place in the catalogue, by which the payload knows it.
    pub number: usize,
    /// Group.
    pub group: String,
    /// What it demands, as a name.
    pub name: String,
    /// Section of DEN0077A v1.2, or of DEN0140 where it says so.
    pub section: String,
    /// Which sides make the call under test.
    pub instances: Vec<String>,
    /// First and last version of that side for which it holds.
    pub versions: (String, String),
    /// What is expected.
    pub expected: String,
}

/// A rule at one instance, in a boot in which that instance speaks one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The rule's place in the catalogue.
    pub number: usize,
    /// The rule's group.
    pub group: String,
    /// The rule's name.
    pub name: String,
    /// Which side makes the call under test.
    pub instance: String,
    /// The version that it speaks.
    pub version: String,
    /// The rule's section.
    pub section: String,
    /// What is expected.
    pub expected: String,
}

impl Check {
    /// One line about it.
    #[must_use]
    pub fn show(&self) -> String {
        format!("{}.{} {} {} ({}): {}", self.group, self.name, self.instance, self.version, self.section, self.expected)
    }

    /// Whether a filter selects it: by a part of `group.name instance version`.
    #[must_use]
    pub fn matches(&self, filter: Option<&str>) -> bool {
        filter.is_none_or(|text| format!("{}.{} {} {}", self.group, self.name, self.instance, self.version).contains(text))
    }

    /// How the payload's plan names it.
    #[must_use]
    pub fn plan_entry(&self) -> String {
        format!("{}:{}", self.number, self.instance)
    }
}

/// Reads the catalogue of the payload's ELF file.
///
/// # Errors
/// When the file cannot be read or has no catalogue.
pub fn read(elf: &Path) -> Result<Vec<Rule>> {
    let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{} is no ELF file", elf.display()))?;
    let text = || -> Option<String> {
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(SYMBOL))?;
        let section = file.section_by_index(symbol.section_index()?).ok()?;
        let start = usize::try_from(symbol.address() - section.address()).ok()?;
        let end = start + usize::try_from(symbol.size()).ok()?;
        String::from_utf8(section.data().ok()?.get(start..end)?.to_vec()).ok()
    };
    parse(&text().with_context(|| format!("{} has no symbol {SYMBOL} with text", elf.display()))?)
}

fn parse(text: &str) -> Result<Vec<Rule>> {
    let mut seen = HashSet::new();
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [group, name, section, instances, versions, expected] = fields[..] else { bail!("the catalogue has the line '{line}'") };
            if !seen.insert((group, name)) {
                bail!("the catalogue has {group}.{name} twice: is its file twice in the payload's table?");
            }
            let (from, to) = versions.split_once(' ').with_context(|| format!("the catalogue has the versions '{versions}'"))?;
            Ok(Rule {
                number,
                group: group.to_owned(),
                name: name.to_owned(),
                section: section.to_owned(),
                instances: instances.split(' ').map(str::to_owned).collect(),
                versions: (from.to_owned(), to.to_owned()),
                expected: expected.to_owned(),
            })
        })
        .collect()
}

/// The checks of a boot, in the order of its groups.
#[must_use]
pub fn checks(rules: &[Rule], boot: &Boot) -> Vec<Check> {
    let mut checks = Vec::new();
    for rule in boot.groups.iter().flat_map(|group| rules.iter().filter(move |rule| rule.group == *group)) {
        for instance in &rule.instances {
            let version = boot.version(instance);
            if *rule.versions.0 <= *version && *version <= *rule.versions.1 {
                checks.push(Check {
                    number: rule.number,
                    group: rule.group.clone(),
                    name: rule.name.clone(),
                    instance: instance.clone(),
                    version: version.to_owned(),
                    section: rule.section.clone(),
                    expected: rule.expected.clone(),
                });
            }
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::boots::BOOTS;
    use super::*;

    const TEXT: &str = "a\tone\t13.2\tNS S-EL1\t1.0 1.2\tdenied\nb\ttwo\tDEN0140 2.3\tS-EL0\t1.2 1.2\tinvalid\n";

    #[test]
    fn rules_become_checks_of_the_instances_and_versions_of_a_boot() {
        let rules = parse(TEXT).unwrap();
        let boot = |speak| Boot { groups: &["b", "a"], speak, ..BOOTS[0] };
        let shown = |boot: &Boot| checks(&rules, boot).iter().map(Check::show).collect::<Vec<_>>();
        assert_eq!(
            shown(&boot(["1.0", "1.1", "1.2", "1.2", "1.2"])),
            ["b.two S-EL0 1.2 (DEN0140 2.3): invalid", "a.one NS 1.0 (13.2): denied", "a.one S-EL1 1.1 (13.2): denied"]
        );
        assert_eq!(shown(&boot(["1.0", "1.1", "1.1", "1.2", "1.2"])).len(), 2);
        assert_eq!(checks(&rules, &boot(["1.2"; 5]))[0].plan_entry(), "1:S-EL0");
    }

    #[test]
    fn a_filter_is_a_part_of_group_name_instance_and_version() {
        let rules = parse(TEXT).unwrap();
        let all = checks(&rules, &Boot { groups: &["a"], ..BOOTS[0] });
        let count = |filter| all.iter().filter(|check| check.matches(filter)).count();
        assert_eq!((count(None), count(Some("a.")), count(Some("one NS")), count(Some("S-EL0"))), (2, 2, 1, 0));
    }

    #[test]
    fn a_broken_catalogue_is_named() {
        assert!(parse("a\tb\n").unwrap_err().to_string().contains("a\tb"));
        assert!(parse(&format!("{TEXT}{TEXT}")).unwrap_err().to_string().contains("a.one twice"));
    }
}

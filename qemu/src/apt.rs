//! Debian's archive through the machine's own apt: which mirror it is configured for, and a private apt root for other
//! suites and for arm64, which leaves the system's lists, cache and architecture alone.
//!
//! The private root has lists, cache and state directories of its own; proxies and credentials come from the machine's
//! configuration as usual, and the indexes are verified with Debian's archive keyring.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::fetch::Remote;
use crate::progress::Task;
use crate::project::{Project, create_dir};

/// Debian's keyring, from the package debian-archive-keyring.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The URI of the Debian mirror that the machine is configured for, with a slash at its end.
///
/// # Errors
/// When apt cannot be asked or has no Debian source.
pub fn mirror() -> Result<String> {
    let list = exec::output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"]))
        .context("cannot ask apt for its sources")?;
    pick_mirror(&list).context(
        "apt has no source for Debian's main archive (bookworm, trixie, stable or sid, component main): cannot tell which mirror to use. \
         Add one to /etc/apt/sources.list.d and run `apt-get update`.",
    )
}

/// The first source of a plain Debian release in `list`, the output of `apt-get indextargets`.
fn pick_mirror(list: &str) -> Option<String> {
    const RELEASES: [&str; 10] = ["bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable", "bookworm-backports"];
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
        (RELEASES.contains(&release) && component == "main").then(|| format!("{}/", uri.trim_end_matches('/')))
    })
}

/// A private apt root for one suite and architecture.
pub struct PrivateApt {
    dir: PathBuf,
    suite: String,
    architecture: &'static str,
    mirror: String,
}

impl PrivateApt {
    /// The root for `suite` and `architecture` below the cache.
    ///
    /// # Errors
    /// When the directories cannot be made or no mirror is known.
    pub fn open(project: &Project, suite: &str, architecture: &'static str) -> Result<Self> {
        let dir = project.cache.join("apt").join(format!("{suite}-{architecture}"));
        for sub in ["lists/partial", "cache/archives/partial", "state", "preferences.d"] {
            create_dir(&dir.join(sub))?;
        }
        let apt = Self { mirror: mirror()?, dir, suite: suite.to_owned(), architecture };
        apt.write("state/status", "")?;
        let signed = if Path::new(KEYRING).is_file() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        apt.write("sources.list", &format!("deb {signed}{} {suite} main\n", apt.mirror))?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(program);
        for (key, value) in [
            ("Dir::Etc::SourceList", path("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::Etc::Preferences", "/dev/null".into()),
            ("Dir::Etc::PreferencesParts", path("preferences.d")),
            ("Dir::State", path("state")),
            ("Dir::State::Lists", path("lists")),
            ("Dir::State::status", path("state/status")),
            ("Dir::Cache", path("cache")),
            ("Dir::Cache::archives", path("cache/archives")),
            ("APT::Architecture", self.architecture.into()),
            ("APT::Architectures", self.architecture.into()),
            ("Acquire::Languages", "none".into()),
            // Software-centre metadata and command indexes: tens of megabytes of no use here.
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
            ("Acquire::IndexTargets::deb::CNF::DefaultEnabled", "false".into()),
            // The private directories need not be readable by the user that apt drops to.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    }

    /// Whether an index was ever fetched.
    #[must_use]
    pub fn has_index(&self) -> bool {
        let wanted = format!("_binary-{}_Packages", self.architecture);
        fs::read_dir(self.dir.join("lists")).is_ok_and(|entries| {
            entries.filter_map(Result::ok).any(|e| e.file_name().to_string_lossy().contains(&wanted))
        })
    }

    /// Fetches the suite's index anew.
    ///
    /// # Errors
    /// When the network or the signature fails.
    pub fn update(&self, task: &Task) -> Result<()> {
        task.stage(&format!("index of {}/{}", self.suite, self.architecture));
        let out = exec::output(self.command("apt-get").args(["-o", "APT::Update::Error-Mode=any", "update"]));
        out.map(drop).with_context(|| {
            format!(
                "cannot fetch the index of {} from {}: no network? If it is a signature that fails, install a newer debian-archive-keyring.",
                self.suite, self.mirror
            )
        })
    }

    /// Names of all packages.
    ///
    /// # Errors
    /// When apt fails.
    pub fn names(&self) -> Result<Vec<String>> {
        let all = exec::output(self.command("apt-cache").arg("pkgnames"))?;
        Ok(all.lines().map(str::to_owned).collect())
    }

    /// Where to download `packages` from, with version, size and checksum, in the order asked for.
    ///
    /// # Errors
    /// When one of them does not exist in this suite.
    pub fn locate(&self, packages: &[String]) -> Result<Vec<LocatedDeb>> {
        let out = exec::output(self.command("apt-get").args(["download", "--print-uris"]).args(packages))
            .with_context(|| format!("a package is not in {}/{}", self.suite, self.architecture))?;
        let found: Vec<LocatedDeb> = out.lines().filter_map(parse_print_uris).collect();
        packages
            .iter()
            .map(|name| {
                found.iter().find(|d| d.name == *name).cloned().with_context(|| {
                    format!("package {name} is not in {}/{}: apt did not say where it lies", self.suite, self.architecture)
                })
            })
            .collect()
    }
}

/// A package in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedDeb {
    /// Package name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The file to download.
    pub remote: Remote,
}

/// One line of `apt-get download --print-uris`: `'URI' FILE SIZE SHA256:HASH`. FILE is `name_version_arch.deb` with
/// colons (and other awkward characters) of the version as percent codes.
fn parse_print_uris(line: &str) -> Option<LocatedDeb> {
    let rest = line.strip_prefix('\'')?;
    let (uri, rest) = rest.split_once("' ")?;
    let mut words = rest.split(' ');
    let (file, size, hash) = (words.next()?, words.next()?, words.next()?);
    let sha256 = hash.strip_prefix("SHA256:")?;
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some(LocatedDeb {
        name: name.to_owned(),
        version: version.replace("%3a", ":").replace("%3A", ":"),
        remote: Remote { uri: uri.to_owned(), file_name: file.to_owned(), sha256: sha256.to_owned(), size: size.parse().ok()? },
    })
}

/// Sorts Debian versions (or names that end in them) ascending: runs of digits compare as numbers, `~` before everything.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    version_key(a).cmp(&version_key(b))
}

fn version_key(version: &str) -> Vec<(u8, u64, char)> {
    let mut key = Vec::new();
    let mut chars = version.chars().peekable();
    while let Some(c) = chars.next() {
        if let Some(digit) = c.to_digit(10) {
            let mut number = u64::from(digit);
            while let Some(next) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = number.saturating_mul(10).saturating_add(u64::from(next));
                chars.next();
            }
            key.push((2, number, ' '));
        } else {
            key.push((if c == '~' { 0 } else { 3 }, 0, c));
        }
    }
    key.push((1, 0, ' '));
    key
}

/// Fails with a hint unless apt is here.
///
/// # Errors
/// When the machine has no apt.
pub fn require() -> Result<()> {
    if !Path::new("/usr/lib/apt/apt-helper").is_file() {
        bail!("this machine has no apt: sources and arm64 packages are fetched through it, so Debian (12 or later) is needed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn the_mirror_is_that_of_a_plain_release() {
        let list = "http://one.example/debian-security/ bookworm-security main\n\
                    https://other.example/thing/ nodistro main\n\
                    http://two.example/debian bookworm-updates main\n\
                    http://two.example/debian bookworm contrib\n\
                    http://two.example/debian bookworm main\n";
        assert_eq!(pick_mirror(list).as_deref(), Some("http://two.example/debian/"));
        assert_eq!(pick_mirror("http://one.example/debian-security/ bookworm-security main\n"), None);
    }

    #[test]
    fn print_uris_lines_are_understood() {
        let line = "'http://two.example/debian/pool/main/e/efivar/efivar_38-3.1_arm64.deb' efivar_1%3a38-3.1_arm64.deb 1234 SHA256:00ff";
        let deb = parse_print_uris(line).unwrap();
        assert_eq!((deb.name.as_str(), deb.version.as_str(), deb.remote.size), ("efivar", "1:38-3.1", 1234));
        assert_eq!(deb.remote.sha256, "00ff");
        assert_eq!(parse_print_uris("Reading package lists..."), None);
    }

    #[test]
    fn versions_compare_by_number() {
        for (a, b) in [("7.2.9+deb14", "7.2.13+deb14"), ("7.2~rc1", "7.2"), ("1.0-1", "1.0-2"), ("4.10.0-1", "4.11.0-1")] {
            assert_eq!(compare_versions(a, b), Ordering::Less, "{a} < {b}");
            assert_eq!(compare_versions(b, a), Ordering::Greater, "{b} > {a}");
        }
        assert_eq!(compare_versions("1.2", "1.2"), Ordering::Equal);
    }
}

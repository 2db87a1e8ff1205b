//! `--sp IMAGE:MANIFEST[@LOAD_ADDRESS]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One partition as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpArgument {
    /// Its flat image, ELF file or package.
    pub image: PathBuf,
    /// Its manifest; `None` for a package, which has it inside.
    pub manifest: Option<PathBuf>,
    /// Where its package is loaded; where the manifest says, or at a free place, when not given.
    pub load_address: Option<u64>,
}

impl FromStr for SpArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path may have an @ in it: only a number behind the last one is an address.
        let (files, load_address) = match text.rsplit_once('@') {
            Some((files, address)) if !address.contains(['/', ':', '.']) => {
                let number = address.strip_prefix("0x").map_or_else(|| address.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok());
                let number: u64 = number.ok_or_else(|| format!("'{address}' behind the @ is not an address: write 0x0e300000, say"))?;
                if !number.is_multiple_of(4096) {
                    return Err(format!("the load address {number:#x} is not a multiple of 0x1000"));
                }
                (files, Some(number))
            }
            _ => (text, None),
        };
        let (image, manifest) = match files.rsplit_once(':') {
            Some((image, manifest)) => (image, Some(manifest)),
            None => (files, None),
        };
        if image.is_empty() || manifest == Some("") {
            return Err("expected IMAGE:MANIFEST[@LOAD_ADDRESS], or PACKAGE[@LOAD_ADDRESS]".to_owned());
        }
        Ok(Self { image: image.into(), manifest: manifest.map(PathBuf::from), load_address })
    }
}

impl fmt::Display for SpArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--sp {}", self.image.display())?;
        if let Some(manifest) = &self.manifest {
            write!(f, ":{}", manifest.display())?;
        }
        if let Some(address) = self.load_address {
            write!(f, "@{address:#x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_manifest_and_address_are_told_apart() {
        let parse = |text: &str| text.parse::<SpArgument>().unwrap();
        let one = parse("a/sp.bin:b/sp.dts@0x0e300000");
        assert_eq!((one.image, one.manifest, one.load_address), ("a/sp.bin".into(), Some("b/sp.dts".into()), Some(0x0e30_0000)));
        let one = parse("sp@2/x.bin:sp@2/x.dts");
        assert_eq!((one.image, one.manifest, one.load_address), ("sp@2/x.bin".into(), Some("sp@2/x.dts".into()), None));
        let one = parse("sp.pkg@4096");
        assert_eq!((one.image, one.manifest, one.load_address), ("sp.pkg".into(), None, Some(4096)));
        for text in ["a:b@0x1000", "a:b", "a@0x1000", "a"] {
            assert_eq!(parse(text).to_string(), format!("--sp {text}"));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<SpArgument>().unwrap_err();
        assert!(error("a:b@here").contains("'here'"), "{}", error("a:b@here"));
        assert!(error("a:b@0x1001").contains("multiple of 0x1000"));
        assert!(error(":b").contains("IMAGE:MANIFEST") && error("a:").contains("IMAGE:MANIFEST"));
    }
}

//! A second OP-TEE, for another partition beside the first: the same sources with a platform directory of its own
//! (`partitions/second-os`), and a TA that both run.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::optee::{self, Platform};
use crate::recipe::{Job, Recipe, Source};

const OURS: &str = "partitions/second-os";
/// The TA that keeps notes, as tee-supplicant looks for it.
pub const NOTES_TA: &str = "67d61991-bca2-4e71-ab90-7a1baf1ebff9.ta";

/// Where TF-A puts the package.
pub const PACKAGE_BASE: u32 = 0x0eb0_0000;
/// End of its memory.
const END: u32 = 0x0f00_0000;

/// The recipe.
pub struct SecondOptee;

impl Recipe for SecondOptee {
    fn name(&self) -> String {
        "second-optee".into()
    }

    fn summary(&self) -> String {
        "a second OP-TEE OS 4.10 for S-EL1".into()
    }

    fn text(&self) -> &'static str {
        concat!(include_str!("second_optee.rs"), include_str!("optee.rs"))
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(optee::SOURCE)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["tee-raw.bin", "tee.elf", NOTES_TA]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        ["plat-second", "include", "ta"].iter().map(|part| Path::new(OURS).join(part)).chain([optee::OVERREACH.into()]).collect()
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let ours = job.repo(OURS);
        let source = optee::core(job, &Platform { name: "second", dir: "plat-second", ours: &ours, start: PACKAGE_BASE, end: END }, &[])?;
        let ta = optee::ta(job, &source, &ours, "notes")?;
        optee::keep(job, &source, &ta, NOTES_TA)
    }
}

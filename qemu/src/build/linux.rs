//! Debian's arm64 kernel and the userland with xtest (owner: the Linux helper).

use crate::recipe::Recipe;

/// The Linux recipes.
#[must_use]
pub fn all() -> Vec<Box<dyn Recipe>> {
    Vec::new()
}

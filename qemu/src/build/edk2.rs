//! EDK2 2025.02: StMM for S-EL0 and UEFI as BL33 (owner: the EDK2 helper).

use crate::recipe::Recipe;

/// The EDK2 recipes.
#[must_use]
pub fn all() -> Vec<Box<dyn Recipe>> {
    Vec::new()
}

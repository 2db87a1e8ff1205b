//! The recipes, one file per component. See [`crate::recipe`] for how to write one.

pub mod bridge;
pub mod edk2;
pub mod keys;
pub mod linux;
pub mod optee;
pub mod second_optee;
pub mod tfa;
pub mod uboot;

use crate::recipe::Recipe;

/// Every recipe that the demonstration and the tests use.
#[must_use]
pub fn all() -> Vec<Box<dyn Recipe>> {
    let mut recipes: Vec<Box<dyn Recipe>> = vec![Box::new(tfa::Tfa), Box::new(optee::Optee), Box::new(second_optee::SecondOptee), Box::new(keys::Keys), Box::new(uboot::UBoot)];
    recipes.extend(edk2::all());
    recipes.extend(linux::all());
    recipes.extend(bridge::all());
    recipes
}

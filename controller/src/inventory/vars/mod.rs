//! What variables come to: templates, vaults, how to become root.

pub(crate) mod r#become;
pub(crate) mod container;
pub(in crate::inventory) mod getter;
pub(crate) mod sought;
pub(crate) mod template;
pub(crate) mod vault;

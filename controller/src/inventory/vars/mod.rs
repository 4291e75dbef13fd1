//! What variables come to: templates and vaults.

pub(crate) mod template;
pub(crate) mod vault;

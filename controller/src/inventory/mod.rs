//! Ansible YAML inventories: text in, hosts out. Pure but for [`load`], which reads the files.
//!
//! What Ansible would read differently from us is refused by name: a wrong host is worse than none.

mod address;
mod groups;
mod host;
pub(crate) mod load;
mod merge;
mod pattern;
mod range;
mod scalar;
mod yaml;

pub(crate) use host::{Host, HostVarError};
pub(crate) use pattern::select;

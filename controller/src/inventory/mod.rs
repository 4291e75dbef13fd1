//! Ansible inventories: text in, hosts out. Only [`load`] reads files, and [`via_ansible`] asks Ansible.
//!
//! What Ansible would read differently from us is refused by name: a wrong host is worse than none.

mod address;
mod groups;
mod host;
mod ini;
pub(crate) mod list;
mod literal;
pub(crate) mod load;
mod merge;
mod pattern;
pub(crate) mod place;
mod range;
mod scalar;
pub(crate) mod shell_words;
mod source;
mod template;
pub(crate) mod vault;
mod via_ansible;
mod yaml;

pub(crate) use groups::{ALL, Inventory};
pub(crate) use host::{Host, HostVarError};
pub(crate) use pattern::{Selection, select};

/// The inventory of one YAML text.
#[cfg(test)]
fn from_yaml(text: &str) -> Result<Inventory, source::SourceError> {
    let mut inventory = Inventory::default();
    if let Some(root) = yaml::parse(text)?.root {
        source::read_yaml(&mut inventory, &root)?;
    }
    inventory.settle()?;
    Ok(inventory)
}

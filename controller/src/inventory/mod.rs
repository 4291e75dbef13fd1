//! Ansible inventories: text in, hosts out. Only [`load`] reads files, and [`via_ansible`] asks Ansible.
//!
//! What Ansible would read differently from us is refused by name: a wrong host is worse than none.

mod connection;
mod host;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod place;
pub(crate) mod source;
mod vars;
mod via_ansible;

pub(crate) use connection::{Connection, SshClient};
pub(crate) use host::Host;
pub(crate) use model::groups::{ALL, Inventory};
pub(crate) use model::pattern::{Selection, select};
pub(crate) use vars::r#become::BecomeMethod;
pub(crate) use vars::container::{Container, Engine};
pub(crate) use vars::getter::HostVarError;
pub(crate) use vars::sought::Sought;

/// The inventory of one YAML text.
#[cfg(test)]
fn from_yaml(text: &str) -> Result<Inventory, source::SourceError> {
    let mut inventory = Inventory::default();
    if let Some(root) = source::yaml::parse(text)?.root {
        source::read_yaml(&mut inventory, &root)?;
    }
    inventory.settle()?;
    Ok(inventory)
}

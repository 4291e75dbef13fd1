//! Inventories that only Ansible reads (scripts, plugins, TOML): `ansible-inventory` is asked.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use crate::inventory::load::Request;
use crate::inventory::model::groups::{Inventory, TreeError};

/// The program, as the PATH has it.
const PROGRAM: &str = "ansible-inventory";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ViaAnsibleError {
    #[error("ansible-inventory is not installed")]
    Missing,
    #[error("cannot run ansible-inventory")]
    Run(#[source] std::io::Error),
    #[error("ansible-inventory cannot read it: {0}")]
    Refused(String),
    #[error("ansible-inventory's answer is none: {0}")]
    Answer(String),
    #[error("ansible-inventory's answer: {0}")]
    Tree(#[from] TreeError),
}

/// Asks for all of a request's sources at once, as priorities reach over all of them.
pub(crate) fn read(request: &Request) -> Result<Inventory, ViaAnsibleError> {
    let mut command = Command::new(PROGRAM);
    for source in &request.sources {
        command.arg("--inventory").arg(source);
    }
    if let Some(folder) = &request.playbook_dir {
        command.arg("--playbook-dir").arg(folder);
    }
    for id in &request.vault_ids {
        let mut word = OsString::from(format!("{}@", id.name));
        word.push(&id.path);
        command.arg("--vault-id").arg(word);
    }
    let output = command
        .arg("--list")
        // A source that fails would otherwise be an empty one.
        .env("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "1")
        .env("ANSIBLE_NOCOLOR", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ViaAnsibleError::Missing,
            _ => ViaAnsibleError::Run(error),
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).take(6).collect();
        return Err(ViaAnsibleError::Refused(lines.join(" ")));
    }
    let answer: Map<String, Value> =
        serde_json::from_slice(&output.stdout).map_err(|error| ViaAnsibleError::Answer(error.to_string()))?;
    Ok(from_list(&answer)?)
}

/// The inventory of a `--list`: all variables are the hosts' own.
fn from_list(answer: &Map<String, Value>) -> Result<Inventory, TreeError> {
    let mut inventory = Inventory::default();
    let names = |group: &Value, key: &str| -> Vec<String> {
        let names = group.get(key).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for (name, group) in answer.iter().filter(|(name, _)| *name != "_meta") {
        inventory.group(name)?;
        for host in names(group, "hosts") {
            inventory.add_host(&host, name, None)?;
        }
        for child in names(group, "children")
            .into_iter()
            .filter(|child| child != crate::inventory::model::groups::UNGROUPED)
        {
            inventory.add_child(name, &child)?;
        }
    }
    let hostvars = answer.get("_meta").and_then(|meta| meta.get("hostvars")).and_then(Value::as_object);
    for (host, vars) in hostvars.into_iter().flatten() {
        if let (Some(entry), Value::Object(vars)) = (inventory.hosts.get_mut(host), vars) {
            entry.vars.extend(vars.clone());
        }
    }
    inventory.settle()?;
    Ok(inventory)
}

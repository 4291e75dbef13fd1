//! YAML inventories to groups and hosts, and what all kinds of sources have in common.

pub(crate) mod address;
pub(crate) mod ini;
mod literal;
mod range;
mod scalar;
pub(crate) mod shell_words;
pub(crate) mod yaml;

use serde_json::Value;

use crate::inventory::model::groups::{Inventory, TreeError};
use crate::inventory::source::yaml::{Kind, Node, YamlError};

/// Where in a file something stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What is wrong with a source, and where.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub(crate) struct SourceError {
    line: usize,
    column: usize,
    reason: String,
}

impl Span {
    pub(crate) fn error(self, reason: impl ToString) -> SourceError {
        SourceError { line: self.line, column: self.column, reason: reason.to_string() }
    }
}

impl From<YamlError> for SourceError {
    fn from(error: YamlError) -> Self {
        Self { line: error.line, column: error.column, reason: error.reason }
    }
}

/// Adds all hosts that `pattern` stands for, each with these variables.
pub(crate) fn add_hosts(
    inventory: &mut Inventory,
    group: &str,
    pattern: &str,
    vars: Vec<(String, Value)>,
    span: Span,
) -> Result<(), SourceError> {
    let (names, port) = address::parse(pattern).unwrap_or((pattern, None));
    for name in range::expand(names).map_err(|error| span.error(error))? {
        let host = inventory.add_host(&name, group, port).map_err(|error| span.error(error))?;
        host.vars.extend(vars.clone());
    }
    Ok(())
}

/// Reads a parsed YAML inventory into `inventory`.
pub(crate) fn read_yaml(inventory: &mut Inventory, root: &Node) -> Result<(), SourceError> {
    let Kind::Mapping(groups) = &root.kind else {
        return Err(root.error("an inventory is a mapping of groups").into());
    };
    for (key, value) in groups {
        read_group(inventory, key, Some(value))?;
    }
    Ok(())
}

/// A group, and the name under which a parent may take it.
fn read_group<'n>(
    inventory: &mut Inventory,
    key: &'n Node,
    node: Option<&Node>,
) -> Result<Option<&'n str>, SourceError> {
    let span = span_of(key);
    let Some(name) = key.key() else {
        return Err(key.error(format!("{} must be a text; put it in quotes", key.to_value())).into());
    };
    let empty = Vec::new();
    let sections = match node.map(|node| (node, &node.kind)) {
        None | Some((_, Kind::Scalar(Value::Null))) => &empty,
        Some((_, Kind::Mapping(sections))) => sections,
        Some((node, _)) => {
            // As Ansible does: a place for anchors (`x-base: &base [...]`) is no group.
            inventory.warnings.push(format!("line {}: {name} is no mapping, so it is no group", node.line));
            return Ok(inventory.groups.contains_key(name).then_some(name));
        }
    };
    inventory.group(name).map_err(|error| span.error(error))?;
    for (section_key, section) in sections {
        match section_key.key() {
            Some("vars") => {
                for (variable, value) in entries(section, "vars", name)? {
                    let variable = name_of(variable);
                    let value = value.map_or(Value::Null, Node::to_value);
                    inventory
                        .set_group_var(name, &variable, value)
                        .map_err(|error| span_of(section).error(error))?;
                }
            }
            Some("children") => {
                for (child, value) in entries(section, "children", name)? {
                    read_child(inventory, name, child, value)?;
                }
            }
            Some("hosts") => {
                for (host, value) in entries(section, "hosts", name)? {
                    read_host(inventory, name, host, value)?;
                }
            }
            _ if section.is_null() => {}
            _ => {
                let key = section_key.to_value();
                inventory
                    .warnings
                    .push(format!("line {}: {key} in group {name} means nothing", section_key.line));
            }
        }
    }
    Ok(Some(name))
}

fn read_child(
    inventory: &mut Inventory,
    parent: &str,
    child: &Node,
    value: Option<&Node>,
) -> Result<(), SourceError> {
    let span = span_of(child);
    match read_group(inventory, child, value)? {
        Some(name) => inventory.add_child(parent, name).map_err(|error| span.error(error)),
        None => Err(span.error(format!("{} is no group", name_of(child)))),
    }
}

fn read_host(
    inventory: &mut Inventory,
    group: &str,
    host: &Node,
    value: Option<&Node>,
) -> Result<(), SourceError> {
    let Some(pattern) = host.key() else {
        return Err(host.error(format!("host {} must be a text; put it in quotes", name_of(host))).into());
    };
    let vars = match value.map(|node| (node, node.to_value())) {
        None | Some((_, Value::Null)) => Vec::new(),
        Some((_, Value::Object(vars))) if !vars.contains_key("__ansible_vault") => vars.into_iter().collect(),
        Some((node, _)) => return Err(node.error(format!("vars of host {pattern} are no mapping")).into()),
    };
    add_hosts(inventory, group, pattern, vars, span_of(host))
}

fn span_of(node: &Node) -> Span {
    Span { line: node.line, column: node.column }
}

/// A key as a name; one that is no text as it would be written.
fn name_of(node: &Node) -> String {
    match node.to_value() {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A section as names and what stands under them; a plain text is one name.
fn entries<'n>(
    section: &'n Node,
    what: &str,
    group: &str,
) -> Result<Vec<(&'n Node, Option<&'n Node>)>, SourceError> {
    match &section.kind {
        _ if section.is_null() => Ok(Vec::new()),
        Kind::Scalar(Value::String(_)) => Ok(vec![(section, None)]),
        Kind::Mapping(pairs) => Ok(pairs.iter().map(|(key, value)| (key, Some(value))).collect()),
        _ => Err(section.error(format!("{what} of group {group} are no mapping")).into()),
    }
}

impl From<TreeError> for SourceError {
    fn from(error: TreeError) -> Self {
        Span { line: 1, column: 1 }.error(error)
    }
}

//! The tree of groups and hosts that an inventory file describes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::address::split_port;
use super::range::{self, RangeError};
use super::yaml::{Kind, Node, YamlError};

pub(crate) type Vars = Map<String, Value>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InventoryError {
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("line {line}: {source}")]
    Range { line: usize, source: RangeError },
    #[error("group {0} is its own parent")]
    Loop(String),
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) vars: Vars,
    pub(crate) hosts: Vec<String>,
    pub(crate) children: Vec<String>,
}

/// Groups and hosts with the variables of the inventory file, and those of the files beside it.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) groups: BTreeMap<String, Group>,
    /// Hosts in the order in which they appear, with their inline variables.
    pub(crate) hosts: Vec<String>,
    pub(crate) host_vars: BTreeMap<String, Vars>,
    /// Variables of `group_vars/`, by group.
    pub(crate) group_files: BTreeMap<String, Vars>,
    /// Variables of `host_vars/`, by host.
    pub(crate) host_files: BTreeMap<String, Vars>,
    pub(crate) warnings: Vec<String>,
}

impl Inventory {
    /// Reads a parsed inventory file.
    pub(crate) fn from_node(root: &Node) -> Result<Self, InventoryError> {
        let mut inventory = Self::default();
        inventory.group_mut("all");
        inventory.group_mut("ungrouped");
        let Kind::Mapping(groups) = &root.kind else {
            return Err(root.error("an inventory is a mapping of groups").into());
        };
        if let Some((key, _)) = groups.iter().find(|(key, _)| key.key() == Some("plugin")) {
            return Err(key
                .error("an inventory plugin's configuration; only plain YAML inventories are read")
                .into());
        }
        for (key, value) in groups {
            let name = key.key().ok_or_else(|| key.error("a group's name must be a text"))?;
            inventory.read_group(name, value)?;
        }
        inventory.adopt_orphans();
        inventory.check_loops()?;
        let clashes: Vec<&String> =
            inventory.groups.keys().filter(|group| inventory.host_vars.contains_key(*group)).collect();
        let warnings: Vec<String> =
            clashes.iter().map(|name| format!("{name} is a group and a host")).collect();
        inventory.warnings.extend(warnings);
        Ok(inventory)
    }

    fn group_mut(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    fn read_group(&mut self, name: &str, node: &Node) -> Result<(), InventoryError> {
        check_name(name, node)?;
        let empty = Vec::new();
        let sections = match &node.kind {
            _ if node.is_null() => &empty,
            Kind::Mapping(sections) => sections,
            _ => {
                // As Ansible does: a place for anchors (`x-base: &base [...]`) is no group.
                self.warnings.push(format!("line {}: {name} is no mapping, so it is no group", node.line));
                return Ok(());
            }
        };
        self.group_mut(name);
        for (key, section) in sections {
            if section.is_null() {
                continue;
            }
            match key.key() {
                Some("vars") => {
                    let Value::Object(vars) = section.to_value() else {
                        return Err(section.error(format!("vars of group {name} are no mapping")).into());
                    };
                    self.group_mut(name).vars.extend(vars);
                }
                Some("children") => {
                    for (child, value) in entries(section, "children", name)? {
                        push_new(&mut self.group_mut(name).children, &child);
                        if let Some(value) = value {
                            self.read_group(&child, value)?;
                        } else {
                            self.group_mut(&child);
                        }
                    }
                }
                Some("hosts") => self.read_hosts(name, section)?,
                _ => {
                    let key = key.to_value();
                    self.warnings.push(format!("line {}: {key} in group {name} means nothing", section.line));
                }
            }
        }
        Ok(())
    }

    fn read_hosts(&mut self, group: &str, section: &Node) -> Result<(), InventoryError> {
        for (pattern, value) in entries(section, "hosts", group)? {
            let (bare, port) = split_port(&pattern);
            let names =
                range::expand(bare).map_err(|source| InventoryError::Range { line: section.line, source })?;
            let vars = match value {
                None => Vars::new(),
                Some(node) if node.is_null() => Vars::new(),
                Some(node) => match node.to_value() {
                    Value::Object(vars) => vars,
                    _ => return Err(node.error(format!("vars of host {pattern} are no mapping")).into()),
                },
            };
            for name in names {
                check_name(&name, section)?;
                push_new(&mut self.group_mut(group).hosts, &name);
                if !self.host_vars.contains_key(&name) {
                    self.hosts.push(name.clone());
                }
                let own = self.host_vars.entry(name).or_default();
                if let Some(port) = port {
                    own.entry("ansible_port").or_insert_with(|| json!(port));
                }
                own.extend(vars.clone());
            }
        }
        Ok(())
    }

    /// Every group without a parent hangs under `all`; hosts of no other group are `ungrouped`.
    fn adopt_orphans(&mut self) {
        let children: BTreeSet<String> =
            self.groups.values().flat_map(|group| group.children.clone()).collect();
        let orphans: Vec<String> =
            self.groups.keys().filter(|name| *name != "all" && !children.contains(*name)).cloned().collect();
        for orphan in orphans {
            push_new(&mut self.group_mut("all").children, &orphan);
        }
        let grouped: BTreeSet<String> = self
            .groups
            .iter()
            .filter(|(name, _)| !["all", "ungrouped"].contains(&name.as_str()))
            .flat_map(|(_, group)| group.hosts.clone())
            .collect();
        let lonely: Vec<String> =
            self.hosts.iter().filter(|host| !grouped.contains(*host)).cloned().collect();
        self.group_mut("ungrouped").hosts = lonely;
        self.group_mut("all").hosts.clear();
    }

    fn check_loops(&self) -> Result<(), InventoryError> {
        fn visit<'g>(
            groups: &'g BTreeMap<String, Group>,
            name: &'g str,
            path: &mut Vec<&'g str>,
            done: &mut BTreeSet<&'g str>,
        ) -> Result<(), InventoryError> {
            if path.contains(&name) {
                return Err(InventoryError::Loop(name.to_owned()));
            }
            if done.contains(name) {
                return Ok(());
            }
            path.push(name);
            for child in groups.get(name).into_iter().flat_map(|group| &group.children) {
                visit(groups, child, path, done)?;
            }
            path.pop();
            done.insert(name);
            Ok(())
        }
        let mut done = BTreeSet::new();
        self.groups.keys().try_for_each(|name| visit(&self.groups, name, &mut Vec::new(), &mut done))
    }

    /// Groups that tell hosts apart, with those of `hosts` that are in them.
    pub(crate) fn telling_groups(&self, hosts: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for host in hosts {
            for group in self.groups_of(host).into_iter().filter(|name| !["all", "ungrouped"].contains(name))
            {
                groups.entry(group.to_owned()).or_default().insert((*host).to_owned());
            }
        }
        groups
    }

    /// All groups of a host, `all` among them.
    pub(crate) fn groups_of(&self, host: &str) -> BTreeSet<&str> {
        let direct = self.groups.iter().filter(|(_, group)| group.hosts.iter().any(|name| name == host));
        let mut found: BTreeSet<&str> = direct.map(|(name, _)| name.as_str()).collect();
        found.insert("all");
        loop {
            let parents: Vec<&str> = self
                .groups
                .iter()
                .filter(|(name, group)| {
                    !found.contains(name.as_str())
                        && group.children.iter().any(|child| found.contains(child.as_str()))
                })
                .map(|(name, _)| name.as_str())
                .collect();
            if parents.is_empty() {
                return found;
            }
            found.extend(parents);
        }
    }

    /// Longest way from `all` to each group.
    pub(crate) fn depths(&self) -> BTreeMap<&str, usize> {
        let mut depths: BTreeMap<&str, usize> = self.groups.keys().map(|name| (name.as_str(), 0)).collect();
        // No loops, so as many rounds as groups are enough.
        for _ in 0..self.groups.len() {
            for (name, group) in &self.groups {
                let below = depths.get(name.as_str()).copied().unwrap_or(0) + 1;
                for child in &group.children {
                    if let Some(depth) = depths.get_mut(child.as_str()) {
                        *depth = below.max(*depth);
                    }
                }
            }
        }
        depths
    }
}

/// A section as names and what stands under them; a plain text is one name.
fn entries<'n>(
    section: &'n Node,
    what: &str,
    group: &str,
) -> Result<Vec<(String, Option<&'n Node>)>, YamlError> {
    match &section.kind {
        Kind::Scalar(Value::String(name)) => Ok(vec![(name.clone(), None)]),
        Kind::Mapping(pairs) => pairs
            .iter()
            .map(|(key, value)| match key.key() {
                Some(name) => Ok((name.to_owned(), Some(value))),
                None => Err(key.error(format!(
                    "{} in {what} of group {group} must be a text; put it in quotes",
                    key.to_value()
                ))),
            })
            .collect(),
        _ => Err(section.error(format!("{what} of group {group} are no mapping"))),
    }
}

/// Names become file names and words on a terminal.
fn check_name(name: &str, node: &Node) -> Result<(), YamlError> {
    if name.is_empty()
        || name.contains('/')
        || name == "."
        || name == ".."
        || name.chars().any(char::is_control)
    {
        return Err(node.error(format!("{name:?} is no name for a host or group")));
    }
    Ok(())
}

fn push_new(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|have| have == name) {
        names.push(name.to_owned());
    }
}

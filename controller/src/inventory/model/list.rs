//! An inventory as `ansible-inventory` shows it: `--list`, `--host` and `--graph`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::inventory::model::groups::{ALL, Inventory};

/// `--list`: groups with their hosts and children, and the variables of each host.
pub(crate) fn list(inventory: &Inventory, hosts: &[String]) -> Value {
    let available: BTreeSet<&str> = hosts.iter().map(String::as_str).collect();
    let mut groups = Map::new();
    add_group(inventory, ALL, &available, &mut BTreeSet::new(), &mut groups);
    let hostvars = hosts.iter().map(|host| (host.clone(), Value::Object(inventory.vars_of(host))));
    let hostvars: Map<String, Value> =
        hostvars.filter(|(_, vars)| vars.as_object().is_some_and(|vars| !vars.is_empty())).collect();
    groups.insert("_meta".to_owned(), json!({"hostvars": hostvars, "profile": "inventory_legacy"}));
    Value::Object(groups)
}

fn add_group<'i>(
    inventory: &'i Inventory,
    name: &'i str,
    available: &BTreeSet<&str>,
    seen: &mut BTreeSet<&'i str>,
    groups: &mut Map<String, Value>,
) {
    let Some(group) = inventory.groups.get(name) else { return };
    let mut entry = Map::new();
    if name != ALL {
        let hosts: Vec<&String> =
            group.hosts.iter().filter(|host| available.contains(host.as_str())).collect();
        if !hosts.is_empty() {
            entry.insert("hosts".to_owned(), json!(hosts));
        }
    }
    for child in &group.children {
        if seen.insert(child) {
            add_group(inventory, child, available, seen, groups);
        }
    }
    if !group.children.is_empty() {
        entry.insert("children".to_owned(), json!(group.children));
    }
    if !entry.is_empty() {
        groups.insert(name.to_owned(), Value::Object(entry));
    }
}

/// `--graph`: the tree from a group on; `None` where there is no such group.
pub(crate) fn graph(inventory: &Inventory, group: &str) -> Option<String> {
    inventory.groups.get(group)?;
    let mut lines = String::new();
    add_branch(inventory, group, 0, &mut lines);
    Some(lines)
}

fn add_branch(inventory: &Inventory, name: &str, depth: usize, lines: &mut String) {
    let line = |depth: usize, text: &str| match depth {
        0 => format!("{text}\n"),
        depth => format!("{}--{text}\n", "  |".repeat(depth)),
    };
    lines.push_str(&line(depth, &format!("@{name}:")));
    let Some(group) = inventory.groups.get(name) else { return };
    for child in &group.children {
        add_branch(inventory, child, depth + 1, lines);
    }
    if name != ALL {
        lines.extend(group.hosts.iter().map(|host| line(depth + 1, host)));
    }
}

//! Groups and hosts, and how they hang together: what every kind of source fills.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value};

pub(crate) type Vars = Map<String, Value>;

/// The group of every host and of every group.
pub(crate) const ALL: &str = "all";

/// The group of the hosts that are in no other.
pub(crate) const UNGROUPED: &str = "ungrouped";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("group {child} under group {parent} would be a loop")]
    Loop { parent: String, child: String },
    #[error("{0:?} is no name for a host or group")]
    Name(String),
    #[error("ansible_group_priority of group {group} is {value}, which is no whole number")]
    Priority { group: String, value: String },
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Variables of the inventory's sources themselves.
    pub(crate) vars: Vars,
    pub(crate) priority: i64,
    pub(crate) hosts: IndexSet<String>,
    pub(crate) children: IndexSet<String>,
    parents: IndexSet<String>,
    /// Longest way from `all`.
    pub(crate) depth: usize,
}

/// A host of the sources.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Variables of the inventory's sources themselves.
    pub(crate) vars: Vars,
    groups: IndexSet<String>,
}

/// Variables of one folder's `group_vars/` and `host_vars/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct VarsFolder {
    pub(crate) groups: BTreeMap<String, Vars>,
    pub(crate) hosts: BTreeMap<String, Vars>,
}

/// Groups and hosts in the order in which they appear, with the variables of the sources and of the
/// folders beside them.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) groups: IndexMap<String, Group>,
    pub(crate) hosts: IndexMap<String, Entry>,
    /// Beside each source, in the order of the sources.
    pub(crate) beside: Vec<VarsFolder>,
    /// Beside the playbook.
    pub(crate) playbook: VarsFolder,
    /// Passwords of its vaults.
    pub(crate) secrets: crate::inventory::vars::vault::Secrets,
    pub(crate) warnings: Vec<String>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            vars: Vars::new(),
            priority: 1,
            hosts: IndexSet::new(),
            children: IndexSet::new(),
            parents: IndexSet::new(),
            depth: 0,
        }
    }
}

impl Default for Inventory {
    fn default() -> Self {
        let mut inventory = Self {
            groups: [ALL, UNGROUPED].map(|name| (name.to_owned(), Group::default())).into(),
            hosts: IndexMap::new(),
            beside: Vec::new(),
            playbook: VarsFolder::default(),
            secrets: crate::inventory::vars::vault::Secrets::default(),
            warnings: Vec::new(),
        };
        inventory.link(ALL, UNGROUPED);
        inventory
    }
}

impl Inventory {
    /// The group of that name, made where there is none.
    pub(crate) fn group(&mut self, name: &str) -> Result<&mut Group, TreeError> {
        check_name(name)?;
        Ok(self.groups.entry(name.to_owned()).or_default())
    }

    /// Puts a host into a group. The port is of the host's first mention; a later one changes nothing.
    pub(crate) fn add_host(
        &mut self,
        name: &str,
        group: &str,
        port: Option<u16>,
    ) -> Result<&mut Entry, TreeError> {
        check_name(name)?;
        self.group(group)?.hosts.insert(name.to_owned());
        let entry = self.hosts.entry(name.to_owned()).or_insert_with(|| {
            let port = port.map(|port| ("ansible_port".to_owned(), port.into()));
            Entry { vars: port.into_iter().collect(), groups: IndexSet::new() }
        });
        entry.groups.insert(group.to_owned());
        Ok(entry)
    }

    /// Sets a variable of a group; the priority is a property of the group and no variable of its hosts.
    pub(crate) fn set_group_var(&mut self, group: &str, name: &str, value: Value) -> Result<(), TreeError> {
        let entry = self.group(group)?;
        if name == "ansible_group_priority" {
            entry.priority = match &value {
                Value::Number(n) => n.as_i64(),
                Value::String(text) => text.trim().parse().ok(),
                _ => None,
            }
            .ok_or_else(|| TreeError::Priority { group: group.to_owned(), value: value.to_string() })?;
        } else {
            entry.vars.insert(name.to_owned(), value);
        }
        Ok(())
    }

    pub(crate) fn add_child(&mut self, parent: &str, child: &str) -> Result<(), TreeError> {
        if parent == child || self.above([parent]).contains(child) {
            return Err(TreeError::Loop { parent: parent.to_owned(), child: child.to_owned() });
        }
        self.group(parent)?;
        self.group(child)?;
        self.link(parent, child);
        Ok(())
    }

    fn link(&mut self, parent: &str, child: &str) {
        if let Some(group) = self.groups.get_mut(parent) {
            group.children.insert(child.to_owned());
        }
        if let Some(group) = self.groups.get_mut(child) {
            group.parents.insert(parent.to_owned());
        }
    }

    /// After the last source: every group hangs under `all`, hosts of no other group are `ungrouped`.
    pub(crate) fn settle(&mut self) -> Result<(), TreeError> {
        let orphans: Vec<String> = self
            .groups
            .iter()
            .filter(|(name, group)| *name != ALL && group.parents.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for orphan in orphans {
            self.add_child(ALL, &orphan)?;
        }
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            if self.groups_of(&host).iter().all(|group| [ALL, UNGROUPED].contains(group)) {
                self.add_host(&host, UNGROUPED, None)?;
            } else {
                self.groups.get_mut(UNGROUPED).map(|group| group.hosts.shift_remove(&host));
                self.hosts.get_mut(&host).map(|entry| entry.groups.shift_remove(UNGROUPED));
            }
        }
        self.set_depths();
        let clashes = self.groups.keys().filter(|group| self.hosts.contains_key(*group));
        let clashes: Vec<String> = clashes.map(|name| format!("{name} is a group and a host")).collect();
        self.warnings.extend(clashes);
        Ok(())
    }

    /// There are no loops, so each round settles one more level.
    fn set_depths(&mut self) {
        let mut level: BTreeSet<String> = [ALL.to_owned()].into();
        let mut depth = 0;
        while !level.is_empty() {
            let mut below = BTreeSet::new();
            for name in level {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.depth = depth;
                    below.extend(group.children.iter().cloned());
                }
            }
            (level, depth) = (below, depth + 1);
        }
    }

    /// Whether `ungrouped` has children or another parent than `all`: Ansible takes variables from some
    /// of the hosts there, depending on what it has read first.
    pub(crate) fn has_odd_ungrouped(&self) -> bool {
        self.groups.get(UNGROUPED).is_some_and(|group| {
            !group.children.is_empty() || group.parents.iter().any(|parent| parent != ALL)
        })
    }

    /// Groups, and all that they are in.
    fn above<'i>(&'i self, groups: impl IntoIterator<Item = &'i str>) -> BTreeSet<&'i str> {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> = groups.into_iter().collect();
        while let Some(name) = next.pop() {
            if found.insert(name) {
                next.extend(
                    self.groups.get(name).into_iter().flat_map(|group| &group.parents).map(String::as_str),
                );
            }
        }
        found
    }

    /// A group and all below it, level by level.
    fn below<'i>(&'i self, group: &'i str) -> IndexSet<&'i str> {
        let mut found: IndexSet<&str> = [group].into();
        let mut at = 0;
        while let Some(name) = found.get_index(at).copied() {
            found.extend(
                self.groups.get(name).into_iter().flat_map(|group| &group.children).map(String::as_str),
            );
            at += 1;
        }
        found
    }

    /// Hosts of a group and of all below it.
    pub(crate) fn hosts_of<'i>(&'i self, group: &'i str) -> IndexSet<&'i str> {
        let groups = self.below(group);
        groups
            .iter()
            .filter_map(|name| self.groups.get(*name))
            .flat_map(|group| &group.hosts)
            .map(String::as_str)
            .collect()
    }

    /// All groups of a host, `all` among them.
    pub(crate) fn groups_of(&self, host: &str) -> BTreeSet<&str> {
        let direct = self.hosts.get(host).into_iter().flat_map(|entry| &entry.groups);
        self.above(direct.map(String::as_str))
    }

    /// Groups that tell hosts apart, with those of `hosts` that are in them.
    pub(crate) fn telling_groups(&self, hosts: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for host in hosts {
            for group in self.groups_of(host).into_iter().filter(|name| ![ALL, UNGROUPED].contains(name)) {
                groups.entry(group.to_owned()).or_default().insert((*host).to_owned());
            }
        }
        groups
    }
}

/// Names become file names and words on a terminal.
fn check_name(name: &str) -> Result<(), TreeError> {
    if name.is_empty()
        || name.contains('/')
        || [".", ".."].contains(&name)
        || name.chars().any(char::is_control)
    {
        return Err(TreeError::Name(name.to_owned()));
    }
    Ok(())
}

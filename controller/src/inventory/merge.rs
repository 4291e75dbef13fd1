//! Which variable wins: Ansible's order, lowest first.

use std::collections::BTreeMap;

use serde_json::Value;

use super::groups::{Inventory, Vars};

impl Inventory {
    /// The variables of a host: inline `all`, inline groups, `group_vars/all`, `group_vars/<group>`,
    /// inline host, `host_vars/<host>`. Later ones win, whole values at a time.
    pub(crate) fn vars_of(&self, host: &str) -> Vars {
        let mut vars = Vars::new();
        let groups = self.sorted_groups_of(host);
        put(&mut vars, self.groups.get("all").map(|group| &group.vars));
        for name in &groups {
            put(&mut vars, self.groups.get(*name).map(|group| &group.vars));
        }
        // Inline, it is a property of the group and no variable of its hosts.
        vars.remove("ansible_group_priority");
        // A trap of Ansible's: group_vars/all beats the inline variables of every other group.
        put(&mut vars, self.group_files.get("all"));
        for name in &groups {
            put(&mut vars, self.group_files.get(*name));
        }
        put(&mut vars, self.host_vars.get(host));
        put(&mut vars, self.host_files.get(host));
        vars
    }

    /// Groups of a host but `all`, by depth, then priority, then name.
    fn sorted_groups_of(&self, host: &str) -> Vec<&str> {
        let depths: BTreeMap<&str, usize> = self.depths();
        let priority = |name: &str| {
            let value = self.groups.get(name).and_then(|group| group.vars.get("ansible_group_priority"));
            match value {
                Some(Value::Number(n)) => n.as_i64().unwrap_or(1),
                Some(Value::String(text)) => text.parse().unwrap_or(1),
                _ => 1,
            }
        };
        let mut groups: Vec<&str> = self.groups_of(host).into_iter().filter(|name| *name != "all").collect();
        groups.sort_by_key(|name| (depths.get(name).copied().unwrap_or(0), priority(name), *name));
        groups
    }
}

fn put(vars: &mut Vars, more: Option<&Vars>) {
    vars.extend(more.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
}

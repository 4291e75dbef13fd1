//! Which variable wins: Ansible's order, lowest first.

use crate::inventory::model::groups::{ALL, Inventory, Vars};

/// Variables of Ansible's own, which no inventory sets.
const INTERNAL: [&str; 13] = [
    "ansible_facts",
    "ansible_version",
    "ansible_check_mode",
    "ansible_diff_mode",
    "group_names",
    "groups",
    "hostvars",
    "inventory_dir",
    "inventory_file",
    "inventory_hostname",
    "inventory_hostname_short",
    "playbook_dir",
    "role_name",
];

impl Inventory {
    /// The variables of a host: inline `all`, inline groups, `group_vars/all`, `group_vars/<group>`,
    /// inline host, `host_vars/<host>`. Later ones win, whole values at a time.
    pub(crate) fn vars_of(&self, host: &str) -> Vars {
        let mut vars = Vars::new();
        let groups = self.sorted_groups_of(host);
        put(&mut vars, self.groups.get(ALL).map(|group| &group.vars));
        for name in &groups {
            put(&mut vars, self.groups.get(*name).map(|group| &group.vars));
        }
        // A trap of Ansible's: group_vars/all beats the inline variables of every other group.
        for names in [&[ALL][..], &groups] {
            for folder in self.beside.iter().chain([&self.playbook]) {
                for name in names {
                    put(&mut vars, folder.groups.get(*name));
                }
            }
        }
        put(&mut vars, self.hosts.get(host).map(|entry| &entry.vars));
        for folder in self.beside.iter().chain([&self.playbook]) {
            put(&mut vars, folder.hosts.get(host));
        }
        vars.retain(|name, _| !INTERNAL.contains(&name.as_str()));
        vars
    }

    /// Groups of a host but `all`, by depth, then priority, then name.
    fn sorted_groups_of(&self, host: &str) -> Vec<&str> {
        let mut groups: Vec<&str> = self.groups_of(host).into_iter().filter(|name| *name != ALL).collect();
        groups.sort_by_key(|name| self.groups.get(*name).map(|group| (group.depth, group.priority, *name)));
        groups
    }
}

fn put(vars: &mut Vars, more: Option<&Vars>) {
    vars.extend(more.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
}

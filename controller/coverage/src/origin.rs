//! Where and when something ran, and the ways to look at it: by host, group, role or label.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where and when something ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub host: String,
    /// What kind of process it was: `api`, `worker`; empty where nobody knows.
    pub role: String,
    /// What was going on: `startup`, or a name that somebody gave; empty where nobody knows.
    pub label: String,
}

/// Inventory group to its hosts.
pub type Groups = BTreeMap<String, BTreeSet<String>>;

/// A way to tell origins apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Host,
    Group,
    Role,
    Label,
}

impl Dimension {
    pub const ALL: [Self; 4] = [Self::Host, Self::Group, Self::Role, Self::Label];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Group => "group",
            Self::Role => "role",
            Self::Label => "label",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Host => "Host",
            Self::Group => "Group",
            Self::Role => "Role",
            Self::Label => "Label",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == word)
    }

    /// What this way of looking calls `origin`: several names where groups overlap.
    pub fn names_of<'a>(self, origin: &'a Origin, groups: &'a Groups) -> Vec<&'a str> {
        match self {
            Self::Host => vec![&origin.host],
            Self::Role => vec![&origin.role],
            Self::Label => vec![&origin.label],
            Self::Group => groups
                .iter()
                .filter(|(_, hosts)| hosts.contains(&origin.host))
                .map(|(name, _)| name.as_str())
                .collect(),
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

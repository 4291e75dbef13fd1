//! Whose host it is: two fleets that share one would take each other's hook, labels and data.

use serde::{Deserialize, Serialize};

/// The fleet that asks, or that has installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// `pulpcov_fleet` of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The place of the inventory, by which a person knows it.
    pub inventory: String,
}

/// What one fleet is to a host of another.
#[derive(Debug, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// The host's fleet has no name, and the inventories are two.
    OtherInventory,
    /// Another name, or none where the host's fleet has one.
    OtherName,
}

impl Fleet {
    /// Longest name.
    const LONGEST: usize = 64;

    /// Whether a text can be a fleet's name.
    pub fn is_name(text: &str) -> bool {
        !text.is_empty() && text.len() <= Self::LONGEST && !text.chars().any(char::is_control)
    }

    /// What a fleet that asks is to this one's host. A name protects: who has none, or another, is another.
    pub fn relation(&self, asking: &Self) -> Relation {
        match &self.name {
            Some(name) if asking.name.as_ref() == Some(name) => Relation::Same,
            Some(_) => Relation::OtherName,
            None if self.inventory == asking.inventory => Relation::Same,
            None => Relation::OtherInventory,
        }
    }

    /// What a person calls it.
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("the fleet {name} ({})", self.inventory),
            None => format!("the fleet of {}", self.inventory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_protects_and_without_one_it_is_the_inventory() {
        let fleet = |name: Option<&str>, inventory: &str| Fleet {
            name: name.map(str::to_owned),
            inventory: inventory.to_owned(),
        };
        let named = fleet(Some("a"), "/x");
        for (asking, wanted) in [
            (fleet(Some("a"), "/elsewhere"), Relation::Same),
            (fleet(Some("b"), "/x"), Relation::OtherName),
            (fleet(None, "/x"), Relation::OtherName),
        ] {
            assert_eq!(named.relation(&asking), wanted, "{asking:?}");
        }
        let unnamed = fleet(None, "/x");
        for (asking, wanted) in [
            (fleet(None, "/x"), Relation::Same),
            (fleet(Some("a"), "/x"), Relation::Same),
            (fleet(None, "/y"), Relation::OtherInventory),
            (fleet(Some("a"), "/y"), Relation::OtherInventory),
        ] {
            assert_eq!(unnamed.relation(&asking), wanted, "{asking:?}");
        }
    }
}

//! Whose host it is: two fleets that share one would take each other's hook, labels and data.

use serde::{Deserialize, Serialize};

/// The fleet that asks, or that has installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// `pulpcov_fleet` of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The inventory itself, as a person knows it.
    pub inventory: String,
}

/// What one fleet is to a host of another.
#[derive(Debug, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// Nothing proves that it is another, but that it has another inventory: a second checkout has that, too.
    Doubtful,
    Other,
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
        match (&self.name, &asking.name) {
            (Some(name), asking) if asking.as_ref() == Some(name) => Relation::Same,
            (Some(_), _) => Relation::Other,
            (None, _) if self.inventory == asking.inventory => Relation::Same,
            (None, _) => Relation::Doubtful,
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
    fn a_name_protects_and_an_inventory_only_tells() {
        let fleet = |name: Option<&str>, inventory: &str| Fleet {
            name: name.map(str::to_owned),
            inventory: inventory.to_owned(),
        };
        let named = fleet(Some("a"), "/x");
        assert_eq!(named.relation(&fleet(Some("a"), "/elsewhere")), Relation::Same);
        assert_eq!(named.relation(&fleet(Some("b"), "/x")), Relation::Other);
        assert_eq!(named.relation(&fleet(None, "/x")), Relation::Other);
        let unnamed = fleet(None, "/x");
        assert_eq!(unnamed.relation(&fleet(None, "/x")), Relation::Same);
        assert_eq!(unnamed.relation(&fleet(Some("a"), "/x")), Relation::Same);
        assert_eq!(unnamed.relation(&fleet(None, "/y")), Relation::Doubtful);
    }
}

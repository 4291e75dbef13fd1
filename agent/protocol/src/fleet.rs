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
    /// SHA-256 of its bytes, in hexadecimal digits: a second checkout has them, too. Nothing where it is no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What one fleet is to a host of another.
#[derive(Debug, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// Neither has a name, and their inventories differ in place and bytes.
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
            None if self.inventory == asking.inventory || self.has_bytes_of(asking) => Relation::Same,
            None => Relation::OtherInventory,
        }
    }

    /// Who has the host after an install of `asking`, which is the same: a copy of its inventory at another place
    /// leaves the place that is known.
    #[must_use]
    pub fn renewed(self, asking: Self) -> Self {
        if self.name.is_none() && asking.name.is_none() && self.has_bytes_of(&asking) { self } else { asking }
    }

    fn has_bytes_of(&self, other: &Self) -> bool {
        self.digest.is_some() && self.digest == other.digest
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

    fn fleet(name: Option<&str>, inventory: &str, digest: Option<&str>) -> Fleet {
        Fleet {
            name: name.map(str::to_owned),
            inventory: inventory.to_owned(),
            digest: digest.map(str::to_owned),
        }
    }

    #[test]
    fn a_name_protects_and_without_one_it_is_the_inventory() {
        let named = fleet(Some("a"), "/x", Some("1"));
        for (asking, wanted) in [
            (fleet(Some("a"), "/elsewhere", None), Relation::Same),
            (fleet(Some("b"), "/x", Some("1")), Relation::OtherName),
            (fleet(None, "/x", Some("1")), Relation::OtherName),
        ] {
            assert_eq!(named.relation(&asking), wanted, "{asking:?}");
        }
        let unnamed = fleet(None, "/x", Some("1"));
        for (asking, wanted) in [
            (fleet(None, "/x", Some("2")), Relation::Same),
            (fleet(Some("a"), "/x", None), Relation::Same),
            (fleet(None, "/y", Some("1")), Relation::Same),
            (fleet(None, "/y", Some("2")), Relation::OtherInventory),
            (fleet(None, "/y", None), Relation::OtherInventory),
            (fleet(Some("a"), "/y", Some("2")), Relation::OtherInventory),
        ] {
            assert_eq!(unnamed.relation(&asking), wanted, "{asking:?}");
        }
        assert_eq!(fleet(None, "/x", None).relation(&fleet(None, "/y", None)), Relation::OtherInventory);
    }

    #[test]
    fn a_copy_of_an_inventory_does_not_become_the_owner() {
        let own = fleet(None, "/x", Some("1"));
        assert_eq!(own.clone().renewed(fleet(None, "/y", Some("1"))), own);
        for asking in [fleet(None, "/x", Some("2")), fleet(Some("a"), "/y", Some("1"))] {
            assert_eq!(own.clone().renewed(asking.clone()), asking);
        }
    }
}

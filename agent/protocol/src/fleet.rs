//! Whose host it is: two fleets that share one would take each other's hook, labels and data.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::profile::{Profile, full_unit_name};

/// The fleet that asks, or that has installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// `pulpcov_fleet` of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The inventory itself, as a person knows it.
    pub inventory: String,
    /// What it records on this host; nothing where its inventory does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
}

/// What is recorded on a host, as far as who tells of it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The profile's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its units; empty where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
}

impl Service {
    /// What a profile records.
    pub fn of(profile: &Profile) -> Self {
        Self { profile: Some(profile.name.clone()), units: profile.units.clone() }
    }

    /// What an inventory's own words tell; nothing where they tell nothing.
    pub fn told(profile: Option<String>, units: Vec<String>) -> Option<Self> {
        (profile.is_some() || !units.is_empty()).then_some(Self { profile, units })
    }

    /// Whether both cannot be one: profiles of two names, or no unit in common.
    pub fn is_other(&self, than: &Self) -> bool {
        let named = self.profile.is_some() && than.profile.is_some() && self.profile != than.profile;
        let full = |units: &[String]| units.iter().map(|unit| full_unit_name(unit)).collect::<BTreeSet<_>>();
        let known = !self.units.is_empty() && !than.units.is_empty();
        named || (known && full(&self.units).is_disjoint(&full(&than.units)))
    }
}

/// What one fleet is to a host of another.
#[derive(Debug, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// Nothing proves that it is another, but that it has another inventory: a second checkout has that, too.
    Doubtful,
    /// Another inventory, and another service.
    OtherService,
    Other,
}

impl Fleet {
    /// Longest name.
    const LONGEST: usize = 64;

    /// Whether a text can be a fleet's name.
    pub fn is_name(text: &str) -> bool {
        !text.is_empty() && text.len() <= Self::LONGEST && !text.chars().any(char::is_control)
    }

    /// What a fleet that asks is to this one's host, which records `recorded`. A name protects: who has none, or
    /// another, is another.
    pub fn relation(&self, recorded: &Service, asking: &Self) -> Relation {
        let is_other = |service: &Service| service.is_other(recorded);
        match (&self.name, &asking.name) {
            (Some(name), asking) if asking.as_ref() == Some(name) => Relation::Same,
            (Some(_), _) => Relation::Other,
            (None, _) if self.inventory == asking.inventory => Relation::Same,
            (None, _) if asking.service.as_ref().is_some_and(is_other) => Relation::OtherService,
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
            service: None,
        };
        let recorded = Service { profile: Some("shop".to_owned()), units: vec!["shop.service".to_owned()] };
        let relation = |own: &Fleet, asking: &Fleet| own.relation(&recorded, asking);
        let named = fleet(Some("a"), "/x");
        assert_eq!(relation(&named, &fleet(Some("a"), "/elsewhere")), Relation::Same);
        assert_eq!(relation(&named, &fleet(Some("b"), "/x")), Relation::Other);
        assert_eq!(relation(&named, &fleet(None, "/x")), Relation::Other);
        let unnamed = fleet(None, "/x");
        assert_eq!(relation(&unnamed, &fleet(None, "/x")), Relation::Same);
        assert_eq!(relation(&unnamed, &fleet(Some("a"), "/x")), Relation::Same);
        assert_eq!(relation(&unnamed, &fleet(None, "/y")), Relation::Doubtful);
    }
    #[test]
    fn another_service_of_an_unnamed_fleet_is_told_by_profile_or_units() {
        let service = |profile: Option<&str>, units: &[&str]| {
            Service::told(profile.map(str::to_owned), units.iter().map(|&unit| unit.to_owned()).collect())
        };
        let recorded = service(Some("generic"), &["devpi"]).expect("it says something");
        assert_eq!(service(None, &[]), None);
        let own = Fleet { name: None, inventory: "/x".to_owned(), service: None };
        let relation = |inventory: &str, service| {
            let asking = Fleet { name: None, inventory: inventory.to_owned(), service };
            own.relation(&recorded, &asking)
        };
        for (asking, wanted) in [
            (service(None, &[]), Relation::Doubtful),
            (service(Some("generic"), &[]), Relation::Doubtful),
            (service(Some("generic"), &["devpi.service", "more"]), Relation::Doubtful),
            (service(Some("generic"), &["ara"]), Relation::OtherService),
            (service(None, &["ara"]), Relation::OtherService),
            (service(Some("pulp3"), &[]), Relation::OtherService),
        ] {
            assert_eq!(relation("/y", asking.clone()), wanted, "{asking:?}");
            assert_eq!(relation("/x", asking), Relation::Same);
        }
    }
}

//! Packages that no host of a fleet has: most likely a name that is mistyped, and nothing of it would be recorded.

use std::collections::{BTreeMap, BTreeSet};

/// What a host was asked to measure, and what of it it cannot import; nothing where it cannot tell.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Packages {
    pub(super) wanted: Vec<String>,
    pub(super) missing: Option<Vec<String>>,
}

/// Packages that every host which is to measure them says it has not. A host that did not answer, or cannot tell,
/// may have any of its own.
pub(super) fn everywhere<'a>(hosts: impl IntoIterator<Item = &'a Packages>) -> BTreeSet<&'a str> {
    let mut nowhere: BTreeMap<&str, bool> = BTreeMap::new();
    for host in hosts {
        for package in &host.wanted {
            let is_missing = host.missing.as_ref().is_some_and(|missing| missing.contains(package));
            *nowhere.entry(package).or_insert(true) &= is_missing;
        }
    }
    nowhere.into_iter().filter(|(_, nowhere)| *nowhere).map(|(package, _)| package).collect()
}

/// As a person would say it.
pub(super) fn words(packages: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = packages.iter().copied().collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    format!(
        "no Python of any host finds the package{plural} {}: unless the service itself puts it on its path, nothing of that is recorded (pulpcov_packages, or the profile)",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(wanted: &[&str], missing: Option<&[&str]>) -> Packages {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Packages { wanted: owned(wanted), missing: missing.map(owned) }
    }

    #[test]
    fn a_package_that_one_host_may_have_is_not_missing() {
        let misses = host(&["shop", "thign"], Some(&["thign", "shop"]));
        let has_shop = host(&["shop", "thign"], Some(&["thign"]));
        assert_eq!(everywhere([&misses, &has_shop]), BTreeSet::from(["thign"]));
        assert_eq!(everywhere([&misses]), BTreeSet::from(["shop", "thign"]));
        let cannot_tell = host(&["thign"], None);
        assert_eq!(everywhere([&misses, &cannot_tell]), BTreeSet::from(["shop"]));
        // Another profile: it was not asked for that package.
        assert_eq!(everywhere([&misses, &host(&["shop"], Some(&[]))]), BTreeSet::from(["thign"]));
        assert!(everywhere([]).is_empty());
    }
}

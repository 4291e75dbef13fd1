//! By which place an inventory is known: hosts keep it, and refuse whoever comes from another. The Ansible collection
//! has the same rule.

use std::path::{Path, PathBuf};

use crate::stored_path::distinct;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the inventory {} is neither a file nor a folder, and has no place by which hosts could know it", .0.display())]
pub(crate) struct NoPlace(PathBuf);

/// The place of an inventory's sources: where each really is, whatever link or `..` leads to it.
pub(crate) fn of(sources: &[PathBuf]) -> Result<String, NoPlace> {
    for source in sources {
        if source.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(NoPlace(source.clone()));
        }
    }
    Ok(told(sources))
}

/// The same of what need not be on this machine: then it is what it is called.
pub(crate) fn told(sources: &[impl AsRef<Path>]) -> String {
    sources.iter().map(|source| of_one(source.as_ref())).collect::<Vec<_>>().join(" and ")
}

fn of_one(source: &Path) -> String {
    if let Ok(real) = source.canonicalize() {
        return distinct(&real);
    }
    let text = distinct(source);
    if !text.contains(',') {
        return text;
    }
    // Hosts with commas between them: their order and a comma at the end say nothing.
    let mut hosts: Vec<&str> = text.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    hosts.sort_unstable();
    hosts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_an_inventory_is_one_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("x")).expect("made");
        std::fs::write(path("x/hosts.yml"), "all:\n").expect("written");
        std::fs::write(path("x/other.yml"), "all:\n").expect("written");
        std::os::unix::fs::symlink("x", path("link")).expect("a link");
        let place = |name: &str| of(&[path(name)]);
        for way in ["x/../x/hosts.yml", "link/hosts.yml", "./x//hosts.yml"] {
            assert_eq!(place(way), place("x/hosts.yml"), "{way}");
        }
        assert_eq!(place("link/"), place("x"));
        assert_ne!(place("x/other.yml"), place("x/hosts.yml"));
        assert!(of(&[path("x"), path("x/other.yml")]).is_ok_and(|place| place.contains(" and /")));
        assert_eq!(of(&["/dev/null".into()]), Err(NoPlace("/dev/null".into())));
    }

    #[test]
    fn what_is_not_here_is_known_as_it_is_called() {
        assert_eq!(told(&["/nowhere/hosts.yml"]), "/nowhere/hosts.yml");
        assert_eq!(told(&["h2, h1,"]), "h1,h2");
        assert_eq!(of(&["h1,h2".into()]), of(&["h2,h1,".into()]));
    }
}

//! By which place an inventory is known: hosts keep it, and refuse whoever comes from another. The Ansible collection
//! has the same rule.

use std::path::PathBuf;

use crate::output::stored_path::distinct;

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
    Ok(of_any(sources))
}

/// The same, also of pipes: for who has a name besides.
pub(crate) fn of_any(sources: &[PathBuf]) -> String {
    let of_one = |source: &PathBuf| match source.canonicalize() {
        Ok(real) => distinct(&real),
        Err(_) => sorted(distinct(source)),
    };
    sources.iter().map(of_one).collect::<Vec<_>>().join(" and ")
}

/// The place that hosts know already, as they tell it: where it was, something else may be by now.
pub(crate) fn told(places: &[String]) -> String {
    let of_one = |place: &String| if place.starts_with('/') { place.clone() } else { sorted(place.clone()) };
    places.iter().map(of_one).collect::<Vec<_>>().join(" and ")
}

/// Hosts with commas between them: their order and a comma at the end say nothing.
fn sorted(text: String) -> String {
    if !text.contains(',') {
        return text;
    }
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
        // A link stands now where it was.
        let link = path("link").to_string_lossy().into_owned();
        assert_eq!(told(std::slice::from_ref(&link)), link);
        assert_ne!(place("x/other.yml"), place("x/hosts.yml"));
        assert!(of(&[path("x"), path("x/other.yml")]).is_ok_and(|place| place.contains(" and /")));
        assert_eq!(of(&["/dev/null".into()]), Err(NoPlace("/dev/null".into())));
    }

    #[test]
    fn what_is_not_here_is_known_as_it_is_called() {
        let told = |place: &str| told(&[place.to_owned()]);
        assert_eq!(told("/nowhere/hosts.yml"), "/nowhere/hosts.yml");
        assert_eq!(told("h2, h1,"), "h1,h2");
        assert_eq!(told("/srv/b,a/hosts.yml"), "/srv/b,a/hosts.yml");
        assert_eq!(of(&["h1,h2".into()]), of(&["h2,h1,".into()]));
    }
}

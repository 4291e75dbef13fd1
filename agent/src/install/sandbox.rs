//! What a unit's sandbox does to the data directory, and the drop-in that opens it again.
//!
//! Pure: systemd's properties in, a verdict out. The proof of measurement has the last word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Properties of a unit that the verdict needs.
pub(crate) const PROPERTIES: [&str; 11] = [
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "DynamicUser",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "InaccessiblePaths",
    "TemporaryFileSystem",
    "BindPaths",
    "RootDirectory",
    "RootImage",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SandboxAccess {
    /// The unit sees the data directory as it is.
    Open,
    /// A drop-in with this line makes it so; the reason is for a person. systemd makes a missing mount
    /// point, and leaves it: we make it, so that it can go again.
    Needs { line: String, reason: String, mount_point: Option<PathBuf> },
    /// No drop-in helps.
    Blocked(String),
}

/// Where the drop-in of a unit goes. A template's instances share one, also those to come.
pub(crate) fn drop_in(unit: &str) -> PathBuf {
    let of = match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((name, _)), Some((_, suffix))) => format!("{name}@.{suffix}"),
        _ => unit.to_owned(),
    };
    PathBuf::from(format!("/etc/systemd/system/{of}.d/50-pulpcov.conf"))
}

pub(crate) fn drop_in_text(line: &str) -> String {
    format!("# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n[Service]\n{line}\n")
}

/// What the properties of a unit mean for the data directory and for the hook's own folder.
pub(crate) fn judge(
    properties: &BTreeMap<String, String>,
    data_root: &Path,
    lib_root: &Path,
) -> SandboxAccess {
    let get = |name: &str| properties.get(name).map(String::as_str).unwrap_or_default();
    for name in ["RootDirectory", "RootImage"] {
        if !get(name).is_empty() && get(name) != "/" {
            return SandboxAccess::Blocked(format!("it has a root of its own ({name}={})", get(name)));
        }
    }
    for (path, what) in [(data_root, "the data directory"), (lib_root, "the hook")] {
        if let Some(over) = covering(get("InaccessiblePaths"), path) {
            return SandboxAccess::Blocked(format!(
                "InaccessiblePaths={over} hides {what} {}",
                path.display()
            ));
        }
        if get("ProtectHome") == "yes" && is_home(path) {
            return SandboxAccess::Blocked(format!("ProtectHome=yes hides {what} {}", path.display()));
        }
    }
    if hidden(&get, lib_root).is_some() {
        return SandboxAccess::Blocked(format!("its sandbox hides the hook {}", lib_root.display()));
    }
    let root = data_root.display();
    if let Some(reason) = hidden(&get, data_root) {
        // The last mount over a path wins, and the deepest one is made last.
        let own = covering(get("BindPaths"), data_root).is_some_and(|found| Path::new(&found) == data_root);
        let mount_point = behind_bind(get("BindPaths"), data_root);
        return if own {
            SandboxAccess::Open
        } else {
            SandboxAccess::Needs { line: format!("BindPaths={root}"), reason, mount_point }
        };
    }
    let Some((reason, depth)) = read_only(&get, data_root) else { return SandboxAccess::Open };
    // Among the paths that a unit names, the longest prefix decides.
    let writable = ["ReadWritePaths", "BindPaths"]
        .iter()
        .filter_map(|name| covering(get(name), data_root))
        .any(|path| path.len() >= depth);
    if writable {
        SandboxAccess::Open
    } else {
        SandboxAccess::Needs { line: format!("ReadWritePaths={root}"), reason, mount_point: None }
    }
}

/// Why a path shows something else, or nothing.
fn hidden<'a>(get: &impl Fn(&str) -> &'a str, path: &Path) -> Option<String> {
    if let Some(over) = covering(get("TemporaryFileSystem"), path) {
        return Some(format!("TemporaryFileSystem={over}"));
    }
    if let Some(over) = covering(get("BindPaths"), path) {
        return Some(format!("BindPaths puts another folder on {over}"));
    }
    if get("PrivateTmp") == "yes" && ["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp)) {
        return Some("PrivateTmp=yes".to_owned());
    }
    (get("ProtectHome") == "tmpfs" && is_home(path)).then(|| "ProtectHome=tmpfs".to_owned())
}

/// Why a path cannot be written to, and how deep in the tree that was said.
fn read_only<'a>(get: &impl Fn(&str) -> &'a str, path: &Path) -> Option<(String, usize)> {
    if let Some(over) = covering(get("ReadOnlyPaths"), path) {
        let depth = over.len() + 1;
        return Some((format!("ReadOnlyPaths={over}"), depth));
    }
    let system = ["/usr", "/boot", "/efi", "/etc"].iter().any(|top| path.starts_with(top));
    match get("ProtectSystem") {
        "strict" => Some(("ProtectSystem=strict".to_owned(), 1)),
        protect @ ("full" | "yes") if system => Some((format!("ProtectSystem={protect}"), 1)),
        _ if get("DynamicUser") == "yes" => Some(("DynamicUser=yes".to_owned(), 1)),
        _ if get("ProtectHome") == "read-only" && is_home(path) => {
            Some(("ProtectHome=read-only".to_owned(), 1))
        }
        _ => None,
    }
}

fn is_home(path: &Path) -> bool {
    ["/home", "/root", "/run/user"].iter().any(|home| path.starts_with(home))
}

/// The longest path of a list of systemd's that lies over `path`. `-` and `+` may stand before one,
/// `:options` behind; in a bind, the destination counts.
fn covering(list: &str, path: &Path) -> Option<String> {
    list.split_whitespace()
        .map(|word| {
            let word = word.trim_start_matches(['-', '+']);
            let mut parts = word.split(':');
            let source = parts.next().unwrap_or(word);
            parts.next().filter(|second| second.starts_with('/')).unwrap_or(source).to_owned()
        })
        .filter(|over| path.starts_with(over))
        .max_by_key(String::len)
}

/// Where on the host a path lies that a bind shows in another place.
fn behind_bind(list: &str, path: &Path) -> Option<PathBuf> {
    list.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches(['-', '+']).split(':');
        let (source, shown) = (parts.next()?, parts.next().filter(|second| second.starts_with('/'))?);
        Some(Path::new(source).join(path.strip_prefix(shown).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(properties: &[(&str, &str)]) -> SandboxAccess {
        let properties = properties.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        judge(&properties, Path::new("/srv/pulp_coverage"), Path::new("/usr/local/lib/pulpcov"))
    }

    fn needs(verdict: &SandboxAccess) -> &str {
        match verdict {
            SandboxAccess::Needs { line, .. } => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_units_need_nothing() {
        assert_eq!(verdict(&[]), SandboxAccess::Open);
        assert_eq!(verdict(&[("ProtectSystem", "full"), ("PrivateTmp", "yes")]), SandboxAccess::Open);
        assert_eq!(verdict(&[("ReadOnlyPaths", "/etc /srv/other")]), SandboxAccess::Open);
        assert_eq!(
            verdict(&[("ProtectSystem", "strict"), ("ReadWritePaths", "/var/lib/pulp /srv")]),
            SandboxAccess::Open
        );
    }

    #[test]
    fn what_is_read_only_is_opened_for_writing() {
        for properties in [
            &[("ProtectSystem", "strict")][..],
            &[("DynamicUser", "yes")],
            &[("ReadOnlyPaths", "-/srv")],
            &[("ReadOnlyPaths", "/"), ("ReadWritePaths", "/var")],
            &[("ReadOnlyPaths", "/srv/pulp_coverage"), ("ReadWritePaths", "/srv")],
        ] {
            assert_eq!(needs(&verdict(properties)), "ReadWritePaths=/srv/pulp_coverage", "{properties:?}");
        }
    }

    #[test]
    fn what_is_hidden_is_bound_or_refused() {
        assert_eq!(needs(&verdict(&[("TemporaryFileSystem", "/srv:ro")])), "BindPaths=/srv/pulp_coverage");
        assert_eq!(
            needs(&verdict(&[("BindPaths", "/var/lib/x/srv:/srv:rbind")])),
            "BindPaths=/srv/pulp_coverage"
        );
        assert_eq!(
            verdict(&[("TemporaryFileSystem", "/srv"), ("BindPaths", "/srv/pulp_coverage")]),
            SandboxAccess::Open
        );
        let bound = verdict(&[("BindPaths", "/var/lib/x/srv:/srv:rbind")]);
        let wanted = Path::new("/var/lib/x/srv/pulp_coverage");
        assert!(
            matches!(&bound, SandboxAccess::Needs { mount_point: Some(path), .. } if path == wanted),
            "{bound:?}"
        );
        for properties in [
            [("InaccessiblePaths", "/srv")],
            [("RootDirectory", "/chroot")],
            [("InaccessiblePaths", "/usr/local")],
        ] {
            assert!(matches!(verdict(&properties), SandboxAccess::Blocked(_)), "{properties:?}");
        }
    }

    #[test]
    fn instances_share_the_drop_in_of_their_template() {
        assert_eq!(
            drop_in("pulpcore-worker@1.service"),
            Path::new("/etc/systemd/system/pulpcore-worker@.service.d/50-pulpcov.conf")
        );
        assert_eq!(
            drop_in("pulpcore-api.service"),
            Path::new("/etc/systemd/system/pulpcore-api.service.d/50-pulpcov.conf")
        );
    }
}

//! Where the measured packages lie, by what processes say of themselves, and which module a measured path is.
//!
//! Records lie in a world-writable folder: what one says counts only if it looks like that package's place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::text::wildcard;

use crate::host::owners::Trusted;
use crate::receipt::Config;
use crate::recorder::ledger::Ledger;

#[derive(Debug, Default)]
pub(crate) struct PackagePlaces {
    /// Package to the files that are its own code: `/opt/shop/shop/__init__.py`.
    pub(crate) files: BTreeMap<String, BTreeSet<String>>,
    /// Package to its folders: a namespace and an extended path have several.
    pub(crate) folders: BTreeMap<String, BTreeSet<String>>,
    /// Whether they are paths of another root than this host's.
    is_elsewhere: bool,
    /// What does not count of what they say, each place with the reason.
    pub(crate) refused: BTreeMap<String, String>,
}

impl PackagePlaces {
    /// What processes of an interpreter say, where nobody else can have put it; of one whose files are not this host's,
    /// `trusted` is nobody.
    pub(crate) fn of(
        config: &Config,
        ledger: &Ledger,
        python: &Interpreter,
        trusted: Option<&Trusted>,
    ) -> Self {
        let mut places = Self { is_elsewhere: trusted.is_none(), ..Self::default() };
        // Many processes say the same.
        let mut judged: BTreeMap<String, bool> = BTreeMap::new();
        let mut counts = |package: &String, path: &String| {
            let is_known = config.packages.iter().any(|known| known == package);
            let judge = || trusted.is_none_or(|trusted| trusted.is_sure(Path::new(path)));
            is_known && *judged.entry(path.clone()).or_insert_with(judge)
        };
        for (package, path) in ledger.package_places(&python.prefix) {
            let tail = package.replace('.', "/");
            let is_its_own =
                path.ends_with(&format!("/{tail}/__init__.py")) || path.ends_with(&format!("/{tail}.py"));
            if is_its_own && counts(package, path) {
                places.files.entry(package.clone()).or_default().insert(path.clone());
            }
        }
        for (package, folder) in ledger.package_folders(&python.prefix) {
            if folder.ends_with(&format!("/{}", package.replace('.', "/"))) && counts(package, folder) {
                places.folders.entry(package.clone()).or_default().insert(folder.clone());
            }
        }
        for (path, _) in judged.into_iter().filter(|(_, counts)| !counts) {
            let reason = trusted.and_then(|trusted| trusted.distrusts(Path::new(&path)));
            places.refused.extend(reason.map(|reason| (path, reason)));
        }
        places
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for (all, more) in [(&mut self.files, other.files), (&mut self.folders, other.folders)] {
            for (package, paths) in more {
                all.entry(package).or_default().extend(paths);
            }
        }
    }

    /// The path of a measured file below the folder that its package is imported from; nothing where it is of none
    /// of the packages.
    pub(crate) fn module_path(&self, path: &str, packages: &[String]) -> Option<String> {
        if !is_python(path) {
            return None;
        }
        let path = Path::new(path);
        packages
            .iter()
            .find_map(|package| self.below_folder(package, path).or_else(|| self.by_name(package, path)))
    }

    /// By a folder that a process has imported the package from, also through a link.
    fn below_folder(&self, package: &str, path: &Path) -> Option<String> {
        let own = self.files.get(package).into_iter().flatten();
        let own = own.filter_map(|file| file.strip_suffix("/__init__.py").map(str::to_owned));
        let folders = own.chain(self.folders.get(package).into_iter().flatten().cloned());
        folders.into_iter().find_map(|folder| {
            let real = std::fs::canonicalize(&folder).ok().filter(|_| !self.is_elsewhere);
            let real = real.unwrap_or_else(|| folder.clone().into());
            let rest = path.strip_prefix(&folder).or_else(|_| path.strip_prefix(real)).ok()?;
            Some(format!("{}/{}", package.replace('.', "/"), rest.to_str()?))
        })
    }

    /// By the names of its folders: `shop/orders.py` of `/opt/shop/shop/orders.py`; or as the one file of a module.
    fn by_name(&self, package: &str, path: &Path) -> Option<String> {
        let parts: Vec<&str> = path.to_str()?.split('/').collect();
        let name: Vec<&str> = package.split('.').collect();
        let (file, folders) = parts.split_last()?;
        let (module, above) = name.split_last()?;
        let is_module = Path::new(file).file_stem().is_some_and(|stem| stem == *module);
        // A module of its own may well lie in a folder of its name.
        if is_module
            && folders.ends_with(above)
            && (self.is_elsewhere || !path.with_file_name("__init__.py").exists())
        {
            return Some(format!("{}.py", name.join("/")));
        }
        let last = folders.windows(name.len()).rposition(|window| window == name.as_slice());
        Some(parts.get(last?..)?.join("/"))
    }
}

/// Whether a measured path is a Python file by its name: templates and the like have compiled code too.
pub(crate) fn is_python(path: &str) -> bool {
    let path = Path::new(path);
    path.is_absolute() && path.extension().is_some_and(|end| end == "py" || end == "pyw")
}

/// Whether a module's path is of a package.
pub(crate) fn is_of(module_path: &str, package: &str) -> bool {
    let name = package.replace('.', "/");
    module_path.strip_prefix(&name).is_some_and(|rest| rest.starts_with('/') || rest == ".py")
}

/// Whether the profile leaves a module's path out, by patterns of `*` and `?`.
pub(crate) fn is_omitted(module_path: &str, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| wildcard(pattern, module_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module_path(path: &str, packages: &[&str]) -> Option<String> {
        let packages: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
        PackagePlaces::default().module_path(path, &packages)
    }

    #[test]
    fn a_measured_path_is_a_module_of_the_package_that_its_folders_name() {
        for (path, package, wanted) in [
            ("/opt/shop/shop/orders.py", "shop", Some("shop/orders.py")),
            ("/srv/releases/7/space/api/views.py", "space", Some("space/api/views.py")),
            ("/opt/solo/solo.py", "solo", Some("solo.py")),
            ("/opt/one.py", "one", Some("one.py")),
            ("/opt/app.pyz/shop/x.py", "shop", Some("shop/x.py")),
            ("/x/a/b/c.py", "a.b", Some("a/b/c.py")),
            ("/x/a/b.py", "a.b", Some("a/b.py")),
            ("/x/other/b.py", "a.b", None),
            ("/etc/shadow", "etc", None),
            ("shop/x.py", "shop", None),
        ] {
            assert_eq!(module_path(path, &[package]).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn folders_of_processes_say_it_better_than_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().join("shop-7");
        std::fs::create_dir(&real).expect("a folder");
        std::os::unix::fs::symlink(&real, folder.path().join("shop")).expect("a link");
        let mut places = PackagePlaces::default();
        let link = folder.path().join("shop").to_string_lossy().into_owned();
        places.folders.entry("shop".into()).or_default().insert(link);
        let path = std::fs::canonicalize(&real).expect("there").join("api/x.py");
        let found = places.module_path(&path.to_string_lossy(), &["shop".to_owned()]);
        assert_eq!(found.as_deref(), Some("shop/api/x.py"));
    }

    #[test]
    fn patterns_are_pythons() {
        let omitted = |path: &str| is_omitted(path, &["*/tests/*".to_owned(), "a?.py".to_owned()]);
        assert!(omitted("shop/tests/x.py") && omitted("shop/a/tests/b/x.py") && omitted("ab.py"));
        assert!(!omitted("tests/x.py") && !omitted("abc.py"));
    }
}

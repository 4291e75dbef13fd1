//! Names of a fleet's files as the repository has them: CI servers know no other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pulpcov_coverage::aliases::{AliasError, Aliases, FileSystem};
use pulpcov_coverage::config::Config;
use pulpcov_coverage::fleet::SourceId;
use pulpcov_coverage::report::{FileReport, Report};

use super::Output;
use crate::exit::usage;

/// Whatever a rule leads to is there: on the CI server, if not here.
struct Repository;

impl FileSystem for Repository {
    fn exists(&self, _: &str) -> bool {
        true
    }

    fn canonical(&self, path: &str) -> String {
        path.to_owned()
    }

    fn relative(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// What leads from a file of a host to one of the repository.
pub(super) struct Naming<'a> {
    aliases: Aliases<Repository>,
    strip: Option<&'a str>,
    add: Option<&'a str>,
}

impl<'a> Naming<'a> {
    /// Nothing where names stay those of modules.
    pub(super) fn of(output: &'a Output, config: &Config) -> Result<Option<Self>, AliasError> {
        let folder = |text: &'a Option<String>| text.as_deref().map(|text| text.trim_end_matches('/'));
        let (strip, add) = (folder(&output.strip_prefix), folder(&output.add_prefix));
        if config.paths.is_empty() && strip.is_none() && add.is_none() {
            return Ok(None);
        }
        let mut aliases = Aliases::new(true, Repository);
        for places in &config.paths {
            if let Some((result, patterns)) = places.split_first() {
                for pattern in patterns {
                    aliases.add(pattern, result)?;
                }
            }
        }
        Ok(Some(Self { aliases, strip, add }))
    }

    fn name(&mut self, file: &FileReport, places: Option<&BTreeSet<String>>) -> String {
        let module_path = file.module_path();
        let mapped = places.into_iter().flatten().find_map(|place| {
            let mapped = self.aliases.map(place);
            (mapped != *place).then_some(mapped)
        });
        let name = mapped.unwrap_or_else(|| module_path.to_owned());
        let below = |strip| name.strip_prefix(strip).and_then(|rest| rest.strip_prefix('/'));
        let name = self.strip.and_then(below).unwrap_or(&name);
        // What tells variants apart.
        let variant = file.name.strip_prefix(module_path).unwrap_or_default();
        match self.add {
            Some(add) => format!("{add}/{name}{variant}"),
            None => format!("{name}{variant}"),
        }
    }

    /// The report with these names.
    pub(super) fn rename(
        mut self,
        report: &Report,
        places: &BTreeMap<SourceId, BTreeSet<String>>,
    ) -> Result<Report> {
        let mut report = report.clone();
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for file in &mut report.files {
            let id = SourceId { module_path: file.module_path().to_owned(), sha256: file.sha256.clone() };
            let name = self.name(file, places.get(&id));
            let old = std::mem::replace(&mut file.name, name.clone());
            if let Some(other) = taken.insert(name.clone(), old.clone()) {
                return Err(usage(anyhow::anyhow!(
                    "{other} and {old} would both be {name}: --strip-prefix, --add-prefix or [paths] makes one of two"
                )));
            }
        }
        report.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming<'a>(paths: &[&[&str]], strip: Option<&'a str>, add: Option<&'a str>) -> Naming<'a> {
        let mut aliases = Aliases::new(true, Repository);
        for rule in paths {
            aliases.add(rule[1], rule[0]).expect("a rule");
        }
        Naming { aliases, strip, add }
    }

    fn report(names: &[(&str, &str)]) -> Report {
        let file = |&(name, sha256): &(&str, &str)| FileReport {
            name: name.to_owned(),
            sha256: sha256.to_owned(),
            ..FileReport::default()
        };
        Report { files: names.iter().map(file).collect(), ..Report::default() }
    }

    fn names(report: &Report) -> Vec<&str> {
        report.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn prefixes_go_and_come_and_variants_stay_apart() {
        let report =
            report(&[("lib/shop/a.py", ""), ("library/b.py", ""), ("lib/shop/c.py@12345678", "123456789")]);
        let renamed = naming(&[], Some("lib"), Some("src")).rename(&report, &BTreeMap::new()).expect("names");
        assert_eq!(names(&renamed), ["src/library/b.py", "src/shop/a.py", "src/shop/c.py@12345678"]);
    }

    #[test]
    fn paths_are_of_hosts() {
        let report = report(&[("shop/a.py", "aa"), ("other/b.py", "bb")]);
        let id = SourceId { module_path: "shop/a.py".to_owned(), sha256: "aa".to_owned() };
        let places = BTreeMap::from([(
            id,
            BTreeSet::from(["/srv/x/shop/a.py".to_owned(), "/opt/shop/shop/a.py".to_owned()]),
        )]);
        let rule: &[&str] = &["services/shop", "/opt/shop"];
        let renamed = naming(&[rule], None, None).rename(&report, &places).expect("names");
        assert_eq!(names(&renamed), ["other/b.py", "services/shop/shop/a.py"]);
    }

    #[test]
    fn two_files_do_not_become_one() {
        let report = report(&[("lib/a.py", "1"), ("a.py", "2")]);
        let error = naming(&[], Some("lib"), None).rename(&report, &BTreeMap::new()).expect_err("one of two");
        assert!(error.to_string().contains("lib/a.py and a.py would both be a.py"), "{error}");
    }
}

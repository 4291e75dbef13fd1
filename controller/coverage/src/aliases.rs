//! coverage.py's `[paths]`: the same source tree at other places on other machines.

use pulpcov_data_file::data::is_absolute_anywhere;
use regex::Regex;

use crate::glob::{self, GlobError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    #[error("[paths] pattern {0:?} must not end with wildcards")]
    EndsWithWildcard(String),
    #[error("[paths]: {0}")]
    Glob(#[from] GlobError),
}

struct Alias {
    pattern: String,
    regex: Regex,
    result: String,
}

/// What a path must be asked of the machine. Mapping itself is pure.
pub trait FileSystem {
    /// Whether a source is there.
    fn exists(&self, path: &str) -> bool;
    /// The path without links, dots and relative parts.
    fn canonical(&self, path: &str) -> String;
    /// The path below the working directory, where it lies there.
    fn relative(&self, path: &str) -> String;
}

/// Rules, in their order: the first whose result exists wins.
pub struct Aliases<P> {
    rules: Vec<Alias>,
    relative: bool,
    places: P,
}

fn separator(text: &str) -> char {
    text.chars().find(|c| ['/', '\\'].contains(c)).unwrap_or('/')
}

impl<P: FileSystem> Aliases<P> {
    /// `relative` is coverage.py's `relative_files`.
    pub const fn new(relative: bool, places: P) -> Self {
        Self { rules: Vec::new(), relative, places }
    }

    /// Whether mapping can change anything.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty() && !self.relative
    }

    pub fn add(&mut self, pattern: &str, result: &str) -> Result<(), AliasError> {
        let slash = separator(pattern);
        let mut text =
            if pattern.chars().count() > 1 { pattern.trim_end_matches(['/', '\\']) } else { pattern }
                .to_owned();
        if text.ends_with('*') {
            return Err(AliasError::EndsWithWildcard(pattern.to_owned()));
        }
        if !self.relative && !text.starts_with('*') && !is_absolute_anywhere(&format!("{text}{slash}")) {
            text = self.places.canonical(&text);
        }
        if !text.ends_with(slash) {
            text.push(slash);
        }
        let regex = glob::compile(pattern, &format!(r"\A(?:{})", glob::to_regex(&text)?), true)?;
        let result = format!("{}{}", result.trim_end_matches(['/', '\\']), separator(result));
        self.rules.push(Alias { pattern: pattern.to_owned(), regex, result });
        Ok(())
    }

    /// Where `path` is on this machine; itself where no rule leads to a source that exists.
    pub fn map(&mut self, path: &str) -> String {
        if let Some(found) = self.rules.iter().find_map(|rule| self.by_rule(rule, path)) {
            return found;
        }
        if !self.relative {
            return path.to_owned();
        }
        let path = self.places.relative(path);
        if !is_absolute_anywhere(&path)
            && let Some((first, _)) = path.split_once(['/', '\\'])
        {
            // What is measured here shows where the same folder lies elsewhere.
            let pattern = format!("*/{first}");
            let known = self.rules.iter().any(|rule| rule.pattern == pattern);
            let regex = Regex::new(&format!(r"\A(.*[\\/])?{}[\\/]", regex::escape(first)));
            if let (false, Ok(regex)) = (known, regex) {
                self.rules.push(Alias { pattern, regex, result: format!("{first}/") });
                return self.map(&path);
            }
        }
        path
    }

    fn by_rule(&self, rule: &Alias, path: &str) -> Option<String> {
        let found = rule.regex.find(path)?;
        let mut new = path.replacen(found.as_str(), &rule.result, 1);
        let (from, to) = (separator(path), separator(&rule.result));
        if from != to {
            new = new.replace(from, &to.to_string());
        }
        if !self.relative {
            new = self.places.canonical(&new);
        }
        let dotted = |text: &str| text.starts_with("./") || text.starts_with(".\\");
        if dotted(&new) && !(dotted(&rule.result) && rule.result.len() > 2) {
            new.drain(..2);
        }
        self.places.exists(&new).then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    struct Fake(BTreeSet<&'static str>);

    impl FileSystem for Fake {
        fn exists(&self, path: &str) -> bool {
            self.0.contains(path)
        }
        fn canonical(&self, path: &str) -> String {
            if path.starts_with('/') { path.to_owned() } else { format!("/srv/checkout/{path}") }
        }
        fn relative(&self, path: &str) -> String {
            path.strip_prefix("/srv/checkout/").unwrap_or(path).to_owned()
        }
    }

    fn aliases(relative: bool, exist: &[&'static str], rules: &[(&str, &str)]) -> Aliases<Fake> {
        let mut aliases = Aliases::new(relative, Fake(exist.iter().copied().collect()));
        for (pattern, result) in rules {
            aliases.add(pattern, result).expect(pattern);
        }
        aliases
    }

    #[test]
    fn the_first_rule_that_leads_to_a_source_wins() {
        let mut all = aliases(
            false,
            &["/srv/checkout/src/a.py"],
            &[("/ci/*/lib", "/nowhere"), ("/ci/*/lib", "src"), ("*/site-packages", "src")],
        );
        assert_eq!(all.map("/ci/7/lib/a.py"), "/srv/checkout/src/a.py");
        assert_eq!(all.map("/CI/7/LIB/a.py"), "/srv/checkout/src/a.py", "case does not count");
        assert_eq!(all.map("/x/site-packages/a.py"), "/srv/checkout/src/a.py");
        assert_eq!(all.map("/ci/7/lib/gone.py"), "/ci/7/lib/gone.py");
        let mut windows = aliases(false, &["/srv/checkout/src/p/a.py"], &[(r"c:\ci\", "src")]);
        assert_eq!(windows.map(r"c:\ci\p\a.py"), "/srv/checkout/src/p/a.py");
        assert!(matches!(windows.add("/x/*", "src"), Err(AliasError::EndsWithWildcard(_))));
    }

    #[test]
    fn relative_files_find_their_folder_by_themselves() {
        let mut all = aliases(true, &["src/p/a.py", "src/p/b.py"], &[]);
        assert_eq!(all.map("/ci/x/src/p/a.py"), "/ci/x/src/p/a.py", "nothing was seen yet");
        assert_eq!(all.map("src/p/b.py"), "src/p/b.py");
        assert_eq!(all.map("/ci/x/src/p/a.py"), "src/p/a.py");
    }
}

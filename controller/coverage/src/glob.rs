//! coverage.py's patterns for file paths: `*` stays inside a folder, `**/` is any folders, a pattern
//! without a slash fits a name anywhere.

use regex::{Regex, RegexBuilder};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    #[error("file pattern {pattern:?} can't include {found:?}")]
    CannotInclude { pattern: String, found: String },
    #[error("file pattern {pattern:?}: {reason}")]
    Regex { pattern: String, reason: String },
}

/// What a pattern says as a regular expression, without anchors.
pub(crate) fn to_regex(pattern: &str) -> Result<String, GlobError> {
    let mut text = pattern.replace('\\', "/");
    if !text.contains('/') {
        text = format!("**/{text}");
    }
    let refuse =
        |found: &str| Err(GlobError::CannotInclude { pattern: pattern.to_owned(), found: found.to_owned() });
    let mut out = String::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let stars = rest.len() - rest.trim_start_matches('*').len();
        let behind = rest.get(stars..).unwrap_or_default();
        let next = behind.chars().next();
        if stars > 2 {
            return refuse(rest.get(..stars).unwrap_or_default());
        }
        if stars == 0 && rest.starts_with(|c| c != '/') {
            // A name that goes on with two stars.
            let name = rest.split('/').next().unwrap_or_default();
            if let Some(bad) = name.find("**") {
                return refuse(name.get(..bad + 2).unwrap_or_default());
            }
        }
        if stars == 2 && next.is_some_and(|c| c != '/') {
            return refuse(rest.split('/').next().unwrap_or_default());
        }
        if rest.starts_with("**/**") {
            return refuse("**/**");
        }
        let after_slash = rest.strip_prefix('/').unwrap_or_default();
        let (regex, taken) = if at == 0 && stars > 0 && next == Some('/') {
            (r"(.*[/\\])?".to_owned(), stars + 1)
        } else if rest.starts_with('/') && !after_slash.is_empty() && after_slash.chars().all(|c| c == '*') {
            (r"[/\\].*".to_owned(), rest.len())
        } else if rest.starts_with("**/") {
            (r"(.*[/\\])?".to_owned(), 3)
        } else if rest.starts_with('/') {
            (r"[/\\]".to_owned(), 1)
        } else if stars > 0 {
            (r"[^/\\]*".to_owned(), 1)
        } else if rest.starts_with('?') {
            (r"[^/\\]".to_owned(), 1)
        } else if let Some(end) = rest.strip_prefix('[').and_then(|class| class.find(']')) {
            (rest.get(..end + 2).unwrap_or_default().to_owned(), end + 2)
        } else if rest.starts_with(['[', ']']) {
            return refuse(rest.get(..1).unwrap_or_default());
        } else {
            let c = rest.chars().next().unwrap_or_default();
            (regex::escape(c.encode_utf8(&mut [0; 4])), c.len_utf8())
        };
        out.push_str(&regex);
        at += taken;
    }
    Ok(out)
}

/// Several patterns; a path fits if one of them does.
#[derive(Debug, Clone, Default)]
pub struct Globs(Vec<Regex>);

impl Globs {
    /// Patterns that begin with a wildcard are taken as they are, others also as `absolute` makes them: whole paths
    /// without links and dots.
    pub fn new(patterns: &[String], absolute: &dyn Fn(&str) -> String) -> Result<Self, GlobError> {
        let mut globs = Vec::new();
        for pattern in patterns {
            globs.push(whole(pattern)?);
            if !pattern.starts_with(['*', '?']) {
                globs.push(whole(&absolute(pattern))?);
            }
        }
        Ok(Self(globs))
    }

    pub fn fits(&self, path: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(path))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn whole(pattern: &str) -> Result<Regex, GlobError> {
    compile(pattern, &format!(r"\A(?:{})\z", to_regex(pattern)?), false)
}

pub(crate) fn compile(pattern: &str, regex: &str, case_insensitive: bool) -> Result<Regex, GlobError> {
    RegexBuilder::new(regex).case_insensitive(case_insensitive).dot_matches_new_line(false).build().map_err(
        |error| {
            let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
            GlobError::Regex { pattern: pattern.to_owned(), reason }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Globs::new(&[pattern.to_owned()], &in_checkout).expect(pattern).fits(path)
    }

    fn in_checkout(pattern: &str) -> String {
        if pattern.starts_with('/') {
            pattern.to_owned()
        } else {
            format!("/srv/checkout/{}", pattern.trim_start_matches("./"))
        }
    }

    #[test]
    fn patterns_mean_what_coverage_py_says() {
        for (pattern, path, wanted) in [
            ("*.py", "/srv/checkout/a/b.py", true),
            ("b.py", "/elsewhere/b.py", true),
            ("a/b.py", "/srv/checkout/a/b.py", true),
            ("a/b.py", "/x/a/b.py", false),
            ("./a/b.py", "/srv/checkout/a/b.py", true),
            ("a/*", "/srv/checkout/a/b/c.py", true),
            ("*/a/*", "/x/y/a/b/c.py", true),
            ("*/a/*", "a/c.py", true),
            ("/x/*/c.py", "/x/y/c.py", true),
            ("/x/*/c.py", "/x/y/z/c.py", false),
            ("/x/**/c.py", "/x/y/z/c.py", true),
            ("/x/**/c.py", "/x/c.py", true),
            ("/x/[ab]?.py", "/x/a1.py", true),
            ("/x/[ab]?.py", "/x/c1.py", false),
            ("/x/a.py", "/x/aXpy", false),
        ] {
            assert_eq!(fits(pattern, path), wanted, "{pattern} {path}");
        }
        for bad in ["a***b/c", "x**/y", "/a/**x", "**/**/c", "a/[b"] {
            assert!(
                matches!(Globs::new(&[bad.to_owned()], &in_checkout), Err(GlobError::CannotInclude { .. })),
                "{bad}"
            );
        }
    }
}

//! `--limit`: Ansible's host patterns. Hosts, groups, globs, `~regex`, subscripts, `@file`, `&` and `!`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::inventory::model::groups::{ALL, Inventory};
use crate::inventory::source::address;
use crate::inventory::vars::sought::SEVERAL;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("no hosts match {0:?}")]
    NoMatch(String),
    #[error("nothing stands behind & or !")]
    Lone,
    #[error("{pattern:?} is no regular expression: {reason}")]
    Regex { pattern: String, reason: String },
    #[error("cannot read the patterns of {path}")]
    File { path: PathBuf, source: std::io::Error },
}

/// The hosts that a limit names.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// In the inventory's order.
    pub(crate) hosts: Vec<String>,
    /// Words that match nothing: slips of the pen, that the others would hide.
    pub(crate) warnings: Vec<String>,
    /// Of entries that stand for several, those that are named by their numbers, and those that are named to be left out.
    only: Members,
    without: Members,
}

/// Entry to numbers.
type Members = BTreeMap<String, BTreeSet<u32>>;

impl Selection {
    /// Whether it takes the member of a number of an entry that it takes.
    pub(crate) fn takes(&self, entry: &str, number: u32) -> bool {
        self.only.get(entry).is_none_or(|numbers| numbers.contains(&number))
            && self.without.get(entry).is_none_or(|numbers| !numbers.contains(&number))
    }
}

/// The hosts that `limit` names. None at all is an error.
pub(crate) fn select(inventory: &Inventory, limit: &str) -> Result<Selection, PatternError> {
    let Named { patterns, mut only, without } = name_members(inventory, read_files(split(limit))?);
    let is_plain = |pattern: &&String| !pattern.starts_with(['!', '&']);
    let mut chosen: BTreeSet<&str> = BTreeSet::new();
    let mut warnings = Vec::new();
    let named = only.keys().filter_map(|entry| inventory.hosts.get_key_value(entry));
    chosen.extend(named.map(|(entry, _)| entry.as_str()));
    if chosen.is_empty() && !patterns.iter().any(|pattern| is_plain(&pattern)) {
        chosen = inventory.hosts.keys().map(String::as_str).collect();
    }
    for pattern in patterns.iter().filter(is_plain) {
        let found = one(inventory, pattern)?;
        if found.is_empty() {
            warnings.push(format!("--limit: no host or group matches {pattern:?}"));
        }
        // Who is named as a whole is taken as a whole.
        only.retain(|entry, _| !found.contains(&entry.as_str()));
        chosen.extend(found);
    }
    for pattern in patterns.iter().filter_map(|pattern| pattern.strip_prefix('&')) {
        let found: BTreeSet<&str> = operand(inventory, pattern)?.into_iter().collect();
        chosen.retain(|host| found.contains(host));
    }
    for pattern in patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')) {
        let found: BTreeSet<&str> = operand(inventory, pattern)?.into_iter().collect();
        chosen.retain(|host| !found.contains(host));
    }
    let hosts: Vec<String> =
        inventory.hosts_of(ALL).into_iter().filter(|host| chosen.contains(host)).map(str::to_owned).collect();
    if hosts.is_empty() {
        return Err(PatternError::NoMatch(limit.to_owned()));
    }
    Ok(Selection { hosts, warnings, only, without })
}

/// Patterns, without those that name members of entries.
struct Named {
    patterns: Vec<String>,
    only: Members,
    without: Members,
}

fn name_members(inventory: &Inventory, all: Vec<String>) -> Named {
    let mut named = Named { patterns: Vec::new(), only: Members::new(), without: Members::new() };
    for pattern in all {
        let members = if pattern.starts_with('!') { &mut named.without } else { &mut named.only };
        match member(inventory, pattern.strip_prefix('!').unwrap_or(&pattern)) {
            Some((entry, number)) => {
                members.entry(entry).or_default().insert(number);
            }
            None => named.patterns.push(pattern),
        }
    }
    named
}

/// The entry and the number of a name like `workers-2`, which is no host's own.
fn member(inventory: &Inventory, name: &str) -> Option<(String, u32)> {
    let (entry, number) = name.rsplit_once('-')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    if inventory.hosts.contains_key(name) || !inventory.hosts.contains_key(entry) {
        return None;
    }
    let vars = inventory.vars_of(entry);
    SEVERAL.iter().any(|name| vars.contains_key(*name)).then(|| (entry.to_owned(), number))
}

/// At commas where there are any; else at colons outside of brackets, unless it is an address.
fn split(limit: &str) -> Vec<String> {
    let parts: Vec<&str> = if limit.contains(',') {
        limit.split(',').collect()
    } else if address::parse(limit).is_some() {
        vec![limit]
    } else {
        let mut depth = 0i32;
        let at = |c: char| {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            depth <= 0 && (c == ':' || c.is_whitespace())
        };
        limit.split(at).collect()
    };
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Puts the lines of `@file` in its place.
fn read_files(patterns: Vec<String>) -> Result<Vec<String>, PatternError> {
    let mut all = Vec::new();
    for pattern in patterns {
        let Some(path) = pattern.strip_prefix('@').map(Path::new) else {
            all.push(pattern);
            continue;
        };
        let text = fs_err::read_to_string(path)
            .map_err(|source| PatternError::File { path: path.to_owned(), source })?;
        all.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok(all)
}

/// A plain pattern: a host's very name, or whatever matches.
fn one<'i>(inventory: &'i Inventory, pattern: &str) -> Result<Vec<&'i str>, PatternError> {
    match inventory.hosts.get_key_value(pattern) {
        Some((host, _)) => Ok(vec![host]),
        None => matching(inventory, pattern),
    }
}

/// What stands behind `&` or `!`. A lone `!` would take nothing away, and act on every host.
fn operand<'i>(inventory: &'i Inventory, pattern: &str) -> Result<Vec<&'i str>, PatternError> {
    if pattern.is_empty() { Err(PatternError::Lone) } else { matching(inventory, pattern) }
}

fn matching<'i>(inventory: &'i Inventory, pattern: &str) -> Result<Vec<&'i str>, PatternError> {
    let (pattern, places) = if pattern.starts_with('~') { (pattern, None) } else { subscript(pattern) };
    let matcher = matcher(pattern)?;
    let groups: Vec<&String> = inventory.groups.keys().filter(|group| matcher.is_match(group)).collect();
    let mut found: Vec<&str> = groups.iter().flat_map(|group| inventory.hosts_of(group)).collect();
    if groups.is_empty() || pattern.starts_with('~') || pattern.contains(['.', '?', '*', '[']) {
        found.extend(inventory.hosts.keys().filter(|host| matcher.is_match(host)).map(String::as_str));
    }
    Ok(match places {
        None => found,
        Some(places) => places.of(&found),
    })
}

/// Which of the hosts that match: `web[0]`, `web[1:]`.
#[derive(Debug, PartialEq, Eq)]
enum Subscript {
    /// From the front, or from behind.
    One(i64),
    /// Both ends are in it; an open one reaches to the last.
    Range(usize, Option<usize>),
}

impl Subscript {
    fn of<'i>(&self, found: &[&'i str]) -> Vec<&'i str> {
        let part = match *self {
            Self::One(n) if n < 0 => {
                let back = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
                found.len().checked_sub(back).and_then(|at| found.get(at..=at))
            }
            Self::One(n) => usize::try_from(n).ok().and_then(|at| found.get(at..=at)),
            // Ansible takes an end of 0 for none at all.
            Self::Range(start, Some(0)) => found.get(start..=start),
            Self::Range(start, end) => {
                let end = end.map_or(found.len(), |end| (end + 1).min(found.len()));
                found.get(start..end)
            }
        };
        part.unwrap_or_default().to_vec()
    }
}

/// `web[0]`, `web[-1]`, `web[1:]`, `web[0:2]`; a glob's `[ab]` is none.
fn subscript(pattern: &str) -> (&str, Option<Subscript>) {
    let read = || {
        let (name, inside) = pattern.strip_suffix(']')?.rsplit_once('[')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let places = match inside.split_once([':', '-']) {
            None if is_number(inside) => Subscript::One(inside.parse().ok()?),
            Some(("", digits)) if inside.starts_with('-') && is_number(digits) => {
                Subscript::One(inside.parse().ok()?)
            }
            Some((start, end)) if is_number(start) && (end.is_empty() || is_number(end)) => {
                let end = (!end.is_empty()).then(|| end.parse()).transpose().ok()?;
                Subscript::Range(start.parse().ok()?, end)
            }
            _ => return None,
        };
        (!name.is_empty()).then_some((name, Some(places)))
    };
    read().unwrap_or((pattern, None))
}

/// A regular expression matches at the beginning, a glob as a whole. Case counts.
fn matcher(pattern: &str) -> Result<Regex, PatternError> {
    let text = match pattern.strip_prefix('~') {
        Some(regex) => format!("^(?:{regex})"),
        None => glob(pattern),
    };
    Regex::new(&text).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        PatternError::Regex { pattern: pattern.to_owned(), reason }
    })
}

/// A shell glob (`*`, `?`, `[abc]`, `[a-c]`, `[!abc]`) as a regular expression.
fn glob(pattern: &str) -> String {
    let mut regex = String::from("(?s)^");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => match class(rest) {
                Some((class, after)) => {
                    regex.push_str(&class);
                    rest = after;
                }
                None => regex.push_str("\\["),
            },
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    regex
}

/// The class after a `[` as a regular expression, and what follows it.
fn class(rest: &str) -> Option<(String, &str)> {
    let (negated, inside) = rest.strip_prefix('!').map_or((false, rest), |inside| (true, inside));
    // A `]` right at the beginning is a member.
    let first = inside.chars().next()?.len_utf8();
    let end = first + inside.get(first..)?.find(']')?;
    let members: Vec<char> = inside.get(..end)?.chars().collect();
    let mut text = String::new();
    let mut at = 0;
    while let Some(&from) = members.get(at) {
        let escaped = |c: char| if c.is_alphanumeric() { c.to_string() } else { format!("\\{c}") };
        if let (Some('-'), Some(&to)) = (members.get(at + 1), members.get(at + 2)) {
            // A range that goes backwards has nothing in it.
            if from <= to {
                text.push_str(&format!("{}-{}", escaped(from), escaped(to)));
            }
            at += 3;
        } else {
            text.push_str(&escaped(from));
            at += 1;
        }
    }
    let class = match (text.is_empty(), negated) {
        (true, false) => "[^\\s\\S]".to_owned(),
        (true, true) => ".".to_owned(),
        (false, false) => format!("[{text}]"),
        (false, true) => format!("[^{text}]"),
    };
    Some((class, inside.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        let text = "web:\n  hosts:\n    web1:\n    web2:\n    web10:\ndb:\n  hosts:\n    db1:\n    web1:\nall:\n  hosts:\n    lonely:\n";
        crate::inventory::from_yaml(text).expect("inventory")
    }

    fn selected(limit: &str) -> Vec<String> {
        let mut hosts = select(&inventory(), limit).unwrap_or_else(|error| panic!("{limit}: {error}")).hosts;
        hosts.sort();
        hosts
    }

    #[test]
    fn members_of_an_entry_are_named_by_their_numbers() {
        let text = "all:\n  hosts:\n    w: {pulpcov_containers: {name: x}}\n    v-1:\n    v: {pulpcov_pods: {name: x}}\n    other:\n";
        let inventory = crate::inventory::from_yaml(text).expect("inventory");
        let takes = |limit: &str| {
            let selection = select(&inventory, limit).unwrap_or_else(|error| panic!("{limit}: {error}"));
            let numbers = (1..=3).filter(|&number| selection.takes("w", number)).collect::<Vec<_>>();
            (selection.hosts.join(" "), numbers)
        };
        assert_eq!(takes("w"), ("w".to_owned(), vec![1, 2, 3]));
        assert_eq!(takes("w-2"), ("w".to_owned(), vec![2]));
        assert_eq!(takes("w-2,w-3,other"), ("w other".to_owned(), vec![2, 3]));
        assert_eq!(takes("w-2,w").1, [1, 2, 3]);
        assert_eq!(takes("w,!w-1").1, [2, 3]);
        assert_eq!(takes("all,!w-1").0, "w v-1 v other");
        assert_eq!(takes("!w-1").1, [2, 3]);
        // A host of that name is itself, and other hosts have no members.
        assert_eq!(takes("v-1").0, "v-1");
        assert!(select(&inventory, "other-1").is_err() && select(&inventory, "w-0").is_err());
    }

    #[test]
    fn hosts_groups_globs_and_both_operators() {
        assert_eq!(selected("web"), ["web1", "web10", "web2"]);
        assert_eq!(selected("web,!web2"), ["web1", "web10"]);
        assert_eq!(selected("web:&db"), ["web1"]);
        assert_eq!(selected("web?"), ["web1", "web2"]);
        assert_eq!(selected("!db"), ["lonely", "web10", "web2"]);
        assert_eq!(selected("*1"), ["db1", "web1"]);
        assert_eq!(selected("web[!1]"), ["web2"]);
        assert_eq!(selected("ungrouped"), ["lonely"]);
        assert_eq!(selected("all").len(), 5);
        assert_eq!(selected("~web\\d$"), ["web1", "web2"]);
    }

    #[test]
    fn places_in_what_matches() {
        assert_eq!(selected("web[0]"), ["web1"]);
        assert_eq!(selected("web[-1]"), ["web10"]);
        assert_eq!(selected("web[1:]"), ["web10", "web2"]);
        assert_eq!(selected("web[0:1]"), ["web1", "web2"]);
    }

    #[test]
    fn nothing_is_an_error_and_a_slip_a_warning() {
        for limit in ["nosuch", "web:!all", "web[7]"] {
            let result = select(&inventory(), limit);
            assert!(matches!(result, Err(PatternError::NoMatch(_))), "{limit}: {result:?}");
        }
        let slip = select(&inventory(), "web1,nosuch").expect("web1 is there");
        assert_eq!((slip.hosts.len(), slip.warnings.len()), (1, 1));
        assert!(matches!(select(&inventory(), "web:!"), Err(PatternError::Lone)));
        assert!(matches!(select(&inventory(), "~("), Err(PatternError::Regex { .. })));
        assert!(matches!(select(&inventory(), "@/nosuch"), Err(PatternError::File { .. })));
    }
}

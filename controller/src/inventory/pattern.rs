//! `--limit`: Ansible's host patterns. Hosts, groups, globs, `&` and `!`.

use std::collections::BTreeSet;

use super::address::split_port;
use super::groups::Inventory;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("no hosts match {0:?}")]
    NoMatch(String),
    #[error("{pattern:?} is a {what} pattern, which is not read")]
    Unsupported { pattern: String, what: &'static str },
}

/// The hosts that `limit` names, in the inventory's order.
pub(crate) fn select(inventory: &Inventory, limit: &str) -> Result<Vec<String>, PatternError> {
    let mut plain = Vec::new();
    let mut required = Vec::new();
    let mut excluded = Vec::new();
    for pattern in split(limit) {
        match pattern.strip_prefix(['!', '&']) {
            Some(rest) if pattern.starts_with('!') => excluded.push(rest),
            Some(rest) => required.push(rest),
            None => plain.push(pattern),
        }
    }
    if plain.is_empty() {
        plain.push("all");
    }
    let mut chosen = BTreeSet::new();
    for pattern in plain {
        let found = matching(inventory, pattern)?;
        // A word that matches nothing is a slip of the pen, and the others would hide it.
        if found.is_empty() {
            return Err(PatternError::NoMatch(pattern.to_owned()));
        }
        chosen.extend(found);
    }
    for pattern in required {
        let found = matching(inventory, pattern)?;
        chosen.retain(|host| found.contains(host));
    }
    for pattern in excluded {
        let found = matching(inventory, pattern)?;
        chosen.retain(|host| !found.contains(host));
    }
    if chosen.is_empty() {
        return Err(PatternError::NoMatch(limit.to_owned()));
    }
    Ok(inventory.hosts.iter().filter(|host| chosen.contains(host.as_str())).cloned().collect())
}

/// At commas where there are any; else at colons outside of brackets, unless it is an address.
fn split(limit: &str) -> Vec<&str> {
    let parts: Vec<&str> = if limit.contains(',') {
        limit.split(',').collect()
    } else if limit.parse::<std::net::Ipv6Addr>().is_ok() || split_port(limit).1.is_some() {
        vec![limit]
    } else {
        let mut depth = 0i32;
        limit
            .split(|c| {
                match c {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                c == ':' && depth <= 0
            })
            .collect()
    };
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn matching<'i>(inventory: &'i Inventory, pattern: &str) -> Result<BTreeSet<&'i str>, PatternError> {
    let unsupported = |what| PatternError::Unsupported { pattern: pattern.to_owned(), what };
    if pattern.starts_with('~') {
        return Err(unsupported("regular expression"));
    }
    if pattern.starts_with('@') {
        return Err(unsupported("file"));
    }
    if is_subscript(pattern) {
        return Err(unsupported("subscript"));
    }
    let groups = inventory
        .groups
        .keys()
        .filter(|group| glob(pattern, group))
        .map(String::as_str)
        .collect::<BTreeSet<_>>();
    let hosts = inventory.hosts.iter().map(String::as_str);
    if groups.contains("all") {
        return Ok(hosts.collect());
    }
    Ok(hosts
        .filter(|host| {
            glob(pattern, host) || inventory.groups_of(host).iter().any(|group| groups.contains(group))
        })
        .collect())
}

/// `web[0]`, `web[1:]`, `web[-1]`: places in a list, which a glob's `[0-9]` is not.
fn is_subscript(pattern: &str) -> bool {
    let Some((_, inside)) = pattern.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) else {
        return false;
    };
    let number = |text: &str| {
        text.is_empty() || text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit())
    };
    !inside.is_empty() && inside.split([':', '-']).all(number) && (inside.contains(':') || number(inside))
}

/// Shell globs: `*`, `?`, `[abc]`, `[a-c]`, `[!abc]`. Case counts.
fn glob(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => {
                (0..=text.len()).any(|n| text.get(n..).is_some_and(|text| matches(rest, text)))
            }
            ['?', rest @ ..] => text.split_first().is_some_and(|(_, text)| matches(rest, text)),
            ['[', rest @ ..] => match (class(rest), text.split_first()) {
                (Some((set, negated, rest)), Some((c, text))) => {
                    contains(set, *c) != negated && matches(rest, text)
                }
                (None, Some(('[', text))) => matches(rest, text),
                _ => false,
            },
            [c, rest @ ..] => {
                text.split_first().is_some_and(|(first, text)| first == c && matches(rest, text))
            }
        }
    }
    /// The inside of a class after its `[`, whether it is negated, and what follows it.
    fn class(pattern: &[char]) -> Option<(&[char], bool, &[char])> {
        let (negated, inside) = match pattern {
            ['!', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        // A `]` right at the beginning is a member.
        let end = inside.iter().skip(1).position(|&c| c == ']')? + 1;
        Some((inside.get(..end)?, negated, inside.get(end + 1..)?))
    }
    fn contains(set: &[char], c: char) -> bool {
        match set {
            [] => false,
            [first, '-', last, rest @ ..] => (*first..=*last).contains(&c) || contains(rest, c),
            [one, rest @ ..] => *one == c || contains(rest, c),
        }
    }
    // Runs of stars would make the backtracking exponential.
    let mut squeezed: Vec<char> = Vec::new();
    for c in pattern.chars() {
        if c != '*' || squeezed.last() != Some(&'*') {
            squeezed.push(c);
        }
    }
    matches(&squeezed, &text.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::yaml;

    fn inventory() -> Inventory {
        let text = "web:\n  hosts:\n    web1:\n    web2:\n    web10:\ndb:\n  hosts:\n    db1:\n    web1:\nall:\n  hosts:\n    lonely:\n";
        Inventory::from_node(&yaml::parse(text).expect("parses").root.expect("root")).expect("inventory")
    }

    fn selected(limit: &str) -> Vec<String> {
        select(&inventory(), limit).unwrap_or_else(|error| panic!("{limit}: {error}"))
    }

    #[test]
    fn hosts_groups_globs_and_both_operators() {
        assert_eq!(selected("web"), ["web1", "web2", "web10"]);
        assert_eq!(selected("web,!web2"), ["web1", "web10"]);
        assert_eq!(selected("web:&db"), ["web1"]);
        assert_eq!(selected("web?"), ["web1", "web2"]);
        assert_eq!(selected("!db"), ["web2", "web10", "lonely"]);
        assert_eq!(selected("*1"), ["web1", "db1"]);
        assert_eq!(selected("web[!1]"), ["web2"]);
        assert_eq!(selected("ungrouped"), ["lonely"]);
        assert_eq!(selected("all").len(), 5);
    }

    #[test]
    fn nothing_is_an_error_and_so_is_a_slip() {
        assert_eq!(select(&inventory(), "nosuch"), Err(PatternError::NoMatch("nosuch".into())));
        assert_eq!(select(&inventory(), "web1,nosuch"), Err(PatternError::NoMatch("nosuch".into())));
        assert!(matches!(select(&inventory(), "web:!all"), Err(PatternError::NoMatch(_))));
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        for pattern in ["~web.*", "@retry", "web[0]", "web[1:]", "web[-1]"] {
            assert!(
                matches!(select(&inventory(), pattern), Err(PatternError::Unsupported { .. })),
                "{pattern}"
            );
        }
    }
}

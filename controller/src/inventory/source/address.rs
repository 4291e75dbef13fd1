//! `name:port` as Ansible splits it, with ranges in the name: hosts of an inventory, and patterns.

use std::net::Ipv6Addr;

/// A host's name or range and its port; `None` where Ansible sees neither a name nor an address.
pub(crate) fn parse(text: &str) -> Option<(&str, Option<u16>)> {
    let mut rest = (text, None);
    if let Some((inside, port)) = bracketed(text) {
        rest = (inside, Some(port));
    }
    if let Some((name, port)) = with_port(rest.0) {
        rest = (name, Some(port));
    }
    (is_ipv6(rest.0) || is_name(rest.0)).then_some(rest)
}

/// `[fe80::1]:22`
fn bracketed(text: &str) -> Option<(&str, u16)> {
    let (inside, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    Some((inside, digits(port)?)).filter(|(inside, _)| !inside.is_empty())
}

/// `web[1:3]:22`: colons before the last one stand only in brackets.
fn with_port(text: &str) -> Option<(&str, u16)> {
    let (name, port) = text.rsplit_once(':')?;
    let mut inside = false;
    for c in name.chars() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            ']' | ':' if !inside => return None,
            _ => {}
        }
    }
    if inside { None } else { Some((name, digits(port)?)) }
}

fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Parts of a name between its brackets, and what stands in these.
enum Part<'t> {
    Plain(char),
    Range(&'t str),
}

fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '[' {
            let (inside, after) = rest.get(1..)?.split_once(']')?;
            parts.push(Part::Range(inside));
            rest = after;
        } else {
            parts.push(Part::Plain(c));
            rest = rest.get(c.len_utf8()..)?;
        }
    }
    Some(parts)
}

/// `begin:end` or `begin:end:step` with ends that `good` takes.
fn is_range(text: &str, good: impl Fn(&str, &str) -> bool) -> bool {
    let mut ends = text.split(':');
    let (Some(begin), Some(end)) = (ends.next(), ends.next()) else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    good(begin, end) && ends.next().is_none_or(is_number) && ends.next().is_none()
}

/// An address, or one with ranges in place of some of its parts.
fn is_ipv6(text: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(parts) = parts(text) else { return false };
    let plain: Option<String> = parts
        .iter()
        .map(|part| match part {
            Part::Plain(c) => Some(*c),
            Part::Range(range) => is_range(range, |a, b| is_hex(a) && is_hex(b)).then_some('0'),
        })
        .collect();
    plain.is_some_and(|plain| plain.parse::<Ipv6Addr>().is_ok())
}

/// Labels of letters, digits, `-`, `_` and ranges, with dots between them. None ends with `-` or `_`.
fn is_name(text: &str) -> bool {
    let Some(parts) = parts(text) else { return false };
    let is_one = |text: &str, good: fn(&u8) -> bool| matches!(text.as_bytes(), [b] if good(b));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_letter = |text: &str| is_one(text, u8::is_ascii_alphabetic);
    parts.split(|part| matches!(part, Part::Plain('.'))).all(|label| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let begins = label.first().is_some_and(|part| match part {
            Part::Plain(c) => is_word(*c),
            Part::Range(_) => true,
        });
        let ends = !matches!(label.last(), None | Some(Part::Plain('-' | '_')));
        begins
            && ends
            && label.iter().all(|part| match part {
                Part::Plain(c) => is_word(*c) || *c == '-',
                Part::Range(range) => {
                    is_range(range, |a, b| (is_letter(a) && is_letter(b)) || (is_number(a) && is_number(b)))
                }
            })
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_bare_ipv6_address_stays_whole() {
        assert_eq!(parse("web:2222"), Some(("web", Some(2222))));
        assert_eq!(parse("[fe80::1]:22"), Some(("fe80::1", Some(22))));
        assert_eq!(parse("fe80::1"), Some(("fe80::1", None)));
        assert_eq!(parse("fe80::[1:f]"), Some(("fe80::[1:f]", None)));
        assert_eq!(parse("web"), Some(("web", None)));
        assert_eq!(parse("w[1:2].lan:2022"), Some(("w[1:2].lan", Some(2022))));
        assert_eq!(parse("w[a:c]-[01:10:3]"), Some(("w[a:c]-[01:10:3]", None)));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in ["", "web:http", "a b", "web_", "-web", "w[1-3]", "w[1:]", "w[1", "a:b", "all:!web", "w*"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

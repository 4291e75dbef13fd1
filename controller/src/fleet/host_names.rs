//! Many host names in few words: `web[01-40]`. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A name without the number that its like differ in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Family<'a> {
    before: &'a str,
    after: &'a str,
}

/// `h1,web[01-03,07]`: numbers of equal names folded into ranges, all of them in order.
pub(crate) fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut families: BTreeMap<Family<'a>, Vec<&'a str>> = BTreeMap::new();
    let mut parts = Vec::new();
    for name in names {
        match split(name) {
            Some((family, digits)) => families.entry(family).or_default().push(digits),
            None => parts.push(name.to_owned()),
        }
    }
    for (Family { before, after }, all) in families {
        for (width, mut numbers) in by_width(&all) {
            numbers.sort_unstable();
            numbers.dedup();
            let text = |number: u64| format!("{number:0width$}");
            parts.push(match numbers.as_slice() {
                [one] => format!("{before}{}{after}", text(*one)),
                _ => format!("{before}[{}]{after}", ranges(&numbers, &text)),
            });
        }
    }
    parts.sort();
    parts.join(",")
}

/// Numbers that are padded to a width, and those that are not (width 0). `10` is padded where `09` is there.
fn by_width(all: &[&str]) -> BTreeMap<usize, Vec<u64>> {
    let padded: BTreeSet<usize> =
        all.iter().filter(|digits| digits.starts_with('0')).map(|digits| digits.len()).collect();
    let mut numbers: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for digits in all {
        let width = if padded.contains(&digits.len()) { digits.len() } else { 0 };
        numbers.entry(width).or_default().extend(digits.parse::<u64>());
    }
    numbers
}

fn ranges(numbers: &[u64], text: &dyn Fn(u64) -> String) -> String {
    let runs = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let parts: Vec<String> = runs
        .filter_map(|run| {
            let (first, last) = (*run.first()?, *run.last()?);
            Some(if first == last { text(first) } else { format!("{}-{}", text(first), text(last)) })
        })
        .collect();
    parts.join(",")
}

/// The number that hosts of a kind differ in: the last of the first label, or of an address.
fn split(name: &str) -> Option<(Family<'_>, &str)> {
    let is_address = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    let label = if is_address { name.len() } else { name.find('.').unwrap_or(name.len()) };
    let end = name.get(..label)?.rfind(|c: char| c.is_ascii_digit())? + 1;
    let begin = name.get(..end)?.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| {
        // A character may have several bytes.
        i + name.get(i..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
    });
    let digits = name.get(begin..end)?;
    digits.parse::<u64>().ok()?;
    Some((Family { before: name.get(..begin)?, after: name.get(end..)? }, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fold_into_ranges() {
        let fold = |names: &str| super::fold(names.split_whitespace());
        assert_eq!(fold("web01 web03 web02 web07"), "web[01-03,07]");
        assert_eq!(fold("h1 h2 h10 db"), "db,h[1-2,10]");
        assert_eq!(fold("h1 h09 h10 h100"), "h[09-10],h[1,100]");
        assert_eq!(fold("web1.lan web2.lan web3.wan"), "web3.wan,web[1-2].lan");
        assert_eq!(fold("10.0.0.1 10.0.0.2"), "10.0.0.[1-2]");
        assert_eq!(fold("w1-a2 w1-a3"), "w1-a[2-3]");
        assert_eq!(fold("ä1 ä2 x99999999999999999999999"), "x99999999999999999999999,ä[1-2]");
        assert_eq!(fold("one"), "one");
        assert_eq!(fold(""), "");
    }

    #[test]
    fn padded_numbers_stay_together() {
        let names: Vec<String> = (1..=40).map(|i| format!("web{i:02}")).collect();
        assert_eq!(fold(names.iter().map(String::as_str)), "web[01-40]");
    }
}

//! Names as reports show and sort them.

/// A name that a terminal, or a line of a file, shows and does not act on.
pub(super) fn printable(name: &str) -> String {
    // Marks that turn the direction of writing would show one name and mean another.
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().map(|c| if harmful(c) { '\u{FFFD}' } else { c }).collect()
}

/// A key by which `x2` comes before `x10`, as coverage.py sorts: texts and numbers in turn.
pub(super) fn human_key(name: &str) -> Vec<(String, u128)> {
    let mut key = Vec::new();
    let mut rest = name;
    loop {
        let digits_at = rest.find(|c: char| c.is_ascii_digit());
        let (text, behind) = rest.split_at(digits_at.unwrap_or(rest.len()));
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        let (digits, next) = behind.split_at(end);
        // A number that long is a name; it sorts behind all others.
        key.push((text.to_owned(), digits.parse().unwrap_or(if digits.is_empty() { 0 } else { u128::MAX })));
        if next.is_empty() {
            return key;
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["x10", "x2", "x", "x1y10", "x1y9", "a99999999999999999999999999999999999999999z"];
        names.sort_by_cached_key(|name| human_key(name));
        assert_eq!(names, ["a99999999999999999999999999999999999999999z", "x", "x1y9", "x1y10", "x2", "x10"]);
    }
}

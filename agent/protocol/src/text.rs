//! Texts that both programs make.

/// An error and its causes in one line, without saying the same twice.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// `1 file`, `2 files`.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = match noun.strip_suffix("ss") {
        Some(stem) => format!("{stem}sses"),
        None => format!("{noun}s"),
    };
    if n == 1 { format!("1 {noun}") } else { format!("{n} {plural}") }
}

/// Whether all of `text` is what a pattern says: `*` is any text, slashes too, `?` any one byte, and nothing else is
/// special. Its time is at most the product of both lengths.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    p = star_p + 1;
                    t = star_t + 1;
                    star = Some((star_p, star_t + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|&c| c == b'*'))
}

/// Bytes as digits, as digests are written.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    use std::fmt::Write as _;
    let bytes = bytes.as_ref();
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that [`hex`] wrote; `None` where it did not.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => Some((char::from(high).to_digit(16)?, char::from(low).to_digit(16)?)),
        _ => None,
    });
    digits.map(|pair| pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }

        #[test]
        fn a_wildcard_is_what_it_is_said_to_be(pattern in "[ab*?]{0,8}", text in "[ab/]{0,8}") {
            prop_assert_eq!(wildcard(&pattern, &text), by_definition(pattern.as_bytes(), text.as_bytes()));
        }
    }

    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| by_definition(rest, &text[at..])),
            ([b'?', rest @ ..], [_, text @ ..]) => by_definition(rest, text),
            ([one, rest @ ..], [other, text @ ..]) => one == other && by_definition(rest, text),
            _ => false,
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        assert!(!wildcard(&format!("{}b", "*a".repeat(200)), &"a".repeat(10_000)));
    }

    #[test]
    fn what_are_no_digits_is_refused() {
        for bad in ["0", "0g", "+1", "ä0", "00 "] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}

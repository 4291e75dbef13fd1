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
    }

    #[test]
    fn what_are_no_digits_is_refused() {
        for bad in ["0", "0g", "+1", "ä0", "00 "] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}

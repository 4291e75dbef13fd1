//! A line to words, by the rules of POSIX shells as Python's `shlex` has them, and a word as a shell wants it.

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    #[error("a quotation mark that nothing closes")]
    OpenQuote,
    #[error("nothing after the last backslash")]
    OpenEscape,
}

/// Splits at blanks outside of quotes; with `comments`, a `#` outside of quotes ends the line.
pub(crate) fn split(text: &str, comments: bool) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' if comments => break,
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(WordsError::OpenEscape)?),
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A word as a shell wants it, csh and fish among them.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-,:@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The rest of a quotation; in double quotes a backslash protects a quotation mark and itself.
fn quoted(mark: char, chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match chars.next().ok_or(WordsError::OpenQuote)? {
            c if c == mark => return Ok(()),
            '\\' if mark == '"' => {
                let next = chars.next().ok_or(WordsError::OpenQuote)?;
                if !matches!(next, '"' | '\\') {
                    word.push('\\');
                }
                word.push(next);
            }
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WordsError, split};

    #[test]
    fn quotes_escapes_and_comments() {
        assert_eq!(split(r#"a "b c"'d' e\ f"#, false), Ok(vec!["a".into(), "b cd".into(), "e f".into()]));
        assert_eq!(
            split(r#"k="a\"b\n" '' x#y"#, true),
            Ok(vec![r#"k=a"b\n"#.into(), String::new(), "x".into()])
        );
        assert_eq!(split("-o 'ProxyCommand=ssh -W %h:%p j'", false).map(|words| words.len()), Ok(2));
        assert_eq!(split("a 'b", false), Err(WordsError::OpenQuote));
        assert_eq!(split("a \\", false), Err(WordsError::OpenEscape));
    }
}

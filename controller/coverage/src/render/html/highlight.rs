//! Python source as lines of marked-up HTML.
//!
//! Own code, because a highlighting library brings grammars for all languages and takes many times as
//! long as the rest of the report: here it is enough to tell keywords, strings, comments and numbers.

use super::escape;

/// Sorted: it is searched.
const KEYWORDS: [&str; 39] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "case", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "match", "nonlocal", "not", "or", "pass", "print", "raise", "return", "self", "try", "while",
    "with", "yield",
];

/// Words that are keywords only at the start of a statement.
const SOFT: [&str; 3] = ["case", "match", "print"];

/// The lines of `text`, each as HTML: escaped, and every mark closed on its line.
pub(super) fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    // The string that goes on over lines: its quotes, and whether backslashes escape in it.
    let mut open: Option<&'static str> = None;
    for line in text.lines() {
        let mut out = String::with_capacity(line.len() + line.len() / 2);
        let mut rest = line;
        if let Some(quotes) = open {
            let (taken, closed) = string_end(rest, quotes);
            mark("s", &rest[..taken], &mut out);
            rest = &rest[taken..];
            if closed {
                open = None;
            }
        }
        if open.is_none() {
            open = one_line(rest, &mut out);
        }
        lines.push(out);
    }
    lines
}

/// Marks up the rest of a line; says which string is still open at its end.
fn one_line(mut rest: &str, out: &mut String) -> Option<&'static str> {
    let mut at_start = true;
    while let Some(c) = rest.chars().next() {
        if c == '#' {
            mark("c", rest, out);
            return None;
        }
        if let Some((prefix, quotes)) = string_start(rest) {
            let body = &rest[prefix + quotes.len()..];
            let (taken, closed) = string_end(body, quotes);
            let end = prefix + quotes.len() + taken;
            mark("s", &rest[..end], out);
            rest = &rest[end..];
            // A string of one quote ends with its line, unless a backslash joins the next one.
            if !closed && (quotes.len() == 3 || body.ends_with('\\')) {
                return Some(quotes);
            }
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..end];
            let is_keyword = KEYWORDS.binary_search(&word).is_ok() && (at_start || !SOFT.contains(&word));
            if is_keyword {
                mark("k", word, out);
            } else {
                escape(word, out);
            }
            rest = &rest[end..];
        } else if c.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
            mark("n", &rest[..end], out);
            rest = &rest[end..];
        } else {
            let end = c.len_utf8();
            escape(&rest[..end], out);
            rest = &rest[end..];
        }
        at_start &= c.is_whitespace();
    }
    None
}

fn mark(class: &str, text: &str, out: &mut String) {
    if !text.is_empty() {
        out.push_str("<i class=");
        out.push_str(class);
        out.push('>');
        escape(text, out);
        out.push_str("</i>");
    }
}

/// Whether a string starts here: how long its prefix is, and its quotes.
fn string_start(text: &str) -> Option<(usize, &'static str)> {
    let prefix = text.bytes().take(3).take_while(|b| b"rRbBuUfFtT".contains(b)).count().min(2);
    let behind = text.get(prefix..)?;
    ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quotes| behind.starts_with(quotes))
        .map(|quotes| (prefix, quotes))
}

/// How much of `text` belongs to a string that is open, and whether it ends there.
fn string_end(text: &str, quotes: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' {
            at += 2;
        } else if bytes.get(at..).is_some_and(|rest| rest.starts_with(quotes.as_bytes())) {
            return (at + quotes.len(), true);
        } else {
            at += 1;
        }
    }
    (text.len(), false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_strings_numbers_and_comments_are_told_apart() {
        assert_eq!(
            lines("def f(x=0x1f):  # if <b>"),
            ["<i class=k>def</i> f(x=<i class=n>0x1f</i>):  <i class=c># if &lt;b&gt;</i>"]
        );
        assert_eq!(
            lines("x = rb'a#\\'' + \"\"\"one\ndef two\"\"\" or y"),
            [
                "x = <i class=s>rb'a#\\''</i> + <i class=s>&quot;&quot;&quot;one</i>",
                "<i class=s>def two&quot;&quot;&quot;</i> <i class=k>or</i> y"
            ]
        );
        assert_eq!(lines("match = 1"), ["<i class=k>match</i> = <i class=n>1</i>"]);
        assert_eq!(lines("x.match(y)"), ["x.match(y)"]);
        assert_eq!(lines("s = 'open\nif x:"), ["s = <i class=s>'open</i>", "<i class=k>if</i> x:"]);
    }

    #[test]
    fn keywords_can_be_searched() {
        assert!(KEYWORDS.is_sorted());
    }

    proptest! {
        #[test]
        fn the_text_comes_out_as_it_went_in(text in "[a-z0-9é'\"#\\\\rbf \n<&]{0,80}") {
            let shown = lines(&text).join("\n");
            let mut plain = String::new();
            let mut rest = shown.as_str();
            while let Some(at) = rest.find('<') {
                plain.push_str(&rest[..at]);
                rest = &rest[at + rest[at..].find('>').expect("a mark ends") + 1..];
            }
            plain.push_str(rest);
            let plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
            prop_assert_eq!(plain, text.lines().collect::<Vec<_>>().join("\n"));
        }
    }
}

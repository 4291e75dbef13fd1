//! Names as reports show and sort them.

use std::io;

/// Whether a screen acts on a character, and does not show it.
pub fn acts_on_screen(c: char) -> bool {
    // Marks that turn the direction of writing would show one name and mean another; the other two end a line.
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{206F}')
}

/// A name that a terminal, or a line of a file, shows and does not act on: as coverage.py has it, where `?` stands for
/// what Python does not call printable.
pub(super) fn printable(name: &str) -> String {
    // Rust escapes what Python calls not printable, three more signs, and a mark that combines with nothing before it.
    let is_printable = |c: char| {
        matches!(c, ' '..='~') || (!c.is_ascii() && str::escape_debug(&format!("x{c}")).count() == 2)
    };
    name.chars().map(|c| if is_printable(c) { c } else { '?' }).collect()
}

/// JSON in one line, in which nothing acts on the screen of whoever looks at it; what it says is the same.
///
/// # Errors
/// Where the value is none of JSON, or cannot be written.
pub fn write_json(value: &impl serde::Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Harmless);
    Ok(value.serialize(&mut serializer)?)
}

/// Writes what acts on a screen by its number.
struct Harmless;

impl serde_json::ser::Formatter for Harmless {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| acts_on_screen(c)) {
            let (before, behind) = rest.split_at(at);
            // None of them lies beyond the first plane.
            write!(out, "{before}\\u{:04x}", u32::from(c))?;
            rest = behind.get(c.len_utf8()..).unwrap_or_default();
        }
        out.write_all(rest.as_bytes())
    }
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
    fn what_python_does_not_print_is_a_question_mark() {
        let name = "a\n\u{1b}[2J\u{202e}\u{9b}\u{a0}\u{ad}\u{2028}\u{e000}\u{378}\u{301}\\'\"é字\u{1f600}.py";
        assert_eq!(printable(name), "a??[2J???????\u{301}\\'\"é字\u{1f600}.py");
    }

    #[test]
    fn json_shows_no_mark_and_says_the_same() {
        let text = "a\u{202e}b\u{2028}\u{61c}\u{9b}\"\\\n字\u{1f600}";
        let mut written = Vec::new();
        write_json(&serde_json::json!({text: [text, 1]}), &mut written).expect("written");
        let shown = String::from_utf8(written.clone()).expect("a text");
        assert!(
            !shown.contains(acts_on_screen) && shown.contains("\\u202eb\\u2028\\u061c\\u009b"),
            "{shown}"
        );
        let read: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(read[text][0], text);
    }

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["x10", "x2", "x", "x1y10", "x1y9", "a99999999999999999999999999999999999999999z"];
        names.sort_by_cached_key(|name| human_key(name));
        assert_eq!(names, ["a99999999999999999999999999999999999999999z", "x", "x1y9", "x1y10", "x2", "x10"]);
    }
}

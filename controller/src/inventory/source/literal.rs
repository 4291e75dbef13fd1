//! Values of INI inventories: what Python's `ast.literal_eval` reads as a literal, else the text itself.

use serde_json::{Map, Number, Value, json};

/// Deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 64;

/// The value of a text. A text that is no literal stands for itself.
pub(crate) fn value(text: &str) -> Value {
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']), depth: 0 };
    match reader.sum() {
        Some(value) if reader.at_end() => value,
        _ => Value::String(text.to_owned()),
    }
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    /// Skips blanks; in brackets line ends are blanks too, but a value is one line.
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\x0c']);
    }

    fn at_end(&mut self) -> bool {
        self.skip();
        // A comment ends the line, but not within brackets, where what follows would be missing.
        self.rest.is_empty() || self.rest.starts_with('#')
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// The longest prefix of characters that `good` takes.
    fn run(&mut self, good: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !good(c)).unwrap_or(self.rest.len());
        let (found, rest) = self.rest.split_at(end);
        self.rest = rest;
        found
    }

    /// A value. Sums make complex numbers, which no inventory has: they stay texts.
    fn sum(&mut self) -> Option<Value> {
        self.skip();
        let (mut negative, mut signed) = (false, false);
        while let Some(sign) = self.rest.chars().next().filter(|c| matches!(c, '+' | '-')) {
            // Only one sign is a literal's.
            if signed {
                return None;
            }
            (negative, signed) = (sign == '-', true);
            self.rest = self.rest.get(1..)?;
            self.skip();
        }
        if signed {
            return self.number(negative);
        }
        self.atom()
    }

    fn atom(&mut self) -> Option<Value> {
        match self.rest.chars().next()? {
            '[' => self.items("[", "]").map(Value::Array),
            '(' => self.tuple(),
            '{' => self.braces(),
            '0'..='9' | '.' => self.ellipsis().or_else(|| self.number(false)),
            '\'' | '"' => self.texts(),
            c if c.is_alphabetic() || c == '_' => self.name(),
            _ => None,
        }
    }

    fn ellipsis(&mut self) -> Option<Value> {
        self.take("...").then(|| Value::String("...".to_owned()))
    }

    fn name(&mut self) -> Option<Value> {
        let before = self.rest;
        let word = self.run(|c| c.is_alphanumeric() || c == '_');
        match word {
            "True" => return Some(Value::Bool(true)),
            "False" => return Some(Value::Bool(false)),
            "None" => return Some(Value::Null),
            "set" if self.take("(") && self.take(")") => return Some(Value::Array(Vec::new())),
            _ => {}
        }
        self.rest = before;
        self.texts()
    }

    /// One text, or several that stand side by side. All of them are bytes, or none.
    fn texts(&mut self) -> Option<Value> {
        let (mut all, mut bytes) = (String::new(), None);
        loop {
            let before = self.rest;
            let prefix = self.run(char::is_alphabetic).to_ascii_lowercase();
            let quotes =
                ["'''", "\"\"\"", "'", "\""].into_iter().find(|quotes| self.rest.starts_with(quotes));
            let Some(quotes) = quotes.filter(|_| ["", "r", "u", "b", "br", "rb"].contains(&prefix.as_str()))
            else {
                self.rest = before;
                // As Ansible has it: what was bytes is never a template.
                return bytes
                    .map(|bytes| if bytes { json!({"__ansible_unsafe": all}) } else { Value::String(all) });
            };
            let is_bytes = prefix.contains('b');
            if *bytes.get_or_insert(is_bytes) != is_bytes {
                return None;
            }
            self.rest = self.rest.get(quotes.len()..)?;
            self.text(quotes, prefix.contains('r'), is_bytes, &mut all)?;
            self.skip();
        }
    }

    fn text(&mut self, quotes: &str, raw: bool, bytes: bool, into: &mut String) -> Option<()> {
        loop {
            if let Some(rest) = self.rest.strip_prefix(quotes) {
                self.rest = rest;
                return Some(());
            }
            let c = self.next_char()?;
            match c {
                '\\' if raw => {
                    into.push(c);
                    into.push(self.next_char()?);
                }
                '\\' => self.escape(bytes, into)?,
                // Only ASCII stands in bytes.
                c if bytes && !c.is_ascii() => return None,
                c => into.push(c),
            }
        }
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..)?;
        Some(c)
    }

    fn escape(&mut self, bytes: bool, into: &mut String) -> Option<()> {
        let c = self.next_char()?;
        let plain = match c {
            '\\' | '\'' | '"' => c,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => self.code(2, bytes)?,
            'u' if !bytes => self.code(4, bytes)?,
            'U' if !bytes => self.code(8, bytes)?,
            // Names of characters would need their whole table.
            'N' if !bytes => return None,
            '0'..='7' => {
                let mut code = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.next_char();
                }
                char::from_u32(code)?
            }
            other => {
                into.push('\\');
                other
            }
        };
        into.push(plain);
        Some(())
    }

    /// So many hexadecimal digits. A byte beyond ASCII may be part of a text that is none: not taken.
    fn code(&mut self, digits: usize, bytes: bool) -> Option<char> {
        let text = self.rest.get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.rest = self.rest.get(digits..)?;
        let code = u32::from_str_radix(text, 16).ok()?;
        char::from_u32(code).filter(|_| !bytes || code < 128)
    }

    fn number(&mut self, negative: bool) -> Option<Value> {
        let text = self.number_text();
        // Ansible writes complex numbers back as texts.
        if !negative && text.bytes().all(|b| b.is_ascii_digit()) && self.take_imaginary() {
            let digits = text.trim_start_matches('0');
            return Some(Value::String(format!("{}j", if digits.is_empty() { "0" } else { digits })));
        }
        let clean = text.replace('_', "");
        let lower = clean.to_ascii_lowercase();
        let bad_underscores = text.ends_with('_') || text.starts_with('_') || text.contains("__");
        // `5j`, `5x`, `5 in`: no number.
        if bad_underscores || self.rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let integer = match lower.get(..2) {
            Some("0x") => i128::from_str_radix(lower.get(2..)?, 16).ok(),
            Some("0o") => i128::from_str_radix(lower.get(2..)?, 8).ok(),
            Some("0b") => i128::from_str_radix(lower.get(2..)?, 2).ok(),
            _ if clean.bytes().all(|b| b.is_ascii_digit()) && !clean.is_empty() => {
                // Python refuses 007, and takes 00.
                let zeros = clean.trim_start_matches('0');
                if zeros.len() < clean.len() && !zeros.is_empty() {
                    return None;
                }
                clean.parse::<i128>().ok()
            }
            _ => {
                let float: f64 = clean.parse().ok()?;
                return Number::from_f64(if negative { -float } else { float }).map(Value::Number);
            }
        }?;
        let signed = if negative { -integer } else { integer };
        i64::try_from(signed)
            .map(Number::from)
            .or_else(|_| u64::try_from(signed).map(Number::from))
            .ok()
            .map(Value::Number)
    }

    fn take_imaginary(&mut self) -> bool {
        let rest = self.rest.strip_prefix(['j', 'J']).filter(|rest| !rest.starts_with(char::is_alphanumeric));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Digits, a point, an exponent with its sign.
    fn number_text(&mut self) -> &'t str {
        let start = self.rest;
        let is_radix = start.get(1..2).is_some_and(|c| "xXoObB".contains(c)) && start.starts_with('0');
        if is_radix {
            self.rest = self.rest.get(2..).unwrap_or_default();
            self.run(|c| c.is_ascii_hexdigit() || c == '_');
        } else {
            self.run(|c| c.is_ascii_digit() || c == '_' || c == '.');
            let exponent =
                self.rest.strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
            if let Some(rest) = exponent.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                self.rest = rest;
                self.run(|c| c.is_ascii_digit() || c == '_');
            }
        }
        start.get(..start.len() - self.rest.len()).unwrap_or_default()
    }

    /// What stands between two brackets, with a comma after the last or none.
    fn items(&mut self, open: &str, close: &str) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        self.enter(open)?;
        while !self.take(close) {
            items.push(self.sum()?);
            if !self.take(",") {
                self.take(close).then_some(())?;
                break;
            }
        }
        self.depth -= 1;
        Some(items)
    }

    fn enter(&mut self, open: &str) -> Option<()> {
        self.depth += 1;
        (self.take(open) && self.depth <= MAX_DEPTH).then_some(())
    }

    /// Brackets with one value and no comma only hold it together.
    fn tuple(&mut self) -> Option<Value> {
        let before = self.rest;
        let items = self.items("(", ")")?;
        let text = before.get(..before.len() - self.rest.len())?;
        let has_comma = text.trim_end_matches(')').trim_end().ends_with(',');
        match <[Value; 1]>::try_from(items) {
            Ok([one]) if !has_comma => Some(one),
            Ok(one) => Some(Value::Array(one.into())),
            Err(items) => Some(Value::Array(items)),
        }
    }

    /// A mapping or a set.
    fn braces(&mut self) -> Option<Value> {
        self.enter("{")?;
        let (mut pairs, mut items) = (Map::new(), Vec::new());
        while !self.take("}") {
            let key = self.sum()?;
            if items.is_empty() && self.take(":") {
                let value = self.sum()?;
                pairs.insert(key_text(key)?, value);
            } else if pairs.is_empty() {
                if !items.contains(&key) {
                    items.push(key);
                }
            } else {
                return None;
            }
            if !self.take(",") {
                self.take("}").then_some(())?;
                break;
            }
        }
        self.depth -= 1;
        Some(if items.is_empty() { Value::Object(pairs) } else { Value::Array(items) })
    }
}

/// A key as Python's JSON writes it.
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) | Value::Null => Some(key.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::value;

    #[test]
    fn literals_are_values_and_the_rest_are_texts() {
        for (text, expected) in [
            ("5", json!(5)),
            ("-5", json!(-5)),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("007", json!("007")),
            ("5.50", json!(5.5)),
            ("1e3", json!(1000.0)),
            ("5 # five", json!(5)),
            ("5 five", json!("5 five")),
            ("true", json!("true")),
            ("True", json!(true)),
            ("None", json!(null)),
            ("'5'", json!("5")),
            (r#""a" 'b'"#, json!("ab")),
            (r"'a\tb'", json!("a\tb")),
            (r"r'a\tb'", json!("a\\tb")),
            ("b'x'", json!({"__ansible_unsafe": "x"})),
            ("5j # imaginary", json!("5j")),
            ("[1, 'a', [True,],]", json!([1, "a", [true]])),
            ("(1)", json!(1)),
            ("(1,)", json!([1])),
            ("()", json!([])),
            ("{'a': {'b': 1}}", json!({"a": {"b": 1}})),
            ("{1, 2, 1}", json!([1, 2])),
            ("{}", json!({})),
            ("[a, b]", json!("[a, b]")),
            ("{{ x }}", json!("{{ x }}")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("", json!("")),
            ("'open", json!("'open")),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_a_text() {
        let text = "[".repeat(100_000);
        assert_eq!(value(&text), json!(text));
    }
}

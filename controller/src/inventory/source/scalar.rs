//! Plain scalars as YAML 1.1 and PyYAML take them, because Ansible does: `yes` is true, `0755` is
//! 493, `22:30` is 1350, `1e3` is a text.

use serde_json::{Number, Value};

pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = sign(text);
    let clean: String = digits.chars().filter(|&c| c != '_').collect();
    let first = digits.chars().next().filter(char::is_ascii_digit)?;
    let all = |radix: u32| digits.chars().all(|c| c.is_digit(radix) || c == '_');
    let magnitude = if let Some(bits) = digits.strip_prefix("0b") {
        (!bits.is_empty() && bits.chars().all(|c| matches!(c, '0' | '1' | '_')))
            .then(|| u64::from_str_radix(clean.get(2..)?, 2).ok())??
    } else if let Some(hex) = digits.strip_prefix("0x") {
        (!hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit() || c == '_'))
            .then(|| u64::from_str_radix(clean.get(2..)?, 16).ok())??
    } else if digits == "0" {
        0
    } else if first == '0' {
        all(8).then(|| u64::from_str_radix(&clean, 8).ok())??
    } else if digits.contains(':') {
        sexagesimal(&clean)?
    } else if all(10) {
        match clean.parse() {
            Ok(n) => n,
            // Beyond 64 bits nothing here needs a number; the digits stay as they are.
            Err(_) => return Some(Value::String(text.to_owned())),
        }
    } else {
        return None;
    };
    if !negative {
        return Some(Value::Number(magnitude.into()));
    }
    i64::try_from(magnitude).ok().map(|n| Value::Number((-n).into()))
}

/// `1:30` is 90: base 60, each part after the first below 60.
fn sexagesimal(text: &str) -> Option<u64> {
    let mut total = 0u64;
    for (i, part) in text.split(':').enumerate() {
        let n: u64 = part.parse().ok()?;
        if i > 0 && (n > 59 || part.len() > 2) {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(n)?;
    }
    Some(total)
}

fn float(text: &str) -> Option<Value> {
    let (negative, digits) = sign(text);
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        // PyYAML wants a sign in the exponent: `1.0e+3` is a number and `1.0e3` is a text.
        Some(at) => {
            let exponent = digits.get(at + 1..)?;
            let rest = exponent.strip_prefix(['+', '-'])?;
            if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (digits.get(..at)?, exponent)
        }
        None => (digits, "+0"),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let starts = whole.bytes().next().is_some_and(|b| b.is_ascii_digit())
        || (whole.is_empty()
            && !text.starts_with(['+', '-'])
            && fraction.bytes().next().is_some_and(|b| b.is_ascii_digit()));
    if !starts || !numeric(whole) || !numeric(fraction) {
        return None;
    }
    let clean: String =
        format!("{}{whole}.{fraction}0e{exponent}", if negative { "-0" } else { "0" }).replace('_', "");
    Number::from_f64(clean.parse().ok()?).map(Value::Number)
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::resolve;

    #[test]
    fn yaml_1_1_and_not_1_2() {
        for (text, value) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("~", json!(null)),
            ("", json!(null)),
            ("0755", json!(493)),
            ("0o755", json!("0o755")),
            ("089", json!("089")),
            ("22:30", json!(1350)),
            ("22:75", json!("22:75")),
            ("1e3", json!("1e3")),
            ("1.0e+3", json!(1000.0)),
            ("1.0e3", json!("1.0e3")),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("-17", json!(-17)),
            ("+5", json!(5)),
            ("3.5", json!(3.5)),
            ("-.5", json!("-.5")),
            ("192.168.0.1", json!("192.168.0.1")),
            ("2024-01-31", json!("2024-01-31")),
            ("10.77.0.2", json!("10.77.0.2")),
        ] {
            assert_eq!(resolve(text), value, "{text}");
        }
    }
}

//! Host ranges: `web[01:10:3].example` and `db-[a:c]`.

/// Most hosts that one name may stand for.
const MAX_HOSTS: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    #[error("{name}: range [{range}] has no end")]
    NoEnd { name: String, range: String },
    #[error("{name}: [{range}] is no range of numbers or of letters")]
    NotARange { name: String, range: String },
    #[error("{name}: begin and end of [{range}] have different lengths")]
    UnevenLengths { name: String, range: String },
    #[error("{name}: range [{range}] goes backwards")]
    Backwards { name: String, range: String },
    #[error("{name} stands for more than {MAX_HOSTS} hosts")]
    TooMany { name: String },
}

/// Every name that `name` stands for: its first pair of brackets is a range, and so are those after it.
pub(crate) fn expand(name: &str) -> Result<Vec<String>, RangeError> {
    let Some((head, rest)) = name.split_once('[') else { return Ok(vec![name.to_owned()]) };
    let Some((range, tail)) = rest.split_once(']') else {
        return Err(RangeError::NotARange { name: name.to_owned(), range: rest.to_owned() });
    };
    let items = items(name, range)?;
    let tails = expand(tail)?;
    if items.len().saturating_mul(tails.len()) > MAX_HOSTS {
        return Err(RangeError::TooMany { name: name.to_owned() });
    }
    Ok(items.iter().flat_map(|item| tails.iter().map(move |tail| format!("{head}{item}{tail}"))).collect())
}

/// Ansible's order of letters.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn items(name: &str, range: &str) -> Result<Vec<String>, RangeError> {
    let (name, text) = (name.to_owned(), range.to_owned());
    let parts: Vec<&str> = range.split(':').collect();
    let (begin, end, step) = match *parts.as_slice() {
        [begin, end] => (begin, end, "1"),
        [begin, end, step] => (begin, end, step),
        _ => return Err(RangeError::NotARange { name, range: text }),
    };
    let begin = if begin.is_empty() { "0" } else { begin };
    if end.is_empty() {
        return Err(RangeError::NoEnd { name, range: text });
    }
    let Some(step) = step.parse::<usize>().ok().filter(|&step| step > 0) else {
        return Err(RangeError::NotARange { name, range: text });
    };
    if let (Ok(first), Ok(last)) = (begin.parse::<u64>(), end.parse::<u64>()) {
        let width = if begin.len() > 1 && begin.starts_with('0') { begin.len() } else { 0 };
        if width > 0 && width != end.len() {
            return Err(RangeError::UnevenLengths { name, range: text });
        }
        if last < first {
            return Err(RangeError::Backwards { name, range: text });
        }
        if (last - first) / step as u64 >= MAX_HOSTS as u64 {
            return Err(RangeError::TooMany { name });
        }
        return Ok((first..=last).step_by(step).map(|n| format!("{n:0width$}")).collect());
    }
    let place = |letter: &str| if letter.len() == 1 { LETTERS.find(letter) } else { None };
    let (Some(first), Some(last)) = (place(begin), place(end)) else {
        return Err(RangeError::NotARange { name, range: text });
    };
    if last < first {
        return Err(RangeError::Backwards { name, range: text });
    }
    Ok(LETTERS.chars().skip(first).take(last - first + 1).step_by(step).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_letters_steps_and_several_ranges() {
        assert_eq!(expand("web[01:03]").expect("ok"), ["web01", "web02", "web03"]);
        assert_eq!(expand("w[:2]").expect("ok"), ["w0", "w1", "w2"]);
        assert_eq!(expand("w[1:7:3]-[a:b]").expect("ok"), ["w1-a", "w1-b", "w4-a", "w4-b", "w7-a", "w7-b"]);
        assert_eq!(expand("fe80::[1:2]").expect("ok"), ["fe80::1", "fe80::2"]);
        assert_eq!(expand("plain.example").expect("ok"), ["plain.example"]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        assert!(matches!(expand("w[1:]"), Err(RangeError::NoEnd { .. })));
        assert!(matches!(expand("w[01:100]"), Err(RangeError::UnevenLengths { .. })));
        assert!(matches!(expand("w[5:1]"), Err(RangeError::Backwards { .. })));
        assert!(matches!(expand("w[a:3]"), Err(RangeError::NotARange { .. })));
        assert!(matches!(expand("w[1-3]"), Err(RangeError::NotARange { .. })));
        assert!(matches!(expand("w[1:999999999]"), Err(RangeError::TooMany { .. })));
        assert!(matches!(expand("w[0:999][0:999]"), Err(RangeError::TooMany { .. })));
    }
}

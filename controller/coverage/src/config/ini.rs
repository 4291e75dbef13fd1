//! INI as Python's `configparser` reads it (strict, no interpolation): a value goes on over lines that
//! are indented deeper than its name.

use std::collections::BTreeMap;

use super::ConfigError;

/// Section to its options, in the file's order.
pub(super) type Ini = BTreeMap<String, Vec<(String, String)>>;

/// The section whose options all others have too.
const DEFAULT: &str = "DEFAULT";

pub(super) fn parse(text: &str) -> Result<Ini, ConfigError> {
    let mut ini = Ini::new();
    let mut section: Option<String> = None;
    let mut has_option = false;
    let mut indent = 0;
    for (number, line) in (1..).zip(text.trim_start_matches('\u{FEFF}').lines()) {
        let fail = |reason: String| ConfigError::Ini { line: number, reason };
        let value = line.trim();
        if value.starts_with(['#', ';']) {
            continue;
        }
        if value.is_empty() {
            if let (true, Some(open)) = (has_option, last_value(&mut ini, section.as_ref())) {
                open.push('\n');
            }
            continue;
        }
        let depth = line.chars().take_while(|c| c.is_whitespace()).count();
        if has_option
            && depth > indent
            && let Some(open) = last_value(&mut ini, section.as_ref())
        {
            open.push('\n');
            open.push_str(value);
            continue;
        }
        indent = depth;
        if let Some(name) = value.strip_prefix('[').and_then(|inner| inner.rsplit_once(']')) {
            let name = name.0.to_owned();
            if ini.insert(name.clone(), Vec::new()).is_some() && name != DEFAULT {
                return Err(fail(format!("section [{name}] is there twice")));
            }
            section = Some(name);
            has_option = false;
            continue;
        }
        let Some(name) = &section else { return Err(fail("it stands before the first section".to_owned())) };
        let Some((key, value)) = value.split_once(['=', ':']) else {
            return Err(fail("neither a section, nor NAME = VALUE".to_owned()));
        };
        let options = ini.entry(name.clone()).or_default();
        let key = key.trim().to_lowercase();
        if options.iter().any(|(have, _)| *have == key) {
            return Err(fail(format!("[{name}] has {key} twice")));
        }
        options.push((key, value.trim().to_owned()));
        has_option = true;
    }
    for (_, value) in ini.values_mut().flatten() {
        value.truncate(value.trim_end().len());
    }
    let defaults = ini.remove(DEFAULT).unwrap_or_default();
    for options in ini.values_mut() {
        for (key, value) in &defaults {
            if !options.iter().any(|(have, _)| have == key) {
                options.push((key.clone(), value.clone()));
            }
        }
    }
    Ok(ini)
}

/// The value that a line may go on with.
fn last_value<'a>(ini: &'a mut Ini, section: Option<&String>) -> Option<&'a mut String> {
    ini.get_mut(section?)?.last_mut().map(|(_, value)| value)
}

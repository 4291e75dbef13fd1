//! INI inventories: `[group]`, `[group:vars]`, `[group:children]`.

use indexmap::IndexMap;

use crate::inventory::model::groups::{Inventory, UNGROUPED};
use crate::inventory::source::{self, SourceError, Span, literal, shell_words};

enum Section {
    Hosts,
    Vars,
    Children,
}

/// A group that is named before it is declared, or never.
struct Pending {
    span: Span,
    /// Groups that want it as a child; a section of variables wants nothing.
    parents: Vec<String>,
}

/// Reads an INI inventory into `inventory`.
pub(crate) fn read(inventory: &mut Inventory, text: &str) -> Result<(), SourceError> {
    let mut pending: IndexMap<String, Pending> = IndexMap::new();
    let (mut group, mut section) = (UNGROUPED.to_owned(), Section::Hosts);
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim();
        let column = raw.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let span = Span { line: index + 1, column };
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some((name, kind)) = header(line) {
            section = match kind {
                None | Some("hosts") => Section::Hosts,
                Some("vars") => Section::Vars,
                Some("children") => Section::Children,
                Some(other) => return Err(span.error(format!("a section of unknown type {other:?}"))),
            };
            name.clone_into(&mut group);
            declare(inventory, &mut pending, &group, matches!(section, Section::Vars), span)?;
            continue;
        }
        if line.starts_with('[') && line.ends_with(']') {
            return Err(span.error(format!("{line} is no section; none has blanks or colons in its name")));
        }
        match section {
            Section::Hosts => read_host(inventory, &group, line, span)?,
            Section::Vars => {
                let (name, value) =
                    line.split_once('=').ok_or_else(|| span.error("a variable wants the form name=value"))?;
                inventory
                    .set_group_var(&group, name.trim(), literal::value(value.trim()))
                    .map_err(|error| span.error(error))?;
            }
            Section::Children => {
                let child =
                    bare_name(line).ok_or_else(|| span.error(format!("{line:?} is no group's name")))?;
                if inventory.groups.contains_key(child) {
                    inventory.add_child(&group, child).map_err(|error| span.error(error))?;
                } else {
                    let entry = pending.entry(child.to_owned());
                    entry.or_insert(Pending { span, parents: Vec::new() }).parents.push(group.clone());
                }
            }
        }
    }
    match pending.first() {
        None => Ok(()),
        Some((name, Pending { span, .. })) => Err(span.error(format!("group {name} is declared nowhere"))),
    }
}

/// A section's group; with it come those that waited for it.
fn declare(
    inventory: &mut Inventory,
    pending: &mut IndexMap<String, Pending>,
    group: &str,
    is_vars: bool,
    span: Span,
) -> Result<(), SourceError> {
    let is_new = !inventory.groups.contains_key(group);
    inventory.group(group).map_err(|error| span.error(error))?;
    if is_vars {
        if is_new {
            pending.entry(group.to_owned()).or_insert(Pending { span, parents: Vec::new() });
        }
        return Ok(());
    }
    if let Some(Pending { parents, .. }) = pending.shift_remove(group) {
        for parent in parents {
            inventory.add_child(&parent, group).map_err(|error| span.error(error))?;
        }
    }
    Ok(())
}

/// `[name]` or `[name:kind]`, with a comment behind it or none.
fn header(line: &str) -> Option<(&str, Option<&str>)> {
    let (inside, rest) = line.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim_start();
    if !rest.is_empty() && !rest.starts_with('#') {
        return None;
    }
    let (name, kind) = match inside.split_once(':') {
        Some((name, kind)) => (name, Some(kind)),
        None => (inside, None),
    };
    let is_word = |kind: &str| !kind.is_empty() && kind.chars().all(|c| c.is_alphanumeric() || c == '_');
    let good = !name.is_empty() && !name.contains(char::is_whitespace) && kind.is_none_or(is_word);
    good.then_some((name, kind))
}

/// A group's name with nothing but a comment behind it.
fn bare_name(line: &str) -> Option<&str> {
    let (name, rest) = line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()));
    let rest = rest.trim_start();
    // `web#1` is a name, `web #1` is one with a comment.
    (!name.contains([':', ']']) && (rest.is_empty() || rest.starts_with('#'))).then_some(name)
}

fn read_host(inventory: &mut Inventory, group: &str, line: &str, span: Span) -> Result<(), SourceError> {
    let words = shell_words::split(line, true).map_err(|error| span.error(error))?;
    let mut words = words.into_iter();
    let pattern = words.next().unwrap_or_default();
    let mut vars = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            span.error(format!("a host's variable wants the form name=value, and {word:?} has not"))
        })?;
        vars.push((name.to_owned(), literal::value(value)));
    }
    if pattern == "---" {
        return Err(span.error("`---` is YAML's, and this is none"));
    }
    if pattern.ends_with(':') {
        return Err(span.error(format!("{pattern:?} ends with a colon and has no port")));
    }
    source::add_hosts(inventory, group, &pattern, vars, span)
}

//! YAML text to a tree that remembers lines, with anchors, merge keys and YAML 1.1 scalars.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value, json};

use crate::inventory::source::scalar;

/// Most nodes after aliases are spread out: a few lines of aliases can stand for billions.
const MAX_NODES: usize = 1_000_000;

/// Deepest nesting.
const MAX_DEPTH: usize = 200;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub(crate) struct YamlError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Scalar(Value),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    pub(crate) fn error(&self, reason: impl Into<String>) -> YamlError {
        YamlError { line: self.line, column: self.column, reason: reason.into() }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.kind == Kind::Scalar(Value::Null)
    }

    /// A mapping key as a text; a number or a bool is none.
    pub(crate) fn key(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The node as a value of a variable. Keys that are no texts are written as Python's JSON writes them.
    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Sequence(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Mapping(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| {
                    let key = match &key.kind {
                        Kind::Scalar(Value::String(text)) => text.clone(),
                        _ => key.to_value().to_string(),
                    };
                    (key, value.to_value())
                });
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}

/// A document and what was odd in it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Option<Node>,
    pub(crate) warnings: Vec<String>,
}

/// Parses the one document of a text; `root` is `None` for an empty one.
pub(crate) fn parse(text: &str) -> Result<Document, YamlError> {
    let mut builder = Builder {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        warnings: Vec::new(),
    };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            event => {
                let node = builder.node(event, span, 0)?;
                if root.is_some() {
                    return Err(node.error("a second document"));
                }
                root = Some(node);
            }
        }
    }
    Ok(Document { root, warnings: builder.warnings })
}

struct Builder<'t, I: Iterator<Item = Result<(Event<'t>, Span), saphyr_parser::ScanError>>> {
    events: I,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    warnings: Vec<String>,
}

impl<'t, I: Iterator<Item = Result<(Event<'t>, Span), saphyr_parser::ScanError>>> Builder<'t, I> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, YamlError> {
        self.events.next().transpose().map_err(|error| YamlError {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            reason: error.info().to_owned(),
        })
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let mut node =
            Node { line: span.start.line(), column: span.start.col() + 1, kind: Kind::Scalar(Value::Null) };
        if depth > MAX_DEPTH {
            return Err(node.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        self.count(1, &node)?;
        let anchor = match event {
            Event::Alias(id) => {
                let target =
                    self.anchors.get(&id).cloned().ok_or_else(|| node.error("an alias of nothing"))?;
                self.count(size(&target), &node)?;
                return Ok(target);
            }
            Event::Scalar(text, style, anchor, tag) => {
                node.kind = Kind::Scalar(scalar_value(&text, style, tag.as_deref(), &node)?);
                anchor
            }
            Event::SequenceStart(anchor, _) => {
                node.kind = Kind::Sequence(self.sequence(&node, depth)?);
                anchor
            }
            Event::MappingStart(anchor, _) => {
                node.kind = Kind::Mapping(self.mapping(&node, depth)?);
                anchor
            }
            _ => return Err(node.error("unexpected end")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, at: &Node) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(at.error(format!("more than {MAX_NODES} values, aliases spread out")));
        }
        Ok(())
    }

    fn child(&mut self, parent: &Node) -> Result<(Event<'t>, Span), YamlError> {
        self.next()?.ok_or_else(|| parent.error("unexpected end"))
    }

    fn sequence(&mut self, parent: &Node, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.child(parent)? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, parent: &Node, depth: usize) -> Result<Vec<(Node, Node)>, YamlError> {
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        let mut merged: Vec<(Node, Node)> = Vec::new();
        loop {
            let key = match self.child(parent)? {
                (Event::MappingEnd, _) => break,
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.child(parent)?;
            let value = self.node(event, span, depth + 1)?;
            if key.key() == Some("<<") {
                merge_into(&mut merged, &value)?;
            } else if let Some(old) = pairs.iter_mut().find(|(have, _)| have.kind == key.kind) {
                // As Ansible does: the last one wins, and all of the first is lost.
                self.warnings.push(format!(
                    "line {}: {} stands here a second time; the last one counts",
                    key.line,
                    key.to_value()
                ));
                old.1 = value;
            } else {
                pairs.push((key, value));
            }
        }
        let own: Vec<Kind> = pairs.iter().map(|(key, _)| key.kind.clone()).collect();
        merged.retain(|(key, _)| !own.contains(&key.kind));
        merged.extend(pairs);
        Ok(merged)
    }
}

/// `<<: *base`, or a list of such: earlier ones win.
fn merge_into(merged: &mut Vec<(Node, Node)>, value: &Node) -> Result<(), YamlError> {
    match &value.kind {
        Kind::Mapping(pairs) => {
            for pair in pairs {
                if !merged.iter().any(|(have, _)| have.kind == pair.0.kind) {
                    merged.push(pair.clone());
                }
            }
            Ok(())
        }
        Kind::Sequence(items) => items.iter().try_for_each(|item| merge_into(merged, item)),
        Kind::Scalar(_) => Err(value.error("<< wants a mapping")),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, node: &Node) -> Result<Value, YamlError> {
    let string = || Value::String(text.to_owned());
    match tag {
        // The two tags of Ansible: kept apart, so that nobody takes a cipher for a password, or a
        // literal for a template.
        Some(tag) if tag.handle == "!" && tag.suffix == "vault" => Ok(json!({"__ansible_vault": text})),
        Some(tag) if tag.handle == "!" && tag.suffix == "unsafe" => Ok(json!({"__ansible_unsafe": text})),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(string()),
        Some(tag) if tag.is_yaml_core_schema() => Ok(scalar::resolve(text)),
        Some(tag) => Err(node.error(format!("unknown tag {}{}", tag.handle, tag.suffix))),
        // YAML 1.1 has a type of its own for it, which PyYAML does not read.
        None if style == ScalarStyle::Plain && text == "=" => Err(node.error("a lone `=`; put it in quotes")),
        None if style == ScalarStyle::Plain => Ok(scalar::resolve(text)),
        None => Ok(string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text).expect("parses").root.map_or(Value::Null, |root| root.to_value())
    }

    #[test]
    fn quotes_keep_texts_and_merge_keys_merge() {
        assert_eq!(value("a: 'yes'\nb: yes\n"), json!({"a": "yes", "b": true}));
        assert_eq!(value("base: &b {x: 1, y: 2}\nc:\n  <<: *b\n  y: 3\n")["c"], json!({"x": 1, "y": 3}));
    }

    #[test]
    fn a_repeated_key_warns_and_the_last_wins() {
        let document = parse("a: 1\na: 2\n").expect("parses");
        assert_eq!(document.root.expect("root").to_value(), json!({"a": 2}));
        assert_eq!(document.warnings.len(), 1);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(parse(&text).expect_err("too much").reason.contains("values"));
    }

    #[test]
    fn errors_have_a_place() {
        let error = parse("all:\n  hosts: [a\n").expect_err("open");
        assert!(error.line >= 2, "{error}");
    }
}

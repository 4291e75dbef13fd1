//! Which origins to look at: set algebra over hosts, groups, roles and labels.
//!
//! `group:workers & label:tier1 - host:w3`. From the tightest: `!`, then `&` and `-`, then `|`;
//! operators of one tightness go from left to right. `*` and `?` in a name stand for any letters.

use std::collections::BTreeSet;
use std::fmt;

use crate::origin::{Dimension, Groups, Origin};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    #[error("{found:?} at character {at}, where {wanted} should be")]
    Unexpected { at: usize, found: String, wanted: &'static str },
    #[error("it ends where {wanted} should be")]
    Ends { wanted: &'static str },
    #[error("{0:?} is none of host, group, role and label")]
    Dimension(String),
    #[error("parentheses and ! are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("no data has {dimension} {name}; there is {have}")]
    Unknown { dimension: Dimension, name: String, have: String },
}

/// Deepest nesting: nobody writes more, and a stack is finite.
const MAX_DEPTH: usize = 64;

/// A set of origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selection {
    #[default]
    All,
    Named(Dimension, String),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Selection {
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, depth: 0 };
        let selection = parser.any()?;
        match parser.tokens.first() {
            None => Ok(selection),
            Some((at, token)) => Err(SelectionError::Unexpected {
                at: *at,
                found: token.text().to_owned(),
                wanted: "an operator or the end",
            }),
        }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, one) | (one, Self::All) => one,
            (a, b) => Self::And(Box::new(a), Box::new(b)),
        }
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    pub fn takes(&self, origin: &Origin, groups: &Groups) -> bool {
        match self {
            Self::All => true,
            Self::Named(dimension, pattern) => {
                dimension.names_of(origin, groups).iter().any(|name| fits(pattern, name))
            }
            Self::Not(inner) => !inner.takes(origin, groups),
            Self::And(a, b) => a.takes(origin, groups) && b.takes(origin, groups),
            Self::Or(a, b) => a.takes(origin, groups) || b.takes(origin, groups),
        }
    }

    /// Names that nothing has are slips: a report of nothing would hide them.
    pub fn check(&self, origins: &[Origin], groups: &Groups) -> Result<(), SelectionError> {
        match self {
            Self::All => Ok(()),
            Self::Not(inner) => inner.check(origins, groups),
            Self::And(a, b) | Self::Or(a, b) => {
                a.check(origins, groups)?;
                b.check(origins, groups)
            }
            Self::Named(dimension, pattern) => {
                let mut have: BTreeSet<&str> =
                    origins.iter().flat_map(|origin| dimension.names_of(origin, groups)).collect();
                if *dimension == Dimension::Group {
                    // A group whose hosts gave nothing is empty, and no slip.
                    have.extend(groups.keys().map(String::as_str));
                }
                if have.iter().any(|name| fits(pattern, name)) {
                    return Ok(());
                }
                let have: Vec<&str> =
                    have.into_iter().map(|name| if name.is_empty() { "(none)" } else { name }).collect();
                let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
                Err(SelectionError::Unknown { dimension: *dimension, name: pattern.clone(), have })
            }
        }
    }
}

impl fmt::Display for Selection {
    /// As it could be written: every operation in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(dimension, name) => write!(f, "{dimension}:{name}"),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::And(a, b) => write!(f, "({a} & {b})"),
            Self::Or(a, b) => write!(f, "({a} | {b})"),
        }
    }
}

/// Whether a name is what a pattern with `*` and `?` says.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stands, and how much of the name it has taken: going back there is enough.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Operator(char),
    Word(String),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Operator('&') => "&",
            Self::Operator('|') => "|",
            Self::Operator('-') => "-",
            Self::Operator('!') => "!",
            Self::Operator('(') => "(",
            Self::Operator(_) => ")",
            Self::Word(word) => word,
        }
    }
}

/// `-` is an operator where a space stands before it, and part of a name elsewhere: `host:web-1`.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SelectionError> {
    let mut tokens = Vec::new();
    let mut word: Option<(usize, String)> = None;
    for (i, c) in text.chars().enumerate() {
        let is_operator = match c {
            '&' | '|' | '!' | '(' | ')' => true,
            '-' => word.is_none(),
            _ => false,
        };
        if is_operator || c.is_whitespace() {
            tokens.extend(word.take().map(|(at, word)| (at, Token::Word(word))));
            if is_operator {
                tokens.push((i + 1, Token::Operator(c)));
            }
        } else if c.is_control() {
            return Err(SelectionError::Unexpected { at: i + 1, found: c.to_string(), wanted: "a name" });
        } else {
            word.get_or_insert_with(|| (i + 1, String::new())).1.push(c);
        }
    }
    tokens.extend(word.map(|(at, word)| (at, Token::Word(word))));
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    depth: usize,
}

impl Parser<'_> {
    /// Takes the next token if it is one of these operators.
    fn operator(&mut self, operators: &[char]) -> Option<char> {
        let ((_, Token::Operator(c)), rest) = self.tokens.split_first()? else { return None };
        operators.contains(c).then(|| {
            self.tokens = rest;
            *c
        })
    }

    fn any(&mut self) -> Result<Selection, SelectionError> {
        let mut selection = self.both()?;
        while self.operator(&['|']).is_some() {
            selection = selection.or(self.both()?);
        }
        Ok(selection)
    }

    fn both(&mut self) -> Result<Selection, SelectionError> {
        let mut selection = self.one()?;
        while let Some(operator) = self.operator(&['&', '-']) {
            let right = self.one()?;
            selection = selection.and(if operator == '-' { right.negated() } else { right });
        }
        Ok(selection)
    }

    fn one(&mut self) -> Result<Selection, SelectionError> {
        let wanted = "host:NAME, group:NAME, role:NAME, label:NAME or all";
        let Some(((at, token), rest)) = self.tokens.split_first() else {
            return Err(SelectionError::Ends { wanted });
        };
        self.tokens = rest;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SelectionError::TooDeep);
        }
        let selection = match token {
            Token::Operator('!') => self.one()?.negated(),
            Token::Operator('(') => {
                let inner = self.any()?;
                if self.operator(&[')']).is_none() {
                    return Err(self.tokens.first().map_or(
                        SelectionError::Ends { wanted: ")" },
                        |(at, token)| SelectionError::Unexpected {
                            at: *at,
                            found: token.text().to_owned(),
                            wanted: ")",
                        },
                    ));
                }
                inner
            }
            Token::Word(word) if word == "all" => Selection::All,
            Token::Word(word) => match word.split_once(':') {
                Some((dimension, name)) => {
                    let dimension = Dimension::parse(dimension)
                        .ok_or_else(|| SelectionError::Dimension(dimension.to_owned()))?;
                    Selection::Named(dimension, name.to_owned())
                }
                None => return Err(SelectionError::Unexpected { at: *at, found: word.clone(), wanted }),
            },
            Token::Operator(_) => {
                return Err(SelectionError::Unexpected { at: *at, found: token.text().to_owned(), wanted });
            }
        };
        self.depth -= 1;
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins() -> (Vec<Origin>, Groups) {
        let mut origins = Vec::new();
        for host in ["w1", "w2", "w3", "api-1"] {
            for label in ["startup", "tier1"] {
                let role = if host == "api-1" { "api" } else { "worker" };
                origins.push(Origin { host: host.into(), role: role.into(), label: label.into() });
            }
        }
        let workers = ["w1", "w2", "w3"].map(str::to_owned).into();
        (origins, Groups::from([("workers".to_owned(), workers), ("spare".to_owned(), BTreeSet::new())]))
    }

    fn chosen(text: &str) -> Vec<String> {
        let (origins, groups) = origins();
        let selection = Selection::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let taken = origins.iter().filter(|origin| selection.takes(origin, &groups));
        taken.map(|origin| format!("{}/{}", origin.host, origin.label)).collect()
    }

    #[test]
    fn the_algebra_is_that_of_sets() {
        assert_eq!(chosen("group:workers & label:tier1 - host:w3"), ["w1/tier1", "w2/tier1"]);
        assert_eq!(
            chosen("host:w1 & label:startup | role:api"),
            ["w1/startup", "api-1/startup", "api-1/tier1"]
        );
        assert_eq!(chosen("label:tier1&!(host:w*|host:nobody)"), ["api-1/tier1"]);
        assert_eq!(chosen("host:api-1 -label:tier1"), ["api-1/startup"]);
        assert_eq!(chosen("all - label:startup - role:worker"), ["api-1/tier1"]);
        assert_eq!(chosen("host:w? & label:*up").len(), 3);
    }

    #[test]
    fn what_is_no_selection_is_an_error_that_points() {
        for (text, words) in [
            ("", "it ends where"),
            ("host:a &", "it ends where"),
            ("host:a host:b", "\"host:b\" at character 8"),
            ("(host:a", "it ends where )"),
            ("planet:earth", "\"planet\" is none of"),
            ("w1", "\"w1\" at character 1"),
            ("& host:a", "\"&\" at character 1"),
        ] {
            let error = Selection::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!(Selection::parse(&"!".repeat(100_000)), Err(SelectionError::TooDeep));
    }

    #[test]
    fn a_name_that_nothing_has_is_refused_and_an_empty_group_is_not() {
        let (origins, groups) = origins();
        let check = |text| Selection::parse(text).expect("parses").check(&origins, &groups);
        assert_eq!(check("group:spare | label:t*"), Ok(()));
        let error = check("host:w1 - label:tier9").expect_err("nobody has it").to_string();
        assert_eq!(error, "no data has label tier9; there is startup, tier1");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[hw:1*?&|!() \\-a-z\u{0}]{0,40}") {
            let _ = Selection::parse(&text);
        }

        #[test]
        fn what_it_prints_means_the_same(text in "(!?(host:w[1-3*]|label:(startup|tier1)|role:api) [&|-] ){0,4}!?group:workers") {
            let selection = Selection::parse(&text).expect("parses");
            let again = Selection::parse(&selection.to_string()).expect("parses");
            let (origins, groups) = origins();
            for origin in &origins {
                prop_assert_eq!(selection.takes(origin, &groups), again.takes(origin, &groups));
            }
        }

        #[test]
        fn a_pattern_of_stars_fits_what_it_was_made_of(parts in prop::collection::vec("[ab]{0,3}", 1..5), fill in "[ab]{0,3}") {
            prop_assert!(fits(&parts.join("*"), &parts.join(&fill)));
        }
    }
}

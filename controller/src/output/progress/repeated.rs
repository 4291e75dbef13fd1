//! What many hosts warn of alike is said for a few, and counted for the rest: a hundred equal lines hide the one
//! that matters.

use std::collections::HashMap;

use crate::output::event::Event;

/// So many hosts say it themselves.
const SHOWN: usize = 3;

#[derive(Default)]
pub(super) struct Repeated {
    /// A warning's words to how many hosts had them.
    hosts: HashMap<String, usize>,
    /// In their order.
    counted: Vec<String>,
}

impl Repeated {
    /// Whether a person wants to read it.
    pub(super) fn is_news(&mut self, event: &Event) -> bool {
        let Event::Warning { host: Some(_), text } = event else { return true };
        let hosts = self.hosts.entry(text.clone()).or_default();
        *hosts += 1;
        if *hosts == SHOWN + 1 {
            self.counted.push(text.clone());
        }
        *hosts <= SHOWN
    }

    /// What was left unsaid, in the end.
    pub(super) fn rest(&self) -> impl Iterator<Item = Event> + '_ {
        self.counted.iter().map(|words| {
            let text = match self.hosts.get(words).copied().unwrap_or_default().saturating_sub(SHOWN) {
                1 => format!("1 more host: {words}"),
                more => format!("{more} more hosts: {words}"),
            };
            Event::Warning { host: None, text }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_warnings_are_counted_and_others_are_said() {
        let mut repeated = Repeated::default();
        let warning = |host: Option<usize>, text: &str| Event::Warning {
            host: host.map(|n| format!("h{n}")),
            text: text.to_owned(),
        };
        let said = (0..130).filter(|n| repeated.is_news(&warning(Some(*n), "finds no package"))).count();
        assert_eq!(said, 3);
        assert!(repeated.is_news(&warning(Some(7), "the disk is full")));
        assert!((0..9).all(|_| repeated.is_news(&warning(None, "of the whole run"))));
        let rest: Vec<String> = repeated
            .rest()
            .filter_map(|event| match event {
                Event::Warning { host: None, text } => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(rest, ["127 more hosts: finds no package"]);
    }
}

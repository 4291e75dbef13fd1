//! Which containers and pods run, as their engine's program tells it.

use crate::inventory::Sought;

/// How its lines begin: a login shell may have words of its own.
const MARK: &str = "PCOV1\t";

/// Most that a list may be long: ten thousand pods.
pub(super) const MAX_LIST: usize = 4 * 1024 * 1024;

/// One that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    /// As the engine writes it: what was made later sorts behind.
    pub(crate) created: String,
    pub(crate) name: String,
}

/// The engine's program, with what it needs in its environment.
pub(super) fn program(sought: &Sought) -> Vec<String> {
    let container = &sought.container;
    let mut words = Vec::new();
    if !container.env.is_empty() {
        words.push("env".to_owned());
        words.extend(container.env.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.push(container.program.clone());
    words.extend(container.options.iter().cloned());
    words
}

/// What lists those that are sought: a line each, of when it was made, its name, and, of a pod, when it is to be gone.
pub(super) fn words(sought: &Sought) -> Vec<String> {
    const PODS: &str = "jsonpath={range .items[*]}PCOV1{\"\\t\"}{.metadata.creationTimestamp}{\"\\t\"}{.metadata.name}{\"\\t\"}\
                        {.metadata.deletionTimestamp}{\"\\n\"}{end}";
    let mut words = program(sought);
    if sought.container.engine.has_pods() {
        words.extend(["get", "pods", "--field-selector=status.phase=Running", "-o", PODS].map(str::to_owned));
        words.extend(sought.labels.iter().flat_map(|selector| ["-l".to_owned(), selector.clone()]));
    } else {
        words.extend(["ps", "--format", "PCOV1\t{{.CreatedAt}}\t{{.Names}}"].map(str::to_owned));
        let filter = |label: &String| ["--filter".to_owned(), format!("label={label}")];
        words.extend(sought.labels.iter().flat_map(filter));
    }
    words
}

/// What such a list says, oldest first.
///
/// # Errors
/// A line that is none.
pub(super) fn parse(list: &str, pattern: Option<&str>) -> Result<Vec<Listed>, String> {
    let mut all = Vec::new();
    for line in list.lines() {
        let Some((_, said)) = line.split_once(MARK) else { continue };
        let mut parts = said.split('\t');
        let (Some(created), Some(names)) = (parts.next(), parts.next()) else {
            return Err(format!("{line:?} is no line of a list"));
        };
        let is_leaving = parts.next().is_some_and(|leaves| !leaves.is_empty());
        // Links give a container of docker more names, with a slash in them.
        let name = names.split(',').find(|name| !name.contains('/')).unwrap_or(names);
        if name.is_empty()
            || name.starts_with('-')
            || name.contains('/')
            || name.chars().any(|c| c.is_control() || c == ' ')
        {
            return Err(format!("{name:?} is no name of a container"));
        }
        if !is_leaving && pattern.is_none_or(|pattern| pulpcov_protocol::text::wildcard(pattern, name)) {
            all.push(Listed { created: created.to_owned(), name: name.to_owned() });
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_oldest_first_and_by_name() {
        let list = "Welcome!\nPCOV1\t2026-11-30 09:02:00.5 +0000 UTC\tpulp-web\nPCOV1\t2026-11-30 09:01:00 +0000 UTC\tpulp-worker,link/db\n";
        let names = |list: &str, pattern| {
            let all = parse(list, pattern)?;
            Ok::<_, String>(all.into_iter().map(|one| one.name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(list, None), Ok("pulp-worker pulp-web".to_owned()));
        assert_eq!(names(list, Some("*web")), Ok("pulp-web".to_owned()));
        // A pod that is about to end is none to go to.
        let pods = "PCOV1\t2026-11-30T09:01:00Z\tapi-1\t\nPCOV1\t2026-11-30T09:00:00Z\tapi-0\t2026-11-30T09:02:00Z\n";
        assert_eq!(names(pods, None), Ok("api-1".to_owned()));
        assert_eq!(names("", None), Ok(String::new()));
        for bad in ["a", "a\t", "a\t--privileged", "a\tb c", "a\tb\u{1b}[0m", "a\t../b"] {
            assert!(names(&format!("PCOV1\t{bad}"), None).is_err(), "{bad:?}");
        }
    }
}

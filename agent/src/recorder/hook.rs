//! The Python that goes to the host, rendered. Pure: texts in, texts out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_protocol::op::DEFAULT_LABEL;
use pulpcov_protocol::profile::Profile;

pub(crate) const RECORDER: &str = include_str!("../../hook/recorder.py");
pub(crate) const SYSTEM: &str = include_str!("../../hook/system.py");
pub(crate) const TRACER: &str = include_str!("../../hook/tracer.py");
pub(crate) const WORDS: &str = include_str!("../../hook/words.py");
pub(crate) const UWSGI: &str = include_str!("../../hook/uwsgi.py");
pub(crate) const MAP_FILE: &str = include_str!("../../hook/map_file.py");
pub(crate) const COVERAGE_CORE: &str = include_str!("../../hook/coverage_core.py");
pub(crate) const LIVE_MAP: &str = include_str!("../../hook/live_map.py");
pub(crate) const CALLBACKS: &str = include_str!("../../hook/callbacks.py");
pub(crate) const BRANCHES: &str = include_str!("../../hook/branches.py");
/// The live map's callbacks for this machine type; nothing where the agent was built without them.
pub(crate) const NATIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/native.so"));
pub(crate) const SOURCES: &str = include_str!("../../hook/sources.py");
pub(crate) const CANARY: &str = include_str!("../../hook/canary.py");
pub(crate) const SELFTEST: &str = include_str!("../../hook/selftest.py");
const GATE: &str = include_str!("../../hook/gate.py");

/// Name of the one line that every Python of an interpreter reads.
pub(crate) const PTH: &str = "pulpcov.pth";
/// The name by which Python imports the native callbacks; of the stable ABI, for every release that has them.
pub(crate) const NATIVE_FILE: &str = "_pulpcov_native.abi3.so";
pub(crate) const GATE_FILE: &str = "_pulpcov_gate.py";

/// The hook's folder that a gate by its own words leads to; nothing where a file is none.
pub(crate) fn folder_of_gate(path: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let first = GATE.lines().next().unwrap_or_default();
    if path.file_name().is_none_or(|name| name != GATE_FILE) || !bytes.starts_with(first.as_bytes()) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let literal = text.lines().find_map(|line| line.strip_prefix("HOOK = \"")?.strip_suffix('"'));
    literal.filter(|literal| !literal.contains('\\')).map(PathBuf::from)
}

/// A `.pth` line runs in every Python at once: it must not raise even where the gate is gone.
pub(crate) const PTH_TEXT: &str =
    "import sys; exec(\"try:\\n    import _pulpcov_gate\\nexcept (Exception, SystemExit):\\n    pass\")\n";

/// Role and program of the self-test; the recorder knows the role's name.
const SELFTEST_NAME: &str = "pulpcov-selftest";

/// What the gate's constants are made of.
pub(crate) struct GateFacts<'a> {
    pub(crate) profile: &'a Profile,
    /// Names and globs of the service's units, as control groups have them.
    pub(crate) units: &'a [String],
    /// Packages of the profile and of its entry points.
    pub(crate) packages: &'a [String],
    /// Cache tag to private coverage.py folder.
    pub(crate) coverage: &'a BTreeMap<String, String>,
    /// Cache tags of interpreters that record into a live map.
    pub(crate) live_map: &'a BTreeSet<String>,
    pub(crate) hook_dir: &'a str,
    pub(crate) data_root: &'a str,
    pub(crate) host_label: Option<&'a str>,
    /// The host that all its processes are on, where they may have names of their own: in containers.
    pub(crate) on: Option<&'a str>,
    /// Tells what one install records from what others do.
    pub(crate) install: &'a str,
    /// Whether it waits for [`SWITCH`] in the environment.
    pub(crate) baked: bool,
}

/// The variable that lets a baked hook record, where it is `1`.
pub(crate) const SWITCH: &str = "PULPCOV";

pub(crate) fn render_gate(facts: &GateFacts<'_>) -> String {
    let rules = facts
        .profile
        .processes
        .iter()
        .map(|rule| {
            let programs: Vec<String> = rule.program.iter().map(|word| py_str(word)).collect();
            let argument = rule.argument.as_deref().map_or("None".to_owned(), py_str);
            format!("    ({}, ({},), {argument}),\n", py_str(&rule.role), programs.join(", "))
        })
        .chain([format!("    ({0}, ({0},), \"run\"),\n", py_str(SELFTEST_NAME))])
        .collect::<String>();
    let children = py_dict(
        facts
            .profile
            .processes
            .iter()
            .filter_map(|rule| rule.children.as_ref().map(|child| (rule.role.as_str(), py_str(child)))),
    );
    let coverage = py_dict(facts.coverage.iter().map(|(tag, folder)| (tag.as_str(), py_str(folder))));
    let packages: Vec<String> = facts.packages.iter().map(|name| py_str(name)).collect();
    // coverage.py's patterns are of whole paths, ours of paths below an import folder.
    let omit: Vec<String> =
        facts.profile.omit.iter().map(|pattern| py_str(&format!("*/{pattern}"))).collect();
    let live_map: Vec<String> = facts.live_map.iter().map(|tag| py_str(tag)).collect();
    let config = py_dict([
        ("data_root", py_str(facts.data_root)),
        ("host", facts.host_label.map_or("None".to_owned(), py_str)),
        ("on", facts.on.map_or("None".to_owned(), py_str)),
        ("install", py_str(facts.install)),
        // No agent begins a session where nothing is installed.
        ("label", py_str(if facts.baked { DEFAULT_LABEL } else { "" })),
        ("packages", format!("[{}]", packages.join(", "))),
        ("omit", format!("[{}]", omit.join(", "))),
        ("branch", if facts.profile.branch { "True" } else { "False" }.to_owned()),
        ("live_map", format!("[{}]", live_map.join(", "))),
        ("interval", format!("{:?}", facts.profile.interval)),
    ]);
    let units: Vec<String> = facts.units.iter().map(|name| py_str(name)).collect();
    GATE.replace("@SWITCH@", &if facts.baked { py_str(SWITCH) } else { "None".to_owned() })
        .replace("@RULES@", &format!("[\n{rules}]"))
        .replace("@UNITS@", &format!("[{}]", units.join(", ")))
        .replace("@CHILDREN@", &children)
        .replace("@COVERAGE@", &coverage)
        .replace("@HOOK@", &py_str(facts.hook_dir))
        .replace("@CONFIG@", &config)
}

fn py_dict<'a>(items: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let items: Vec<String> =
        items.into_iter().map(|(key, value)| format!("{}: {value}", py_str(key))).collect();
    format!("{{{}}}", items.join(", "))
}

/// A Python string literal, plain ASCII, that no text can break out of.
fn py_str(text: &str) -> String {
    use std::fmt::Write as _;
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            ' '..='~' => literal.push(c),
            _ if u32::from(c) <= 0xFFFF => {
                let _ = write!(literal, "\\u{:04x}", u32::from(c));
            }
            _ => {
                let _ = write!(literal, "\\U{:08x}", u32::from(c));
            }
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulpcov_protocol::profile::{ProcessRule, RecorderChoice};

    use super::*;

    #[test]
    fn a_gate_says_where_its_hook_is() {
        let folder = |name: &str, text: &str| folder_of_gate(Path::new(name), text.as_bytes());
        let text = gate("shop");
        let said = folder("/site/_pulpcov_gate.py", &text).expect("a gate");
        assert!(said.ends_with("hook"), "{said:?}");
        assert_eq!(folder("/site/other.py", &text), None);
        assert_eq!(folder("/site/_pulpcov_gate.py", "x = 1\n"), None);
    }

    fn gate(argument: &str) -> String {
        let profile = Profile {
            name: "shop".into(),
            packages: vec!["shop".into()],
            entry_points: vec![],
            omit: vec!["*/tests/*".into()],
            processes: vec![ProcessRule {
                role: "worker".into(),
                program: vec!["shop-worker".into()],
                argument: Some(argument.into()),
                children: Some("task".into()),
            }],
            units: vec![],
            users: vec![],
            ready: vec![],
            branch: true,
            recorder: RecorderChoice::Auto,
            interval: 5.0,
        };
        let coverage = BTreeMap::from([("cpython-311".to_owned(), "/lib/coverage-7".to_owned())]);
        render_gate(&GateFacts {
            profile: &profile,
            units: &["shop-worker.service".to_owned()],
            packages: &profile.packages,
            coverage: &coverage,
            live_map: &BTreeSet::from(["cpython-312".to_owned()]),
            hook_dir: "/lib/hook",
            data_root: "/srv/pulp_coverage",
            install: "i1",
            baked: false,
            host_label: None,
            on: None,
        })
    }

    #[test]
    fn no_placeholder_is_left() {
        let text = gate("x");
        assert!(!text.contains("@RULES@") && !text.contains("= @"), "{text}");
        assert!(text.contains(r#"("worker", ("shop-worker",), "x"),"#), "{text}");
        assert!(text.contains("\"branch\": True"), "{text}");
        assert!(text.contains(r#"UNITS = ["shop-worker.service"]"#), "{text}");
    }

    #[test]
    fn the_pth_is_one_line_that_begins_with_import() {
        assert!(PTH_TEXT.starts_with("import "));
        assert_eq!(PTH_TEXT.matches('\n').count(), 1);
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_a_literal(text in any::<String>()) {
            let literal = py_str(&text);
            let inner = &literal[1..literal.len() - 1];
            prop_assert!(literal.is_ascii());
            prop_assert!(!inner.replace("\\\\", "").replace("\\\"", "").contains('"'));
            prop_assert!(!inner.contains('\n'));
        }
    }
}

//! What a kind of service is: which packages to measure, which processes to record.

use serde::{Deserialize, Serialize};

use crate::ready::{Ready, ReadyError};

/// A profile with everything filled in, as the controller sends it to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// Importable packages or modules to measure (coverage.py's `source_pkgs`).
    #[serde(default)]
    pub packages: Vec<String>,
    /// Entry point groups whose modules' top-level packages are measured too.
    #[serde(default)]
    pub entry_points: Vec<String>,
    /// Sources to leave out, as shell patterns of their path below the folder that Python imports from:
    /// `*/tests/*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
    /// Which processes are recorded, and under which role. The first rule that fits wins; a Python in one of the
    /// units that none fits has the unit's name for its role.
    #[serde(default)]
    pub processes: Vec<ProcessRule>,
    /// systemd units of the service, in start order; globs are allowed.
    #[serde(default)]
    pub units: Vec<String>,
    /// Users that the service runs as, besides those of its units: by name or number. Their files are the service's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// What holds once a started service takes requests; it is waited for after every start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Ready>,
    /// Record branches (arcs), not only lines.
    #[serde(default)]
    pub branch: bool,
    /// What records: a live map where an interpreter has proven one, or always the same.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub recorder: RecorderChoice,
    /// Seconds between two flushes of a process that has no live map; what SIGKILL can cost at most.
    #[serde(default = "default_interval")]
    pub interval: f64,
}

fn default_interval() -> f64 {
    0.5
}

/// What records the processes of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderChoice {
    /// The live map where the self-test proves it on that very interpreter, else coverage.py.
    #[default]
    Auto,
    /// The live map: an interpreter that cannot is an error. Of those before 3.12 none can.
    LiveMap,
    /// coverage.py's own tracer.
    Coverage,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_auto(choice: &RecorderChoice) -> bool {
    *choice == RecorderChoice::Auto
}

/// One kind of process of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRule {
    pub role: String,
    /// Base names of the program or module that the command line runs; one may stand without a list.
    #[serde(deserialize_with = "one_or_many")]
    pub program: Vec<String>,
    /// A text that some later word must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// Role of the children that such a process forks; the same role where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    })
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProfileError {
    #[error("profile {name} names no packages and no entry points; pulpcov_packages: [NAME] does")]
    NothingToMeasure { name: String },
    #[error("profile {name} has neither process rules nor units; pulpcov_units: [NAME.service] names some")]
    NoProcesses { name: String },
    #[error("profile {name}: ready: {source}")]
    Ready { name: String, source: ReadyError },
    #[error("profile {name}: {value:?} is not a {what}")]
    BadWord { name: String, what: &'static str, value: String },
    #[error("profile {name}: an interval of {value} seconds is not between 0.05 and 3600")]
    BadInterval { name: String, value: String },
}

impl Profile {
    /// Refuses what the hook could not act on. Every text here ends up in Python source or on a
    /// command line, so only plain words get through.
    pub fn check(&self) -> Result<(), ProfileError> {
        let name = || self.name.clone();
        let bad = |what, value: &str| ProfileError::BadWord { name: name(), what, value: value.to_owned() };
        if self.packages.is_empty() && self.entry_points.is_empty() {
            return Err(ProfileError::NothingToMeasure { name: name() });
        }
        if self.processes.is_empty() && self.units.is_empty() {
            return Err(ProfileError::NoProcesses { name: name() });
        }
        if let Some(word) = self.packages.iter().find(|word| !is_dotted_name(word)) {
            return Err(bad("package", word));
        }
        if let Some(word) = self.entry_points.iter().find(|word| !is_plain_word(word)) {
            return Err(bad("entry point group", word));
        }
        if let Some(word) =
            self.omit.iter().find(|word| word.is_empty() || word.chars().any(char::is_control))
        {
            return Err(bad("pattern to omit", word));
        }
        if let Some(word) = self.units.iter().find(|word| !is_unit_name(word)) {
            return Err(bad("systemd unit", word));
        }
        if let Some(word) = self.users.iter().find(|word| !is_user_name(word)) {
            return Err(bad("user", word));
        }
        for rule in &self.processes {
            let roles = [Some(&rule.role), rule.children.as_ref()];
            if let Some(role) = roles.into_iter().flatten().find(|role| !is_plain_word(role)) {
                return Err(bad("role", role));
            }
            if rule.program.is_empty() {
                return Err(bad("program of a process rule", ""));
            }
            if let Some(word) = rule.program.iter().find(|word| word.is_empty() || word.contains(['/', '\0']))
            {
                return Err(bad("program's base name", word));
            }
        }
        for ready in &self.ready {
            ready.check().map_err(|source| ProfileError::Ready { name: name(), source })?;
        }
        if !(0.05..=3600.0).contains(&self.interval) {
            return Err(ProfileError::BadInterval { name: name(), value: self.interval.to_string() });
        }
        Ok(())
    }
}

impl Profile {
    /// The role of a process by its command line, its executable and its unit (empty where there is none): what
    /// the gate on the host would say. `None`: it is not the service's. Children of Python's `multiprocessing` are told by an inherited
    /// variable, which nobody sees from outside.
    pub fn role_of(&self, argv: &[String], exe: &str, unit: &str) -> Option<String> {
        let of_unit = || (is_python_name(exe) && !unit.is_empty()).then(|| role_of_unit(unit));
        self.rule_of(argv, exe).map(|rule| rule.role.clone()).or_else(of_unit)
    }

    /// The first rule that fits a process.
    pub fn rule_of(&self, argv: &[String], exe: &str) -> Option<&ProcessRule> {
        let title = title(argv);
        // A title says who the process is; what it executes it is all the same.
        let mut names = programs(argv, exe);
        names.extend(title.map(|(name, _)| base_name(name)));
        let has_argument = |wanted: &str| {
            argv.iter()
                .skip(1)
                .map(String::as_str)
                .chain(title.map(|(_, rest)| rest))
                .any(|word| word.contains(wanted))
        };
        let fits = |rule: &&ProcessRule| {
            names.iter().any(|name| rule.program.iter().any(|program| program == name))
                && rule.argument.as_deref().is_none_or(has_argument)
        };
        self.processes.iter().find(fits)
    }

    /// The units as systemd understands them: a name without a kind is a service's, a glob is what it is.
    pub fn full_unit_names(&self) -> impl Iterator<Item = String> {
        let has_kind = |unit: &str| [".service", ".scope", ".slice"].iter().any(|kind| unit.ends_with(kind));
        self.units.iter().map(move |unit| {
            if has_kind(unit) || is_glob(unit) { unit.clone() } else { format!("{unit}.service") }
        })
    }
}

/// Whether a unit's name stands for several.
pub fn is_glob(unit: &str) -> bool {
    unit.contains(['*', '?', '['])
}

/// The role of a unit's process that no rule fits: `worker` of `worker@2.service`.
pub fn role_of_unit(unit: &str) -> String {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    let name = stem.split_once('@').map_or(stem, |(name, _)| name);
    name.chars().map(|c| if is_word_char(c) { c } else { '_' }).collect()
}

/// Whether a program's path is that of a Python: also the system's own of EL8, `/usr/libexec/platform-python3.6`.
pub fn is_python_name(path: &str) -> bool {
    let name = base_name(path);
    let name = name.strip_prefix("platform-").unwrap_or(name);
    ["python", "pypy"].iter().any(|known| name.starts_with(known))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What a process has put in the place of its command line, `gunicorn: worker [shop]`: who it says it is, and the rest.
fn title(argv: &[String]) -> Option<(&str, &str)> {
    let (first, rest) = argv.split_first()?;
    first.split_once(": ").filter(|(name, _)| !name.contains(' ') && rest.iter().all(String::is_empty))
}

/// The script or module that a command line runs; nothing for `python -c` and an empty line.
fn programs<'a>(argv: &'a [String], exe: &'a str) -> Vec<&'a str> {
    if !is_python_name(exe) {
        return [exe].into_iter().chain(argv.first().map(String::as_str)).map(base_name).collect();
    }
    let mut words = argv.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            return vec![base_name(word)];
        }
        if word == "--check-hash-based-pycs" {
            words.next();
        }
        if word.starts_with("--") {
            continue;
        }
        for (at, letter) in word.char_indices().skip(1) {
            let rest = word.get(at + letter.len_utf8()..).unwrap_or_default();
            match letter {
                'c' => return Vec::new(),
                'm' if rest.is_empty() => return words.next().into_iter().collect(),
                'm' => return vec![rest],
                // Its value is the rest of the word, or the next one.
                'W' | 'X' => {
                    if rest.is_empty() {
                        words.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    Vec::new()
}

fn is_plain_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(is_word_char)
}

fn is_user_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && word.chars().all(|c| is_word_char(c) || c == '$' || c == '@')
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}

fn is_dotted_name(word: &str) -> bool {
    word.split('.').all(|part| {
        part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

fn is_unit_name(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with('-')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.@:\\*?[]".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            name: "shop".into(),
            packages: vec!["shop".into()],
            entry_points: vec![],
            omit: vec![],
            processes: vec![ProcessRule {
                role: "web".into(),
                program: vec!["gunicorn".into()],
                argument: Some("shop".into()),
                children: None,
            }],
            units: vec!["shop-worker@*.service".into()],
            users: vec!["shop".into(), "1005".into()],
            ready: vec![],
            branch: true,
            recorder: RecorderChoice::Auto,
            interval: 5.0,
        }
    }

    #[test]
    fn a_usable_profile_passes() {
        assert_eq!(profile().check(), Ok(()));
    }

    #[test]
    fn pythons_are_known_under_all_their_names() {
        for path in ["/usr/bin/python3.11", "python", "/usr/libexec/platform-python3.6", "/opt/pypy3"] {
            assert!(is_python_name(path), "{path}");
        }
        for path in ["/usr/sbin/uwsgi", "/usr/bin/ipython3-like", "", "/python/apache2"] {
            assert!(!is_python_name(path), "{path}");
        }
    }

    #[test]
    fn a_title_hides_nothing_of_what_a_process_executes() {
        let mut profile = profile();
        profile.processes.push(ProcessRule {
            role: "uwsgi".into(),
            program: vec!["uwsgi".into()],
            argument: None,
            children: None,
        });
        let role = |first: &str, exe: &str| profile.role_of(&[first.to_owned()], exe, "");
        assert_eq!(role("pulp: worker", "/usr/bin/uwsgi").as_deref(), Some("uwsgi"));
        assert_eq!(role("gunicorn: master [shop]", "/usr/bin/python3").as_deref(), Some("web"));
        assert_eq!(role("gunicorn: master [other]", "/usr/bin/python3"), None);
    }

    #[test]
    fn a_python_of_a_unit_has_a_role_whatever_it_runs() {
        let argv = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let role = |line, exe, unit| profile().role_of(&argv(line), exe, unit);
        let python = "/usr/bin/python3.11";
        assert_eq!(role("python3 /opt/x", python, "devpi@2.service").as_deref(), Some("devpi"));
        assert_eq!(role("python3 /bin/gunicorn shop:app", python, "devpi.service").as_deref(), Some("web"));
        assert_eq!(role("python3 /opt/x", python, ""), None);
        assert_eq!(role("/bin/sh -c x", "/bin/dash", "devpi.service"), None);
        assert_eq!(role_of_unit("my\\x2dapp@a.b.service"), "my_x2dapp");
    }

    #[test]
    fn a_process_that_has_named_itself_is_known_by_that_name() {
        let role = |words: &[&str], exe| {
            profile().role_of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), exe, "")
        };
        for exe in ["/usr/bin/python3.11", "gunicorn: master [shop:app]"] {
            assert_eq!(role(&["gunicorn: master [shop:app]", "", ""], exe).as_deref(), Some("web"));
            assert_eq!(role(&["gunicorn: master [other:app]"], exe), None);
            assert_eq!(role(&["sshd: shop [priv]"], exe), None);
        }
    }

    #[test]
    fn units_have_their_full_names() {
        let mut profile = profile();
        profile.units = ["devpi", "my.app", "a.service", "box-*", "w@?.service"].map(str::to_owned).to_vec();
        let names: Vec<String> = profile.full_unit_names().collect();
        assert_eq!(names, ["devpi.service", "my.app.service", "a.service", "box-*", "w@?.service"]);
    }

    #[test]
    fn a_profile_of_units_alone_is_usable() {
        let mut units = profile();
        units.processes.clear();
        assert_eq!(units.check(), Ok(()));
        units.units.clear();
        assert!(matches!(units.check(), Err(ProfileError::NoProcesses { .. })));
    }

    #[test]
    fn words_that_could_become_code_are_refused() {
        let mut bad = profile();
        bad.packages = vec!["os; import evil".into()];
        assert!(matches!(bad.check(), Err(ProfileError::BadWord { what: "package", .. })));
        let mut bad = profile();
        bad.units = vec!["--root=/".into()];
        assert!(matches!(bad.check(), Err(ProfileError::BadWord { what: "systemd unit", .. })));
        let mut bad = profile();
        bad.interval = f64::NAN;
        assert!(matches!(bad.check(), Err(ProfileError::BadInterval { .. })));
    }
}

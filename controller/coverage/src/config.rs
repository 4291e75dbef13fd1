//! coverage.py's configuration: what of `.coveragerc`, `setup.cfg`, `tox.ini` and `pyproject.toml`
//! concerns combining and reporting, with coverage.py's meaning.

mod ini;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a configuration file says; nothing where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub relative_files: Option<bool>,
    pub exclude_lines: Option<Vec<String>>,
    pub exclude_also: Vec<String>,
    pub partial_branches: Option<Vec<String>>,
    pub partial_branches_always: Option<Vec<String>>,
    pub partial_also: Vec<String>,
    pub include: Option<Vec<String>>,
    pub omit: Option<Vec<String>>,
    pub contexts: Vec<String>,
    pub fail_under: Option<f64>,
    pub precision: Option<u8>,
    pub ignore_errors: Option<bool>,
    /// Where coverage.py writes its data, as it stands there.
    pub data_file: Option<String>,
    pub show_missing: Option<bool>,
    pub skip_covered: Option<bool>,
    pub skip_empty: Option<bool>,
    pub sort: Option<String>,
    pub format: Option<String>,
    pub title: Option<String>,
    pub html_skip_covered: Option<bool>,
    pub html_skip_empty: Option<bool>,
    /// From the end where it is negative, as Python cuts a list.
    pub package_depth: Option<isize>,
    /// `[run] source`: folders that names in XML are relative to.
    pub source: Vec<String>,
    pub show_contexts: Option<bool>,
    /// `[paths]`: where the sources are, then patterns of where they are elsewhere.
    pub paths: Vec<Vec<String>>,
    /// coverage.py's plugins, which only a Python can load.
    pub plugins: Vec<String>,
    /// Where all this stands.
    pub file: Option<PathBuf>,
    /// What of the file does nothing here: options that coverage.py does not know, or pulpcov does not.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("line {line}: {reason}")]
    Ini { line: usize, reason: String },
    #[error("{0}")]
    Toml(String),
    #[error("[{section}] {option} is {value:?}, which is no {wanted}")]
    Type { section: String, option: String, value: String, wanted: &'static str },
    #[error("variable {name} is undefined, in {text:?}")]
    Undefined { name: String, text: String },
    #[error("what plugins made of it is no configuration: {0}")]
    Answer(String),
}

/// Where a file's sections are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// INI; a file of coverage.py's own has its sections without `coverage:` too.
    Ini { own: bool },
    /// TOML; a file of coverage.py's own has its tables without `tool.coverage` too.
    Toml { own: bool },
}

/// Finds the value of an environment variable.
pub type FindVariable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a configuration; nothing where it is somebody else's file and has no section of coverage.py.
pub fn parse(text: &str, form: Form, variable: FindVariable<'_>) -> Result<Option<Config>, ConfigError> {
    let (sections, own) = match form {
        Form::Ini { own } => (ini_sections(text, own)?, own),
        Form::Toml { own } => (toml_sections(text, own)?, own),
    };
    let is_used =
        own || sections.iter().any(|(name, options)| options.iter().any(|(key, _)| is_known(name, key)));
    if !is_used {
        return Ok(None);
    }
    Config::of(&sections, Some(variable)).map(Some)
}

/// The names of all options, as coverage.py asks for one: `report:omit`.
pub fn option_names() -> impl Iterator<Item = String> {
    let names = |section| move |option| format!("{section}:{option}");
    OPTIONS.iter().flat_map(move |(section, options)| options.split_whitespace().map(names(*section)))
}

impl Config {
    /// The same as its plugins left it: section to option to value, in JSON, with variables filled in.
    pub fn configured(&self, answer: &[u8]) -> Result<Self, ConfigError> {
        let wrong = |error: &dyn std::error::Error| ConfigError::Answer(error.to_string());
        let answer: BTreeMap<String, BTreeMap<String, toml::Value>> =
            serde_json::from_slice(answer).map_err(|error| wrong(&error))?;
        let toml = |(name, value)| (name, Value::Toml(value));
        let sections =
            answer.into_iter().map(|(name, options)| (name, options.into_iter().map(toml).collect()));
        let config = Self::of(&sections.collect(), None)?;
        Ok(Self {
            plugins: self.plugins.clone(),
            file: self.file.clone(),
            notes: self.notes.clone(),
            ..config
        })
    }

    fn of(sections: &Sections, variable: Option<FindVariable<'_>>) -> Result<Self, ConfigError> {
        let read = Reader { sections, variable };
        Ok(Self {
            relative_files: read.boolean("run", "relative_files")?,
            exclude_lines: read.lines("report", "exclude_lines")?,
            exclude_also: read.lines("report", "exclude_also")?.unwrap_or_default(),
            partial_branches: read.lines("report", "partial_branches")?,
            partial_branches_always: read.lines("report", "partial_branches_always")?,
            partial_also: read.lines("report", "partial_also")?.unwrap_or_default(),
            include: read.list("report", "include")?,
            omit: read.list("report", "omit")?,
            contexts: read.list("report", "contexts")?.unwrap_or_default(),
            fail_under: read.number("report", "fail_under", "number")?,
            precision: read.number("report", "precision", "number of digits")?,
            ignore_errors: read.boolean("report", "ignore_errors")?,
            data_file: read.text("run", "data_file")?.map(|path| read.at_home(path)),
            show_missing: read.boolean("report", "show_missing")?,
            skip_covered: read.boolean("report", "skip_covered")?,
            skip_empty: read.boolean("report", "skip_empty")?,
            sort: read.text("report", "sort")?.filter(|sort| !sort.is_empty()),
            format: read.text("report", "format")?,
            title: read.text("html", "title")?,
            html_skip_covered: read.boolean("html", "skip_covered")?,
            html_skip_empty: read.boolean("html", "skip_empty")?,
            package_depth: read.number("xml", "package_depth", "number")?,
            source: read.list("run", "source")?.unwrap_or_default(),
            show_contexts: read.boolean("json", "show_contexts")?,
            paths: read.paths()?,
            plugins: read.list("run", "plugins")?.unwrap_or_default(),
            file: None,
            notes: notes(sections),
        })
    }
}

/// A value as its file has it.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// INI knows texts only.
    Ini(String),
    Toml(toml::Value),
}

/// Section to its options, in the file's order.
type Sections = BTreeMap<String, Vec<(String, Value)>>;

const SECTIONS: [&str; 7] = ["run", "report", "html", "xml", "json", "lcov", "paths"];

/// Every option of coverage.py 7.17, by section.
const OPTIONS: [(&str, &str); 6] = [
    (
        "run",
        "branch command_line concurrency context core cover_pylib data_file debug debug_file disable_warnings \
         dynamic_context include omit parallel patch plugins relative_files sigterm source source_dirs source_pkgs timid",
    ),
    (
        "report",
        "contexts exclude_also exclude_lines fail_under format ignore_errors include include_namespace_packages omit \
         partial_also partial_branches partial_branches_always precision show_missing skip_covered skip_empty sort",
    ),
    ("html", "directory extra_css show_contexts skip_covered skip_empty title"),
    ("xml", "output package_depth"),
    ("json", "output pretty_print show_contexts"),
    ("lcov", "line_checksums output"),
];

/// Options of reports that pulpcov does not have.
const WITHOUT: [(&str, &str); 4] =
    [("html", "extra_css"), ("html", "show_contexts"), ("json", "pretty_print"), ("lcov", "line_checksums")];

/// Whether coverage.py has such an option; any name in `[paths]` is one.
fn is_known(section: &str, option: &str) -> bool {
    let of_section = OPTIONS.iter().find(|(name, _)| *name == section);
    of_section.map_or(section == "paths", |(_, known)| known.split_whitespace().any(|name| name == option))
}

fn notes(sections: &Sections) -> Vec<String> {
    let mut notes = Vec::new();
    for (section, _) in OPTIONS {
        for (option, _) in sections.get(section).into_iter().flatten() {
            if !is_known(section, option) {
                notes
                    .push(format!("unrecognized option [{section}] {option} in coverage.py's configuration"));
            } else if WITHOUT.contains(&(section, option)) {
                notes.push(format!("[{section}] {option} of coverage.py's configuration is not followed"));
            }
        }
    }
    notes
}

fn ini_sections(text: &str, own: bool) -> Result<Sections, ConfigError> {
    let mut all = ini::parse(text)?;
    let mut sections = Sections::new();
    for name in SECTIONS {
        // The prefixed one wins, as coverage.py looks for it first.
        let bare = all.remove(name).filter(|_| own);
        if let Some(options) = all.remove(&format!("coverage:{name}")).or(bare) {
            let options = options.into_iter().map(|(key, value)| (key, Value::Ini(value)));
            sections.insert(name.to_owned(), options.collect());
        }
    }
    Ok(sections)
}

fn toml_sections(text: &str, own: bool) -> Result<Sections, ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        ConfigError::Toml(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    })?;
    let tool = table.get("tool").and_then(|tool| tool.get("coverage")).and_then(toml::Value::as_table);
    let mut sections = Sections::new();
    for name in SECTIONS {
        let bare = table.get(name).filter(|_| own);
        let found = tool.and_then(|tool| tool.get(name)).or(bare).and_then(toml::Value::as_table);
        if let Some(options) = found {
            let options = options.iter().map(|(key, value)| (key.clone(), Value::Toml(value.clone())));
            sections.insert(name.to_owned(), options.collect());
        }
    }
    Ok(sections)
}

struct Reader<'a> {
    sections: &'a Sections,
    /// Nothing where variables are filled in already.
    variable: Option<FindVariable<'a>>,
}

impl Reader<'_> {
    fn find(&self, section: &str, option: &str) -> Option<&Value> {
        self.sections.get(section)?.iter().find(|(key, _)| key == option).map(|(_, value)| value)
    }

    fn wrong<T>(section: &str, option: &str, value: &Value, wanted: &'static str) -> Result<T, ConfigError> {
        let value = match value {
            Value::Ini(text) | Value::Toml(toml::Value::String(text)) => text.clone(),
            Value::Toml(value) => value.to_string(),
        };
        Err(ConfigError::Type { section: section.to_owned(), option: option.to_owned(), value, wanted })
    }

    /// Text with `$NAME`, `${NAME}`, `${NAME?}` and `${NAME-default}` filled in.
    fn filled(&self, text: &str) -> Result<String, ConfigError> {
        let Some(variable) = self.variable else { return Ok(text.to_owned()) };
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, dollar) = rest.split_at(at);
            out.push_str(before);
            let behind = &dollar[1..];
            let word =
                |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            if let Some(behind) = behind.strip_prefix('$') {
                out.push('$');
                rest = behind;
                continue;
            }
            let braced = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, mark, after) = match braced {
                Some((inner, after)) if word(inner) > 0 => {
                    let (name, mark) = inner.split_at(word(inner));
                    (name, mark, after)
                }
                _ if word(behind) > 0 => {
                    let (name, after) = behind.split_at(word(behind));
                    (name, "", after)
                }
                _ => {
                    out.push('$');
                    rest = behind;
                    continue;
                }
            };
            match (variable(name), mark) {
                (Some(value), "" | "?") => out.push_str(&value),
                (Some(value), default) if default.starts_with('-') => out.push_str(&value),
                (None, "") => {}
                (None, "?") => {
                    return Err(ConfigError::Undefined { name: name.to_owned(), text: text.to_owned() });
                }
                (None, default) if default.starts_with('-') => out.push_str(&default[1..]),
                // Braces with anything else in them are no variable.
                _ => {
                    out.push('$');
                    rest = behind;
                    continue;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn text(&self, section: &str, option: &str) -> Result<Option<String>, ConfigError> {
        match self.find(section, option) {
            None => Ok(None),
            Some(Value::Ini(text) | Value::Toml(toml::Value::String(text))) => self.filled(text).map(Some),
            Some(value) => Self::wrong(section, option, value, "text"),
        }
    }

    fn boolean(&self, section: &str, option: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.find(section, option) else { return Ok(None) };
        let word = match value {
            Value::Toml(toml::Value::Boolean(flag)) => return Ok(Some(*flag)),
            Value::Toml(toml::Value::String(text)) => self.filled(text)?,
            Value::Ini(text) => self.filled(text)?.to_lowercase(),
            Value::Toml(_) => return Self::wrong(section, option, value, "boolean"),
        };
        let is_ini = matches!(value, Value::Ini(_));
        match word.as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            "1" | "yes" | "on" if is_ini => Ok(Some(true)),
            "0" | "no" | "off" if is_ini => Ok(Some(false)),
            _ => Self::wrong(section, option, value, "boolean"),
        }
    }

    fn number<T: std::str::FromStr>(
        &self,
        section: &str,
        option: &str,
        wanted: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.find(section, option) else { return Ok(None) };
        let text = match value {
            Value::Ini(text) | Value::Toml(toml::Value::String(text)) => self.filled(text)?,
            Value::Toml(toml::Value::Integer(number)) => number.to_string(),
            Value::Toml(toml::Value::Float(number)) => number.to_string(),
            Value::Toml(_) => return Self::wrong(section, option, value, wanted),
        };
        text.trim().parse().map(Some).or_else(|_| Self::wrong(section, option, value, wanted))
    }

    fn split(&self, section: &str, option: &str, marks: &[char]) -> Result<Option<Vec<String>>, ConfigError> {
        match self.find(section, option) {
            None => Ok(None),
            Some(Value::Ini(text)) => {
                let text = self.filled(text)?;
                let parts = text.split(marks).map(str::trim).filter(|part| !part.is_empty());
                Ok(Some(parts.map(str::to_owned).collect()))
            }
            Some(value @ Value::Toml(toml::Value::Array(items))) => {
                let texts = items.iter().map(|item| match item.as_str() {
                    Some(text) => self.filled(text),
                    None => Self::wrong(section, option, value, "list of texts"),
                });
                texts.collect::<Result<_, _>>().map(Some)
            }
            Some(value) => Self::wrong(section, option, value, "list"),
        }
    }

    /// Values between commas and line ends.
    fn list(&self, section: &str, option: &str) -> Result<Option<Vec<String>>, ConfigError> {
        self.split(section, option, &['\n', ','])
    }

    /// Regular expressions, one a line: a comma may be part of one.
    fn lines(&self, section: &str, option: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let lines = self.split(section, option, &['\n'])?;
        let trimmed = |lines: Vec<String>| {
            let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        };
        Ok(lines.map(trimmed))
    }

    fn paths(&self) -> Result<Vec<Vec<String>>, ConfigError> {
        let keys = self.sections.get("paths").into_iter().flatten().map(|(key, _)| key.clone());
        let at_home = |paths: Vec<String>| paths.into_iter().map(|path| self.at_home(path)).collect();
        keys.map(|key| Ok(self.list("paths", &key)?.map(at_home).unwrap_or_default())).collect()
    }

    /// `~/x` in the user's home.
    fn at_home(&self, path: String) -> String {
        let rest = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (rest, self.variable.and_then(|variable| variable("HOME"))) {
            (Some(rest), Some(home)) => format!("{}{rest}", home.trim_end_matches('/')),
            _ => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "WHO").then(|| "me".to_owned())
    }

    fn ini(text: &str) -> Result<Config, ConfigError> {
        parse(text, Form::Ini { own: true }, &variable).map(Option::unwrap_or_default)
    }

    #[test]
    fn ini_and_toml_say_the_same() {
        let config = ini(
            "[run]\nrelative_files = yes\n[report]\nexclude_also =\n    a,b\n    # a comment\n    def __repr__\n\
            omit = */x/*, y.py\n    z.py\nfail_under = 79.5\nprecision: 2\nsort = -miss\n[paths]\nb =\n    src\n    */lib\na = x, y\n",
        );
        let toml = parse(
            "[tool.coverage.run]\nrelative_files = true\n[tool.coverage.report]\nexclude_also = ['a,b', 'def __repr__']\n\
             omit = ['*/x/*', 'y.py', 'z.py']\nfail_under = 79.5\nprecision = 2\nsort = '-miss'\n[tool.coverage.paths]\nb = ['src', '*/lib']\na = ['x', 'y']\n",
            Form::Toml { own: false },
            &variable,
        );
        let config = config.expect("INI");
        assert_eq!(config.exclude_also, ["a,b", "def __repr__"]);
        assert_eq!(config.paths, [["src", "*/lib"], ["x", "y"]]);
        assert_eq!(toml.expect("TOML"), Some(config));
    }

    #[test]
    fn variables_are_filled_in() {
        let title = |text: &str| {
            ini(&format!("[html]\ntitle = {text}\n")).map(|config| config.title.unwrap_or_default())
        };
        assert_eq!(
            title("$WHO ${WHO} ${WHO-you} ${YOU-you} $YOU ${YOU}. $$WHO $ ${WHO!}").as_deref(),
            Ok("me me me you  . $WHO $ ${WHO!}")
        );
        assert!(matches!(title("${YOU?}"), Err(ConfigError::Undefined { .. })));
    }

    #[test]
    fn other_peoples_files_count_where_they_have_a_section_of_ours() {
        let other = Form::Ini { own: false };
        assert_eq!(parse("[report]\nomit = x\n", other, &variable), Ok(None));
        let found = parse("[coverage:report]\nomit = x\n", other, &variable).expect("parses").expect("used");
        assert_eq!(found.omit, Some(vec!["x".to_owned()]));
        assert_eq!(parse("[tool.other]\nx = 1\n", Form::Toml { own: false }, &variable), Ok(None));
    }

    #[test]
    fn options_that_do_nothing_are_told() {
        let config = ini("[report]\nfail_undr = 90\nsort = miss\n[lcov]\nline_checksums = 1\n").expect("INI");
        assert_eq!(
            config.notes,
            [
                "unrecognized option [report] fail_undr in coverage.py's configuration",
                "[lcov] line_checksums of coverage.py's configuration is not followed"
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("[report]\nfail_under = much\n", "[report] fail_under is \"much\", which is no number"),
            ("[report]\nskip_empty = maybe\n", "no boolean"),
            ("[report]\nx\n", "line 2"),
            ("[report]\na = 1\na = 2\n", "line 3"),
            ("a = 1\n", "line 1"),
        ] {
            let error = ini(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = parse("[tool.coverage.report]\nomit = 'x'\n", Form::Toml { own: false }, &variable)
            .expect_err("no list");
        assert!(error.to_string().contains("no list"), "{error}");
    }
}

//! Templates in connection variables: what Ansible's Jinja makes of them, rendered when asked for.

use std::sync::{Arc, LazyLock};

use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, Value as JinjaValue, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde_json::Value;

use crate::inventory::model::groups::Inventory;
use crate::inventory::vars::vault::VaultError;

/// Deepest chain of variables that stand in each other.
const MAX_DEPTH: usize = 32;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("the template {text:?}: {reason}")]
    Template { text: String, reason: String },
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Renders a variable of a host, opens its vaults, and takes unsafe texts as they are.
pub(crate) fn render(inventory: &Arc<Inventory>, host: &str, value: &Value) -> Result<Value, RenderError> {
    let scope = Scope { inventory: Arc::clone(inventory), host: host.to_owned(), depth: 0 };
    scope.render(value)
}

/// The variables of one host, as templates see them.
#[derive(Debug, Clone)]
struct Scope {
    inventory: Arc<Inventory>,
    host: String,
    depth: usize,
}

impl Scope {
    fn render(&self, value: &Value) -> Result<Value, RenderError> {
        match value {
            Value::String(text) => self.render_text(text),
            Value::Array(items) => items.iter().map(|item| self.render(item)).collect(),
            Value::Object(fields) => match (fields.get("__ansible_unsafe"), fields.get("__ansible_vault")) {
                (Some(literal), _) => Ok(literal.clone()),
                (_, Some(Value::String(vault))) => Ok(Value::String(self.inventory.secrets.open(vault)?)),
                _ => fields.iter().map(|(name, field)| Ok((name.clone(), self.render(field)?))).collect(),
            },
            other => Ok(other.clone()),
        }
    }

    fn render_text(&self, text: &str) -> Result<Value, RenderError> {
        if !["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
            return Ok(Value::String(text.to_owned()));
        }
        let failed = |reason: String| RenderError::Template { text: text.to_owned(), reason };
        if self.depth > MAX_DEPTH {
            return Err(failed("variables that stand in each other without end".to_owned()));
        }
        let environment = &*ENVIRONMENT;
        let context = JinjaValue::from_object(self.clone());
        // One expression keeps its type; with text around it, all of it is a text.
        let alone = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        // The end of a block within an expression is a panic of the library's.
        let alone = alone.filter(|inside| !inside.contains("}}") && !inside.contains("%}"));
        if let Some(compiled) = alone.and_then(|inside| environment.compile_expression(inside).ok()) {
            let found = compiled.eval(context).map_err(|error| failed(reason(&error)))?;
            if found.is_undefined() {
                return Err(failed("it is not defined".to_owned()));
            }
            return serde_json::to_value(found).map_err(|error| failed(error.to_string()));
        }
        environment.render_str(text, context).map(Value::String).map_err(|error| failed(reason(&error)))
    }

    /// A variable, or one of those that Ansible itself sets.
    fn find(&self, name: &str) -> Option<Result<JinjaValue, RenderError>> {
        let inventory = &self.inventory;
        let found = match name {
            "inventory_hostname" => JinjaValue::from(self.host.as_str()),
            "inventory_hostname_short" => JinjaValue::from(self.host.split('.').next().unwrap_or_default()),
            "group_names" => {
                let groups = inventory
                    .groups_of(&self.host)
                    .into_iter()
                    .filter(|group| *group != crate::inventory::model::groups::ALL);
                groups.map(JinjaValue::from).collect()
            }
            "groups" => {
                let groups = inventory.groups.keys();
                let hosts = |group: &String| -> JinjaValue {
                    inventory.hosts_of(group).into_iter().map(JinjaValue::from).collect()
                };
                groups.map(|group| (group.as_str(), hosts(group))).collect()
            }
            "hostvars" => JinjaValue::from_object(AllHosts(self.clone())),
            _ => {
                let value = inventory.vars_of(&self.host).remove(name)?;
                let deeper = Self { depth: self.depth + 1, ..self.clone() };
                return Some(deeper.render(&value).map(|value| JinjaValue::from_serialize(&value)));
            }
        };
        Some(Ok(found))
    }
}

impl Object for Scope {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &JinjaValue) -> Option<JinjaValue> {
        match self.find(key.as_str()?)? {
            Ok(value) => Some(value),
            Err(error) => Some(JinjaValue::from(Error::new(ErrorKind::InvalidOperation, error.to_string()))),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// `hostvars`: a host's variables by its name.
#[derive(Debug)]
struct AllHosts(Scope);

impl Object for AllHosts {
    fn get_value(self: &Arc<Self>, key: &JinjaValue) -> Option<JinjaValue> {
        let host = key.as_str().filter(|host| self.0.inventory.hosts.contains_key(*host))?;
        let scope = Scope { host: host.to_owned(), depth: self.0.depth + 1, ..self.0.clone() };
        Some(JinjaValue::from_object(scope))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None if error.kind() == ErrorKind::UndefinedError => "a variable of it is not defined".to_owned(),
        None => error.kind().to_string(),
    }
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// Jinja with those of Ansible's filters and lookups that inventories use; what is missing is an error.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_formatter(format);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("lookup", lookup);
    environment.add_filter("basename", |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned());
    environment.add_filter("dirname", |path: &str| match path.rsplit_once('/') {
        None => String::new(),
        Some(("", _)) => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
    });
    environment.add_filter("expanduser", |path: String| {
        crate::inventory::host::expand_home(path).display().to_string()
    });
    environment.add_filter("bool", to_bool);
    environment.add_filter("string", |value: JinjaValue| text_of(&value));
    environment.add_filter(
        "ternary",
        |flag: JinjaValue, yes: JinjaValue, no: JinjaValue| if flag.is_true() { yes } else { no },
    );
    environment.add_filter("mandatory", |value: JinjaValue| {
        let missing = || Error::new(ErrorKind::UndefinedError, "a mandatory variable is not defined");
        if value.is_undefined() { Err(missing()) } else { Ok(value) }
    });
    environment.add_filter("regex_replace", |text: &str, pattern: &str, with: &str| {
        let regex = regex::Regex::new(pattern).map_err(|_| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("{pattern:?} is no regular expression that is read"),
            )
        })?;
        // Python writes groups as \1, the library as ${1}.
        let back = regex::Regex::new(r"\\(\d)")
            .map_or_else(|_| with.to_owned(), |back| back.replace_all(with, "$${$1}").into_owned());
        Ok::<_, Error>(regex.replace_all(text, back.as_str()).into_owned())
    });
    environment
}

/// What Python writes for a value.
fn format(out: &mut Output<'_>, state: &State<'_, '_>, value: &JinjaValue) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool | ValueKind::None => out.write_str(&text_of(value)).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn text_of(value: &JinjaValue) -> String {
    match value.kind() {
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        ValueKind::None => String::new(),
        _ => value.to_string(),
    }
}

fn to_bool(value: JinjaValue) -> bool {
    match value.as_str() {
        Some(text) => ["yes", "on", "1", "true", "y", "t"].contains(&text.to_ascii_lowercase().as_str()),
        None => value.is_true(),
    }
}

/// `lookup('env', NAME)`; every other lookup would read what only Ansible reads.
fn lookup(args: Rest<JinjaValue>) -> Result<JinjaValue, Error> {
    let (plugin, name, options): (&str, &str, Option<minijinja::value::Kwargs>) = from_args(&args)?;
    if !["env", "ansible.builtin.env"].contains(&plugin) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("lookup({plugin:?}) is not read")));
    }
    if let Ok(found) = std::env::var(name) {
        return Ok(JinjaValue::from(found));
    }
    match options.map(|options| options.get::<Option<JinjaValue>>("default")).transpose()?.flatten() {
        Some(default) => Ok(default),
        None => Ok(JinjaValue::from("")),
    }
}

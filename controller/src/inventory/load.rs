//! The sources of an inventory, and `group_vars/` and `host_vars/` beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::inventory::model::groups::{Inventory, TreeError, UNGROUPED, Vars, VarsFolder};
use crate::inventory::source::yaml::{self, Document, Kind};
use crate::inventory::source::{self, SourceError, Span, address, ini};
use crate::inventory::vars::vault::{self, Secrets, VaultError};
use crate::inventory::via_ansible::{self, ViaAnsibleError};

/// Largest inventory file; ten thousand hosts with variables have about one megabyte.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 32;

/// Extensions that YAML inventories and variables have; none is one, too.
const YAML: [&str; 4] = ["", ".yml", ".yaml", ".json"];

/// Names in a folder of inventories that are none.
const IGNORED: [&str; 12] =
    [".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry"];

/// Who reads the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Via {
    // What pulpcov cannot read goes to ansible-inventory, where it is installed.
    #[default]
    Auto,
    Native,
    Ansible,
}

/// A vault's id, and the file or program that has its password.
#[derive(Debug, Clone)]
pub(crate) struct VaultId {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// What to read, and with what.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Files, folders, or hosts with commas between them.
    pub(crate) sources: Vec<PathBuf>,
    pub(crate) playbook_dir: Option<PathBuf>,
    pub(crate) vault_ids: Vec<VaultId>,
    pub(crate) secrets: Secrets,
    pub(crate) via: Via,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read the inventory {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {size} bytes, the limit is {MAX_FILE}")]
    TooLarge { path: PathBuf, size: u64 },
    #[error("{path}: not UTF-8")]
    NotUtf8 { path: PathBuf },
    #[error("{path}: {what}, which only Ansible reads{why}")]
    Unsupported { path: PathBuf, what: &'static str, why: String },
    #[error("{path}: {source}")]
    Invalid { path: PathBuf, source: SourceError },
    #[error("{path}: {source}")]
    Vault { path: PathBuf, source: VaultError },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("{0}: no inventory in that folder")]
    NoSource(PathBuf),
    #[error(transparent)]
    ViaAnsible(#[from] ViaAnsibleError),
}

/// Reads an inventory and what lies beside it.
pub(crate) fn load(request: &Request) -> Result<Arc<Inventory>, LoadError> {
    let mut inventory = match request.via {
        Via::Native => native(request)?,
        Via::Ansible => via_ansible::read(request)?,
        Via::Auto => match native(request) {
            Err(LoadError::Unsupported { path, what, .. }) => ask_ansible(request, path, what)?,
            other => other?,
        },
    };
    inventory.secrets = request.secrets.clone();
    Ok(Arc::new(inventory))
}

fn ask_ansible(request: &Request, path: PathBuf, what: &'static str) -> Result<Inventory, LoadError> {
    match via_ansible::read(request) {
        Ok(mut inventory) => {
            inventory.warnings.push(format!("{}: {what}; ansible-inventory has read it", path.display()));
            Ok(inventory)
        }
        Err(ViaAnsibleError::Missing) => Err(LoadError::Unsupported {
            path,
            what,
            why: ", and ansible-inventory is not installed".to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// `fs_err`'s words are those of a program; a person wants to know what is not there.
fn unread(path: &Path) -> impl FnOnce(std::io::Error) -> LoadError {
    move |source| LoadError::Read { path: path.to_owned(), source }
}

fn native(request: &Request) -> Result<Inventory, LoadError> {
    let mut inventory = Inventory::default();
    let mut folders = Vec::new();
    for source in &request.sources {
        if is_host_list(source) {
            read_host_list(&mut inventory, source)?;
            continue;
        }
        let is_folder = std::fs::metadata(source).map_err(unread(source))?.is_dir();
        if is_folder {
            if !read_folder(&mut inventory, source, &request.secrets, 0)? {
                return Err(LoadError::NoSource(source.clone()));
            }
            folders.push(source.clone());
        } else {
            read_file(&mut inventory, source, &request.secrets)?;
            folders.push(source.parent().unwrap_or(Path::new("")).to_owned());
        }
    }
    inventory.settle()?;
    if inventory.has_odd_ungrouped() {
        let path = request.sources.first().cloned().unwrap_or_default();
        return Err(LoadError::Unsupported {
            path,
            what: "`ungrouped` above or below another group",
            why: String::new(),
        });
    }
    for folder in &folders {
        let vars = vars_folder(&mut inventory, folder, &request.secrets)?;
        inventory.beside.push(vars);
    }
    if let Some(folder) = &request.playbook_dir {
        inventory.playbook = vars_folder(&mut inventory, folder, &request.secrets)?;
    }
    Ok(inventory)
}

/// `web1,web2` and no such file.
fn is_host_list(source: &Path) -> bool {
    source.to_str().is_some_and(|text| text.contains(',')) && !source.exists()
}

fn read_host_list(inventory: &mut Inventory, source: &Path) -> Result<(), LoadError> {
    for name in source.to_str().unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
    {
        let (host, port) =
            address::parse(name).filter(|(host, _)| !host.contains('[')).unwrap_or((name, None));
        inventory.add_host(host, UNGROUPED, port)?;
    }
    Ok(())
}

/// Reads the inventories of a folder in the order of their names, and says whether there were any.
fn read_folder(
    inventory: &mut Inventory,
    folder: &Path,
    secrets: &Secrets,
    depth: usize,
) -> Result<bool, LoadError> {
    let mut any = false;
    for (name, path) in sorted_entries(folder)? {
        let is_ignored = name.starts_with('.')
            || ["host_vars", "group_vars", "vars_plugins"].contains(&name.as_str())
            || IGNORED.iter().any(|end| name.ends_with(end));
        if is_ignored {
            continue;
        }
        if path.is_dir() {
            any |= depth < MAX_DEPTH && read_folder(inventory, &path, secrets, depth + 1)?;
        } else {
            read_file(inventory, &path, secrets)?;
            any = true;
        }
    }
    Ok(any)
}

fn sorted_entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, LoadError> {
    let entry = |entry: std::fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    let mut entries: Vec<(String, PathBuf)> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|found| found.map(entry)).collect())
        .map_err(unread(folder))?;
    entries.sort();
    Ok(entries)
}

/// The extension as Python's `splitext` has it: with its point, and none for a hidden file.
fn extension(path: &Path) -> String {
    path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default()
}

fn read_file(inventory: &mut Inventory, path: &Path, secrets: &Secrets) -> Result<(), LoadError> {
    let unsupported = |what| LoadError::Unsupported { path: path.to_owned(), what, why: String::new() };
    let invalid = |source: SourceError| LoadError::Invalid { path: path.to_owned(), source };
    let extension = extension(path);
    if extension == ".toml" {
        return Err(unsupported("TOML"));
    }
    let text = read_text(path, secrets)?;
    let mode = std::fs::metadata(path).map_err(unread(path))?.permissions().mode();
    if text.starts_with("#!") && mode & 0o111 != 0 {
        return Err(unsupported("a script"));
    }
    let before = inventory.warnings.len();
    if YAML.contains(&extension.as_str()) {
        match yaml::parse(&text) {
            Ok(Document { root: Some(root), warnings }) if matches!(root.kind, Kind::Mapping(_)) => {
                if let Kind::Mapping(fields) = &root.kind
                    && fields.iter().any(|(key, value)| key.key() == Some("plugin") && !value.is_null())
                {
                    return Err(unsupported("an inventory plugin's configuration"));
                }
                inventory.warnings.extend(warnings);
                source::read_yaml(inventory, &root).map_err(invalid)?;
            }
            other => read_as_ini(inventory, path, &text, other).map_err(invalid)?,
        }
    } else {
        ini::read(inventory, &text).map_err(invalid)?;
    }
    for warning in inventory.warnings.iter_mut().skip(before) {
        *warning = format!("{}: {warning}", path.display());
    }
    Ok(())
}

/// A file that may be YAML by its name and is no mapping: Ansible takes it for INI. Where that fails
/// too, the error is of the one that the file looks like.
fn read_as_ini(
    inventory: &mut Inventory,
    path: &Path,
    text: &str,
    as_yaml: Result<Document, yaml::YamlError>,
) -> Result<(), SourceError> {
    let yaml_error = match as_yaml {
        Err(error) => SourceError::from(error),
        Ok(Document { root: Some(root), .. }) if !root.is_null() => {
            root.error("an inventory is a mapping of groups").into()
        }
        Ok(_) => return Ok(()),
    };
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let looks_ini = match first {
        Some(line) if line.starts_with('[') => line.ends_with(']'),
        Some(line) => {
            extension(path).is_empty() && !line.ends_with(':') && !line.contains(": ") && line != "---"
        }
        None => true,
    };
    ini::read(inventory, text).map_err(|error| if looks_ini { error } else { yaml_error })
}

fn read_text(path: &Path, secrets: &Secrets) -> Result<String, LoadError> {
    let size = std::fs::metadata(path).map_err(unread(path))?.len();
    if size > MAX_FILE {
        return Err(LoadError::TooLarge { path: path.to_owned(), size });
    }
    let bytes = std::fs::read(path).map_err(unread(path))?;
    let text = String::from_utf8(bytes).map_err(|_| LoadError::NotUtf8 { path: path.to_owned() })?;
    if vault::is_vault(&text) {
        return secrets.open(&text).map_err(|source| LoadError::Vault { path: path.to_owned(), source });
    }
    Ok(text)
}

/// `group_vars/` and `host_vars/` of a folder, for the groups and hosts that there are.
fn vars_folder(inventory: &mut Inventory, folder: &Path, secrets: &Secrets) -> Result<VarsFolder, LoadError> {
    let mut warnings = Vec::new();
    let groups = vars_files(&folder.join("group_vars"), inventory.groups.keys(), secrets, &mut warnings)?;
    let hosts = vars_files(&folder.join("host_vars"), inventory.hosts.keys(), secrets, &mut warnings)?;
    inventory.warnings.extend(warnings);
    Ok(VarsFolder { groups, hosts })
}

/// The variables of each name: the first there is of `NAME`, `NAME.yml`, `NAME.yaml`, `NAME.json`;
/// each may be a folder.
fn vars_files<'n>(
    folder: &Path,
    names: impl Iterator<Item = &'n String>,
    secrets: &Secrets,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Vars>, LoadError> {
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    let there: BTreeSet<String> = sorted_entries(folder)?.into_iter().map(|(name, _)| name).collect();
    for name in names {
        let file =
            YAML.map(|extension| format!("{name}{extension}")).into_iter().find(|file| there.contains(file));
        let Some(path) = file.map(|file| folder.join(file)) else { continue };
        let files = if path.is_dir() { files_below(&path, 0)? } else { vec![path] };
        let mut vars = Vars::new();
        for file in files {
            vars.extend(read_vars(&file, secrets, warnings)?);
        }
        found.insert(name.clone(), vars);
    }
    Ok(found)
}

/// Files below a folder in sorted order, without hidden ones and backups.
fn files_below(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = Vec::new();
    for (name, path) in sorted_entries(folder)? {
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let extension = extension(&path);
        if path.is_dir() {
            if extension.is_empty() && depth < MAX_DEPTH {
                files.extend(files_below(&path, depth + 1)?);
            }
        } else if YAML.contains(&extension.as_str()) {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_vars(path: &Path, secrets: &Secrets, warnings: &mut Vec<String>) -> Result<Vars, LoadError> {
    let text = read_text(path, secrets)?;
    let invalid = |source: SourceError| LoadError::Invalid { path: path.to_owned(), source };
    let document = yaml::parse(&text).map_err(|error| invalid(error.into()))?;
    warnings.extend(document.warnings.iter().map(|warning| format!("{}: {warning}", path.display())));
    match document.root {
        None => Ok(Vars::new()),
        Some(root) if root.is_null() => Ok(Vars::new()),
        Some(root) => match root.to_value() {
            Value::Object(vars) => Ok(vars),
            _ => Err(invalid(Span { line: root.line, column: root.column }.error("variables are a mapping"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::model::list::{graph, list};
    use crate::inventory::{ALL, select};

    fn fixture(case: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/inventories").join(case)
    }

    fn request(case: &str) -> Request {
        let file = if case == "12-dir-multi" { "inv" } else { "hosts.yml" };
        Request { sources: vec![fixture(case).join(file)], via: Via::Native, ..Request::default() }
    }

    fn recorded(case: &str, name: &str) -> Value {
        let bytes = fs_err::read(fixture(case).join(name)).expect("recorded");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    const CASES: [&str; 13] = [
        "01-basic-tree",
        "02-ranges",
        "03-sibling-priority",
        "04-group-host-vars",
        "05-ungrouped-toplevel",
        "06-diamond",
        "07-yaml-types",
        "08-jinja",
        "09-vault",
        "10-addresses",
        "11-redefined",
        "12-dir-multi",
        "13-aliases",
    ];

    /// What ansible-core 2.19 answers for these, recorded with `ansible-inventory`; all of it, with its order.
    #[test]
    fn list_and_graph_are_those_of_ansible() {
        for case in CASES {
            let inventory = load(&request(case)).unwrap_or_else(|error| panic!("{case}: {error}"));
            let hosts: Vec<String> = inventory.hosts_of(ALL).into_iter().map(str::to_owned).collect();
            assert_eq!(list(&inventory, &hosts), recorded(case, "expected.list.json"), "{case}");
            let expected =
                fs_err::read_to_string(fixture(case).join("expected.graph.txt")).expect("recorded");
            assert_eq!(graph(&inventory, ALL).as_deref(), Some(expected.as_str()), "{case}");
        }
    }

    #[test]
    fn patterns_select_what_ansible_selects() {
        let mut asked = 0;
        for case in ["01-basic-tree", "02-ranges", "10-addresses", "11-redefined"] {
            let inventory = load(&request(case)).expect("loads");
            for answer in recorded(case, "expected.patterns.json").as_array().expect("a list") {
                let limit = answer["limit"].as_str().expect("a text");
                let ours = select(&inventory, limit).map_or(Vec::new(), |selection| selection.hosts);
                assert_eq!(serde_json::json!(ours), answer["hosts"], "{case}: {limit}");
                asked += 1;
            }
        }
        assert_eq!(asked, 64);
    }

    #[test]
    fn templates_and_vaults_come_to_what_ansible_makes_of_them() {
        let inventory = load(&request("08-jinja")).expect("loads");
        for (host, expected) in recorded("08-jinja", "expected.rendered.json").as_object().expect("hosts") {
            let vars = inventory.vars_of(host);
            for (variable, name) in [
                ("ansible_host", "ansible_host"),
                ("ansible_user", "ansible_user"),
                ("ansible_become_user", "become_user"),
                ("ansible_ssh_common_args", "common"),
                ("raw_text", "raw"),
            ] {
                let Some(value) = vars.get(variable) else { continue };
                let ours =
                    crate::inventory::vars::template::render(&inventory, host, value).expect("renders");
                assert_eq!(ours, expected[name], "{host}: {variable}");
            }
        }
        let mut request = request("09-vault");
        request.secrets.add_file("default", &fixture("09-vault/vault_pass.txt")).expect("a password");
        let inventory = load(&request).expect("loads");
        for (host, expected) in recorded("09-vault", "expected.decrypted.json").as_object().expect("hosts") {
            let value = &inventory.vars_of(host)["ansible_become_password"];
            let ours = crate::inventory::vars::template::render(&inventory, host, value).expect("opens");
            assert_eq!(ours, expected["ansible_become_password"]);
        }
    }

    /// Ansible warns and goes on with no hosts at all. `plugin.yml` is for its plugins, not for us.
    #[test]
    fn what_ansible_takes_for_an_empty_inventory_is_an_error_with_its_place() {
        for case in [
            "dashrange",
            "int-host",
            "list-children",
            "list-hosts",
            "list-vars",
            "loop",
            "mixrange",
            "plugin",
            "rev-range",
            "str-vars",
            "toplist",
            "uneven-range",
        ] {
            let path = fixture("00-errors").join(format!("{case}.yml"));
            let request = Request { sources: vec![path], via: Via::Native, ..Request::default() };
            let error = load(&request).err().unwrap_or_else(|| panic!("{case} was taken")).to_string();
            assert!(error.contains(&format!("{case}.yml")), "{error}");
            assert!(error.contains("column") || case == "plugin", "{error}");
        }
        let request = Request { sources: vec![fixture("00-errors").join("empty.yml")], ..Request::default() };
        assert!(load(&request).expect("one without hosts").hosts.is_empty());
    }

    #[test]
    fn oddities_are_warnings_with_a_place() {
        for (case, words) in [("dupkey", "second time"), ("group-host-clash", "a group and a host")] {
            let path = fixture("00-errors").join(format!("{case}.yml"));
            let request = Request { sources: vec![path], ..Request::default() };
            let warnings = &load(&request).expect("only a warning").warnings;
            assert!(warnings.iter().any(|warning| warning.contains(words)), "{warnings:?}");
        }
    }

    #[test]
    fn hosts_with_commas_are_an_inventory() {
        let request = Request { sources: vec!["web1,web2:2222,".into()], ..Request::default() };
        let inventory = load(&request).expect("two hosts");
        assert_eq!(inventory.host("web2").expect("plain").port, Some(2222));
    }
}

//! The files of an inventory: `hosts.yml`, and `group_vars/` and `host_vars/` beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::groups::{Inventory, InventoryError, Vars};
use super::yaml;

/// Largest inventory file; ten thousand hosts with variables have about one megabyte.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read the inventory")]
    Read(#[source] std::io::Error),
    #[error("{path}: {size} bytes, the limit is {MAX_FILE}")]
    TooLarge { path: PathBuf, size: u64 },
    #[error("{path}: not UTF-8")]
    NotUtf8 { path: PathBuf },
    #[error("{path}: a {what}; only plain YAML inventories are read")]
    Unsupported { path: PathBuf, what: &'static str },
    #[error("{path}: {source}")]
    Invalid { path: PathBuf, source: InventoryError },
    #[error("{path}: the inventory has no hosts")]
    Empty { path: PathBuf },
}

/// Reads an inventory and what lies beside it.
pub(crate) fn load(path: &Path) -> Result<Inventory, LoadError> {
    if fs_err::metadata(path).map_err(LoadError::Read)?.is_dir() {
        return Err(LoadError::Unsupported { path: path.to_owned(), what: "folder of inventories" });
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "ini" | "cfg" => return Err(LoadError::Unsupported { path: path.to_owned(), what: "INI file" }),
        "py" | "sh" => return Err(LoadError::Unsupported { path: path.to_owned(), what: "script" }),
        _ => {}
    }
    let text = read_text(path)?;
    if text.starts_with("#!") {
        return Err(LoadError::Unsupported { path: path.to_owned(), what: "script" });
    }
    if text.starts_with("$ANSIBLE_VAULT") {
        return Err(LoadError::Unsupported { path: path.to_owned(), what: "vault-encrypted file" });
    }
    let invalid = |source: InventoryError| LoadError::Invalid { path: path.to_owned(), source };
    let document = yaml::parse(&text).map_err(|error| invalid(error.into()))?;
    let root = document
        .root
        .filter(|root| !root.is_null())
        .ok_or_else(|| LoadError::Empty { path: path.to_owned() })?;
    let mut inventory = Inventory::from_node(&root).map_err(invalid)?;
    if inventory.hosts.is_empty() {
        return Err(LoadError::Empty { path: path.to_owned() });
    }
    let mut warnings: Vec<String> =
        document.warnings.into_iter().chain(std::mem::take(&mut inventory.warnings)).collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    inventory.group_files = vars_files(&folder.join("group_vars"), inventory.groups.keys(), &mut warnings)?;
    inventory.host_files = vars_files(&folder.join("host_vars"), inventory.hosts.iter(), &mut warnings)?;
    inventory.warnings = warnings.iter().map(|warning| format!("{}: {warning}", path.display())).collect();
    Ok(inventory)
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    let size = fs_err::metadata(path).map_err(LoadError::Read)?.len();
    if size > MAX_FILE {
        return Err(LoadError::TooLarge { path: path.to_owned(), size });
    }
    let bytes = fs_err::read(path).map_err(LoadError::Read)?;
    String::from_utf8(bytes).map_err(|_| LoadError::NotUtf8 { path: path.to_owned() })
}

/// The variables of each name: `NAME`, `NAME.yml`, `NAME.yaml`, `NAME.json`, or a folder `NAME`.
fn vars_files<'n>(
    folder: &Path,
    names: impl Iterator<Item = &'n String>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Vars>, LoadError> {
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for name in names {
        let mut vars = Vars::new();
        for file in ["", ".yml", ".yaml", ".json"].map(|extension| folder.join(format!("{name}{extension}")))
        {
            if file.is_dir() {
                for inner in files_below(&file)? {
                    vars.extend(read_vars(&inner, warnings)?);
                }
            } else if file.is_file() {
                vars.extend(read_vars(&file, warnings)?);
            }
        }
        if !vars.is_empty() {
            found.insert(name.clone(), vars);
        }
    }
    Ok(found)
}

/// Files below a folder in sorted order, without hidden ones and backups.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut entries: Vec<PathBuf> = fs_err::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>())
        .map_err(LoadError::Read)?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if matches!(path.extension().and_then(|e| e.to_str()), None | Some("yml" | "yaml" | "json")) {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_vars(path: &Path, warnings: &mut Vec<String>) -> Result<Vars, LoadError> {
    let text = read_text(path)?;
    if text.starts_with("$ANSIBLE_VAULT") {
        return Err(LoadError::Unsupported { path: path.to_owned(), what: "vault-encrypted file" });
    }
    let invalid =
        |source: yaml::YamlError| LoadError::Invalid { path: path.to_owned(), source: source.into() };
    let document = yaml::parse(&text).map_err(invalid)?;
    warnings.extend(document.warnings.iter().map(|warning| format!("{}: {warning}", path.display())));
    match document.root {
        None => Ok(Vars::new()),
        Some(root) if root.is_null() => Ok(Vars::new()),
        Some(root) => match root.to_value() {
            Value::Object(vars) => Ok(vars),
            _ => Err(invalid(root.error("variables are a mapping"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn fixture(case: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/inventories").join(case)
    }

    /// What ansible-core 2.19 answers for these, recorded with `ansible-inventory --list`.
    #[test]
    fn hosts_groups_and_variables_are_those_of_ansible() {
        for case in [
            "01-basic-tree",
            "02-ranges",
            "03-sibling-priority",
            "04-group-host-vars",
            "05-ungrouped-toplevel",
            "06-diamond",
            "07-yaml-types",
            "10-addresses",
            "11-redefined",
            "13-aliases",
        ] {
            let inventory =
                load(&fixture(case).join("hosts.yml")).unwrap_or_else(|error| panic!("{case}: {error}"));
            let expected: Value = serde_json::from_slice(
                &fs_err::read(fixture(case).join("expected.list.json")).expect("recorded"),
            )
            .expect("JSON");
            let all: BTreeSet<&str> = inventory.hosts.iter().map(String::as_str).collect();
            let hostvars = expected["_meta"]["hostvars"].as_object().expect("hostvars");
            for (host, vars) in hostvars {
                assert!(all.contains(host.as_str()), "{case}: no host {host}");
                assert_eq!(&Value::Object(inventory.vars_of(host)), vars, "{case}: {host}");
            }
            for (name, group) in
                expected.as_object().expect("groups").iter().filter(|(name, _)| *name != "_meta")
            {
                let set = |key: &str| -> BTreeSet<String> {
                    let names = group[key].as_array().cloned().unwrap_or_default();
                    names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
                };
                let ours = inventory.groups.get(name).unwrap_or_else(|| panic!("{case}: no group {name}"));
                assert_eq!(
                    ours.hosts.iter().cloned().collect::<BTreeSet<_>>(),
                    set("hosts"),
                    "{case}: {name}"
                );
                let children: BTreeSet<String> =
                    ours.children.iter().filter(|child| *child != "ungrouped").cloned().collect();
                let expected: BTreeSet<String> =
                    set("children").into_iter().filter(|child| child != "ungrouped").collect();
                assert_eq!(children, expected, "{case}: {name}");
            }
        }
    }

    #[test]
    fn what_ansible_takes_for_an_empty_inventory_is_an_error() {
        for case in [
            "dashrange",
            "empty",
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
            let error = load(&path).err().unwrap_or_else(|| panic!("{case} was taken"));
            assert!(error.to_string().contains(&format!("{case}.yml")), "{error}");
        }
    }

    #[test]
    fn oddities_are_warnings_with_a_place() {
        let inventory = load(&fixture("00-errors").join("dupkey.yml")).expect("the last one counts");
        assert!(
            inventory.warnings.iter().any(|warning| warning.contains("second time")),
            "{:?}",
            inventory.warnings
        );
        let inventory = load(&fixture("00-errors").join("group-host-clash.yml")).expect("a warning");
        assert!(inventory.warnings.iter().any(|warning| warning.contains("a group and a host")));
    }

    #[test]
    fn a_vault_stays_a_vault() {
        let inventory = load(&fixture("09-vault").join("hosts.yml")).expect("inline vaults parse");
        let vaulted = inventory
            .hosts
            .iter()
            .flat_map(|host| inventory.vars_of(host))
            .any(|(_, value)| value.get("__ansible_vault").is_some());
        assert!(vaulted, "{}", json!(inventory.hosts));
    }
}

//! One host's variables, by name and kind.

use std::sync::Arc;

use pulpcov_protocol::profile::RecorderChoice;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::inventory::model::groups::{Inventory, Vars};
use crate::inventory::vars::template::{self, RenderError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum HostVarError {
    #[error("host {host}: {variable} is {value}, which is no {wanted}")]
    Type { host: String, variable: String, value: String, wanted: &'static str },
    #[error("host {host}: {variable} is {what}, which is not read")]
    Unsupported { host: String, variable: String, what: String },
    #[error("host {host}: {variable}: {value}: {reason}")]
    Item { host: String, variable: String, value: String, reason: String },
    #[error("host {host}: {variable}: {source}")]
    Render { host: String, variable: String, source: RenderError },
}

/// Reads variables by their names, the last set of several winning, as Ansible does.
pub(in crate::inventory) struct Getter<'a> {
    pub(in crate::inventory) inventory: &'a Arc<Inventory>,
    pub(in crate::inventory) host: &'a str,
    pub(in crate::inventory) vars: &'a Vars,
}

impl Getter<'_> {
    pub(in crate::inventory) fn find(&self, names: &[&str]) -> Result<Option<(String, Value)>, HostVarError> {
        let Some((name, value)) = names.iter().rev().find_map(|name| Some((*name, self.vars.get(*name)?)))
        else {
            return Ok(None);
        };
        let value = template::render(self.inventory, self.host, value).map_err(|source| {
            HostVarError::Render { host: self.host.to_owned(), variable: name.to_owned(), source }
        })?;
        Ok(Some((name.to_owned(), value)).filter(|(_, value)| !value.is_null()))
    }

    pub(in crate::inventory) fn unsupported(&self, variable: &str, what: &str) -> HostVarError {
        HostVarError::Unsupported {
            host: self.host.to_owned(),
            variable: variable.to_owned(),
            what: what.to_owned(),
        }
    }

    pub(in crate::inventory) fn wrong(
        &self,
        variable: String,
        value: &Value,
        wanted: &'static str,
    ) -> HostVarError {
        HostVarError::Type { host: self.host.to_owned(), variable, value: value.to_string(), wanted }
    }

    pub(in crate::inventory) fn text(&self, names: &[&str]) -> Result<Option<String>, HostVarError> {
        match self.find(names)? {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((_, Value::Number(number))) => Ok(Some(number.to_string())),
            Some((name, other)) => Err(self.wrong(name, &other, "text")),
        }
    }

    pub(in crate::inventory) fn flag(&self, names: &[&str]) -> Result<Option<bool>, HostVarError> {
        let Some((name, value)) = self.find(names)? else { return Ok(None) };
        match &value {
            Value::Bool(flag) => Ok(Some(*flag)),
            Value::Number(n) if n.as_i64() == Some(1) => Ok(Some(true)),
            Value::Number(n) if n.as_i64() == Some(0) => Ok(Some(false)),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "on" | "1" | "y" | "t" => Ok(Some(true)),
                "no" | "false" | "off" | "0" | "n" | "f" => Ok(Some(false)),
                _ => Err(self.wrong(name, &value, "yes or no")),
            },
            _ => Err(self.wrong(name, &value, "yes or no")),
        }
    }

    pub(in crate::inventory) fn port(&self, names: &[&str]) -> Result<Option<u16>, HostVarError> {
        let Some((name, value)) = self.find(names)? else { return Ok(None) };
        let port = match &value {
            Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        port.filter(|&port| port > 0).map(Some).ok_or_else(|| self.wrong(name, &value, "port"))
    }

    pub(in crate::inventory) fn number(&self, name: &str) -> Result<Option<f64>, HostVarError> {
        let Some((name, value)) = self.find(&[name])? else { return Ok(None) };
        let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        number.map(Some).ok_or_else(|| self.wrong(name, &value, "number"))
    }

    pub(in crate::inventory) fn recorder(&self) -> Result<Option<RecorderChoice>, HostVarError> {
        let Some((name, value)) = self.find(&["pulpcov_recorder"])? else { return Ok(None) };
        let known = serde_json::from_value(value.clone()).ok();
        known.map(Some).ok_or_else(|| self.wrong(name, &value, "auto, live-map or coverage"))
    }

    pub(in crate::inventory) fn list(&self, name: &str) -> Result<Vec<String>, HostVarError> {
        match self.find(&[name])? {
            None => Ok(Vec::new()),
            Some((_, Value::String(one))) => Ok(vec![one]),
            Some((name, Value::Array(items))) => items
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name.clone(), item, "text"))
                })
                .collect(),
            Some((name, other)) => Err(self.wrong(name, &other, "list of texts")),
        }
    }

    /// A list of mappings, or one without a list around it.
    pub(in crate::inventory) fn items<T: DeserializeOwned>(
        &self,
        name: &str,
        wanted: &'static str,
    ) -> Result<Vec<T>, HostVarError> {
        let Some((name, value)) = self.find(&[name])? else { return Ok(Vec::new()) };
        let items = match value {
            Value::Array(items) => items,
            one @ Value::Object(_) => vec![one],
            other => return Err(self.wrong(name, &other, wanted)),
        };
        let read = |item: Value| {
            serde_json::from_value(item.clone()).map_err(|error| HostVarError::Item {
                host: self.host.to_owned(),
                variable: name.clone(),
                value: item.to_string(),
                reason: error.to_string(),
            })
        };
        items.into_iter().map(read).collect()
    }
}

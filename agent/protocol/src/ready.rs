//! When a service that was started takes requests.

use serde::{Deserialize, Deserializer, Serialize};

/// One thing that holds from then on; exactly one of port, socket, URL and command is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A TCP port of the host itself, or `ADDRESS:PORT`, that takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number_or_text")]
    pub port: Option<String>,
    /// A Unix socket that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// An `http` URL that answers with [`Ready::status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Status that the URL answers with; 200 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A command of `/bin/sh` that ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Seconds that it is waited for.
    #[serde(default = "default_timeout")]
    pub timeout: f64,
}

const fn default_timeout() -> f64 {
    120.0
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(u64),
        Text(String),
    }
    Ok(Option::<Port>::deserialize(deserializer)?.map(|port| match port {
        Port::Number(number) => number.to_string(),
        Port::Text(text) => text,
    }))
}

/// What a service is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Addresses, of which one is to take connections.
    Tcp(Vec<(String, u16)>),
    Unix(String),
    Http {
        host: String,
        port: u16,
        path: String,
        status: u16,
    },
    Command(String),
}

/// Why nobody could wait for it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadyError {
    #[error("each entry has one of port, socket, url and command")]
    NotOne,
    #[error("{0:?} is no port, and no ADDRESS:PORT")]
    Port(String),
    #[error("{0:?} is no absolute path of a socket")]
    Socket(String),
    #[error("{0:?} is no http://HOST[:PORT]/PATH; for anything else there is command: curl ...")]
    Url(String),
    #[error("status is for url only")]
    Status,
    #[error("a timeout of {0} s is not between 1 and 3600")]
    Timeout(String),
}

impl Ready {
    /// What is to be asked for.
    pub fn check(&self) -> Result<Check, ReadyError> {
        if !(1.0..=3600.0).contains(&self.timeout) {
            return Err(ReadyError::Timeout(self.timeout.to_string()));
        }
        if self.status.is_some() && self.url.is_none() {
            return Err(ReadyError::Status);
        }
        match (&self.port, &self.socket, &self.url, &self.command) {
            (Some(port), None, None, None) => {
                addresses(port).map(Check::Tcp).ok_or_else(|| ReadyError::Port(port.clone()))
            }
            (None, Some(path), None, None) if path.starts_with('/') => Ok(Check::Unix(path.clone())),
            (None, Some(path), None, None) => Err(ReadyError::Socket(path.clone())),
            (None, None, Some(url), None) => {
                http(url, self.status.unwrap_or(200)).ok_or_else(|| ReadyError::Url(url.clone()))
            }
            (None, None, None, Some(command)) if !command.trim().is_empty() => {
                Ok(Check::Command(command.clone()))
            }
            _ => Err(ReadyError::NotOne),
        }
    }

    /// What it is, for a person.
    pub fn title(&self) -> String {
        let Self { port, socket, url, status, command, .. } = self;
        let of = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!("{what}{value}"));
        let url = || url.as_ref().map(|url| format!("{url} ({})", status.unwrap_or(200)));
        of("port ", port)
            .or_else(|| of("socket ", socket))
            .or_else(url)
            .or_else(|| of("", command))
            .unwrap_or_default()
    }
}

fn addresses(text: &str) -> Option<Vec<(String, u16)>> {
    let port = |text: &str| text.parse().ok().filter(|&port: &u16| port > 0);
    match text.rsplit_once(':') {
        None => {
            let port = port(text)?;
            Some(vec![("127.0.0.1".to_owned(), port), ("::1".to_owned(), port)])
        }
        Some((host, number)) => Some(vec![(plain_host(host)?, port(number)?)]),
    }
}

/// A host name or address, without the brackets of an IPv6 one.
fn plain_host(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_plain = |host: &str, more: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    match inner {
        Some(host) => is_plain(host, ":.").then(|| host.to_owned()),
        None => is_plain(text, "-._").then(|| text.to_owned()),
    }
}

fn http(url: &str, status: u16) -> Option<Check> {
    let rest = url.strip_prefix("http://")?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (place, path) = rest.split_at_checked(cut)?;
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|&port: &u16| port > 0)?)
        }
        _ => (place, 80),
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let is_clean = path.chars().all(|c| c.is_ascii_graphic());
    is_clean.then_some(Check::Http { host: plain_host(host)?, port, path, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Check, ReadyError> {
        serde_json::from_str::<Ready>(json).expect("JSON").check()
    }

    #[test]
    fn each_way_of_being_ready_is_read() {
        let both = vec![("127.0.0.1".to_owned(), 8000), ("::1".to_owned(), 8000)];
        assert_eq!(check(r#"{"port": 8000}"#), Ok(Check::Tcp(both.clone())));
        assert_eq!(check(r#"{"port": "8000"}"#), Ok(Check::Tcp(both)));
        assert_eq!(check(r#"{"port": "[::]:1"}"#), Ok(Check::Tcp(vec![("::".to_owned(), 1)])));
        let http = |host: &str, port, path: &str, status| {
            Ok(Check::Http { host: host.to_owned(), port, path: path.to_owned(), status })
        };
        assert_eq!(check(r#"{"url": "http://h"}"#), http("h", 80, "/", 200));
        assert_eq!(check(r#"{"url": "http://[::1]:8/a?b", "status": 401}"#), http("::1", 8, "/a?b", 401));
        assert_eq!(check(r#"{"command": "true"}"#), Ok(Check::Command("true".to_owned())));
        assert_eq!(check(r#"{"socket": "/run/x"}"#), Ok(Check::Unix("/run/x".to_owned())));
    }

    #[test]
    fn what_nobody_could_ask_for_is_refused() {
        for json in [
            "{}",
            r#"{"port": 1, "command": "x"}"#,
            r#"{"port": 99999}"#,
            r#"{"port": 0}"#,
            r#"{"port": "a b:1"}"#,
            r#"{"url": "https://h/"}"#,
            r#"{"url": "http://h:0/"}"#,
            "{\"url\": \"http://h/ x\"}",
            r#"{"socket": "x"}"#,
            r#"{"command": " "}"#,
            r#"{"port": 1, "status": 200}"#,
            r#"{"port": 1, "timeout": 0}"#,
        ] {
            assert!(check(json).is_err(), "{json}");
        }
    }
}

//! Containers and pods that are found at each command: `pulpcov_containers` and `pulpcov_pods`.

use serde::Deserialize;
use serde_json::Value;

use crate::inventory::vars::container::{Container, Engine};
use crate::inventory::vars::getter::{Getter, HostVarError};

/// Which containers or pods an entry of the inventory stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sought {
    /// The host of the inventory on which the engine's program runs; without one, this machine.
    pub(crate) on: Option<String>,
    /// How each is entered.
    pub(crate) container: Container,
    /// What the engine itself chooses by: labels, or the selector of pods.
    pub(crate) labels: Vec<String>,
    /// A pattern of their names.
    pub(crate) name: Option<String>,
}

const CONTAINERS: &str = "pulpcov_containers";
const PODS: &str = "pulpcov_pods";

/// The variables by which an entry stands for several.
pub(in crate::inventory) const SEVERAL: [&str; 2] = [CONTAINERS, PODS];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Containers {
    host: Option<String>,
    label: Option<Label>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pods {
    host: Option<String>,
    selector: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    One(String),
    All(Vec<String>),
}

impl Getter<'_> {
    /// What the host stands for, where that is more than itself.
    pub(in crate::inventory) fn sought(&self) -> Result<Option<Sought>, HostVarError> {
        let found = match (self.find(&[CONTAINERS])?, self.find(&[PODS])?) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(self.unsupported(PODS, &format!("set beside {CONTAINERS}")));
            }
            (Some((_, value)), None) => {
                let Containers { host, label, name } = self.mapping(CONTAINERS, &value)?;
                let labels = match label {
                    None => Vec::new(),
                    Some(Label::One(label)) => vec![label],
                    Some(Label::All(labels)) => labels,
                };
                let container = self.container(self.engine(CONTAINERS, Engine::Podman)?)?;
                (value, Sought { on: host, container, labels, name })
            }
            (None, Some((_, value))) => {
                let Pods { host, selector, name } = self.mapping(PODS, &value)?;
                let container = self.container(self.engine(PODS, Engine::Kubectl)?)?;
                (value, Sought { on: host, container, labels: selector.into_iter().collect(), name })
            }
        };
        self.checked(found).map(Some)
    }

    fn mapping<T: serde::de::DeserializeOwned>(&self, name: &str, value: &Value) -> Result<T, HostVarError> {
        serde_json::from_value(value.clone()).map_err(|error| self.item(name, value, error.to_string()))
    }

    fn item(&self, name: &str, value: &Value, reason: String) -> HostVarError {
        HostVarError::Item {
            host: self.host.to_owned(),
            variable: name.to_owned(),
            value: value.to_string(),
            reason,
        }
    }

    /// The engine of `ansible_connection`, where that names one; what is inherited for hosts that are none does no harm.
    fn engine(&self, variable: &str, usual: Engine) -> Result<Engine, HostVarError> {
        let named = self.text(&["ansible_connection"])?;
        let engine = named.as_deref().and_then(Engine::of_connection).unwrap_or(usual);
        if engine.has_pods() == usual.has_pods() {
            Ok(engine)
        } else {
            Err(self.unsupported(variable, &format!("for the ansible_connection {}", engine.name())))
        }
    }

    fn checked(&self, (value, mut found): (Value, Sought)) -> Result<Sought, HostVarError> {
        let variable = if found.container.engine.has_pods() { PODS } else { CONTAINERS };
        let wrong = |reason: &str| Err(self.item(variable, &value, reason.to_owned()));
        let is_empty = |text: &String| text.trim().is_empty();
        if found.labels.is_empty() && found.name.is_none() {
            return wrong("it says neither which labels nor which names: name: '*' is all of them");
        }
        if found.labels.iter().chain(&found.name).chain(&found.on).any(is_empty) {
            return wrong("it has an empty text");
        }
        if found.on.as_deref() == Some(self.host) {
            return wrong("its host is the entry itself");
        }
        if found.on.is_some() && found.container.kubeconfig.is_some() {
            return wrong(
                "a kubeconfig in the inventory is for this machine's program: name a file of that host",
            );
        }
        // Whose name it would be is found.
        found.container.name = None;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn sought(vars: &str) -> Result<Sought, HostVarError> {
        let text = format!("all:\n  hosts:\n    workers: {{{vars}}}\n");
        let host = Arc::new(crate::inventory::from_yaml(&text).expect("an inventory")).host("workers")?;
        Ok(*host.sought.unwrap_or_else(|| panic!("{vars}")))
    }

    #[test]
    fn labels_names_and_the_engine_are_read() {
        let found =
            sought("pulpcov_containers: {host: bastion, label: app=pulp}, ansible_user: pulp").expect("fine");
        assert_eq!(
            (found.on.as_deref(), found.labels.as_slice()),
            (Some("bastion"), &["app=pulp".to_owned()][..])
        );
        assert_eq!((found.container.engine, found.container.user.as_deref()), (Engine::Podman, Some("pulp")));
        let found = sought("pulpcov_containers: {label: [a=1, b], name: 'pulp-*'}, ansible_connection: docker, ansible_docker_docker_host: 'tcp://h:1'")
            .expect("fine");
        assert_eq!((found.labels.len(), found.name.as_deref()), (2, Some("pulp-*")));
        assert_eq!((found.container.engine, found.container.options.len()), (Engine::Docker, 2));
        let found =
            sought("pulpcov_pods: {selector: '{{ app }}'}, app: 'app=pulp', ansible_connection: local")
                .expect("fine");
        assert_eq!(
            (found.labels.as_slice(), found.container.engine),
            (&["app=pulp".to_owned()][..], Engine::Kubectl)
        );
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (vars, words) in [
            ("pulpcov_containers: {}", "name: '*' is all"),
            ("pulpcov_containers: {host: bastion}", "name: '*' is all"),
            ("pulpcov_containers: {label: ''}", "empty text"),
            ("pulpcov_containers: [a]", "pulpcov_containers"),
            ("pulpcov_containers: {labels: a}", "unknown field `labels`"),
            ("pulpcov_containers: {name: a, host: workers}", "the entry itself"),
            ("pulpcov_containers: {name: a}, ansible_connection: kubectl", "kubectl"),
            ("pulpcov_pods: {name: a}, ansible_connection: docker", "docker"),
            ("pulpcov_pods: {name: a}, pulpcov_containers: {name: a}", "beside"),
            (
                "pulpcov_pods: {name: a, host: h}, ansible_kubectl_kubeconfig: {kind: Config}",
                "a file of that host",
            ),
        ] {
            let error = sought(vars).err().unwrap_or_else(|| panic!("{vars} was taken")).to_string();
            assert!(error.contains(words) && error.contains("host workers"), "{vars}: {error}");
        }
    }
}

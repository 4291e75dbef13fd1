//! Containers and pods, by the variables and the environment that Ansible's connection plugins read.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::inventory::source::shell_words;
use crate::inventory::vars::getter::{Getter, HostVarError};

/// Who has the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Podman,
    Docker,
    Kubectl,
    /// The client of `OpenShift`: `kubectl` under another name.
    Oc,
}

impl Engine {
    /// Its program.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Kubectl => "kubectl",
            Self::Oc => "oc",
        }
    }

    /// The engine of an `ansible_connection`, with its collection's name or without.
    pub(crate) fn of_connection(name: &str) -> Option<Self> {
        Some(match name {
            "podman" | "containers.podman.podman" => Self::Podman,
            "docker" | "community.docker.docker" | "docker_api" | "community.docker.docker_api" => {
                Self::Docker
            }
            "kubectl" | "kubernetes.core.kubectl" | "community.kubernetes.kubectl" => Self::Kubectl,
            "oc" | "community.okd.oc" => Self::Oc,
            _ => return None,
        })
    }

    /// Whether what it runs in are pods.
    pub(crate) const fn has_pods(self) -> bool {
        matches!(self, Self::Kubectl | Self::Oc)
    }
}

/// A container, as the inventory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) engine: Engine,
    pub(crate) program: String,
    /// Words before `exec`.
    pub(crate) options: Vec<String>,
    /// Words behind `exec` and before the container.
    pub(crate) exec: Vec<String>,
    /// Words before the command: who becomes another in the container.
    pub(crate) before: Vec<String>,
    /// Its name, where it is not the host's address.
    pub(crate) name: Option<String>,
    /// Which container of a pod.
    pub(crate) of_pod: Option<String>,
    pub(crate) user: Option<String>,
    /// For the program here.
    pub(crate) env: BTreeMap<String, String>,
    /// A kubeconfig that stands in the inventory.
    pub(crate) kubeconfig: Option<String>,
}

impl Container {
    /// One of which nothing is known but its name.
    pub(crate) fn plain(engine: Engine) -> Self {
        Self {
            engine,
            program: engine.name().to_owned(),
            options: Vec::new(),
            exec: Vec::new(),
            before: Vec::new(),
            name: None,
            of_pod: None,
            user: None,
            env: BTreeMap::new(),
            kubeconfig: None,
        }
    }
}

impl Getter<'_> {
    pub(in crate::inventory) fn container(&self, engine: Engine) -> Result<Container, HostVarError> {
        match engine {
            Engine::Podman => self.podman(),
            Engine::Docker => self.docker(),
            Engine::Kubectl | Engine::Oc => self.pod(engine),
        }
    }

    fn podman(&self) -> Result<Container, HostVarError> {
        const EXTRA: &str = "ansible_podman_extra_args";
        const ESCALATION: &str = "ansible_podman_privilege_escalation";
        let mut found = Container::plain(Engine::Podman);
        found.name = self.text(&["ansible_podman_host"])?;
        found.user = self.text_or(&["ansible_user"], &["ANSIBLE_REMOTE_USER"])?;
        if let Some(program) = self.text_or(&["ansible_podman_executable"], &["ANSIBLE_PODMAN_EXECUTABLE"])? {
            found.program = program;
        }
        if let Some(args) = self.text_or(&[EXTRA], &["ANSIBLE_PODMAN_EXTRA_ARGS"])? {
            found.options = shell_words::split(&args, false)
                .map_err(|_| self.unsupported(EXTRA, &format!("{args:?}")))?;
        }
        for (name, value) in self.environment("ansible_podman_extra_env")? {
            found.exec.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        let folder =
            self.text_or(&["ansible_podman_working_directory"], &["ANSIBLE_PODMAN_WORKING_DIRECTORY"])?;
        found.exec.extend(folder.into_iter().flat_map(|folder| ["--workdir".to_owned(), folder]));
        match self.text_or(&[ESCALATION], &["ANSIBLE_PODMAN_PRIVILEGE_ESCALATION"])?.as_deref() {
            None | Some("auto" | "none") => {}
            Some("sudo") => found.before = ["sudo", "-n"].map(str::to_owned).to_vec(),
            Some(other) => return Err(self.unsupported(ESCALATION, other)),
        }
        Ok(found)
    }

    fn docker(&self) -> Result<Container, HostVarError> {
        let mut found = Container::plain(Engine::Docker);
        found.name = self.text(&["ansible_docker_host"])?;
        found.user = self.text_or(&["ansible_user", "ansible_docker_user"], &["ANSIBLE_REMOTE_USER"])?;
        self.docker_daemon(&mut found)?;
        let args = self.text(&["ansible_docker_extra_args"])?.unwrap_or_default();
        found.options.extend(args.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
        for (name, value) in self.environment("ansible_docker_extra_env")? {
            found.exec.extend(["-e".to_owned(), format!("{name}={value}")]);
        }
        let folder = self.text_or(&["ansible_docker_working_dir"], &["ANSIBLE_DOCKER_WORKING_DIR"])?;
        found.exec.extend(folder.into_iter().flat_map(|folder| ["-w".to_owned(), folder]));
        let of_env = std::env::var("ANSIBLE_DOCKER_PRIVILEGED").ok().map(|word| is_yes(&word));
        if self.flag(&["ansible_docker_privileged"])?.or(of_env) == Some(true) {
            found.exec.push("--privileged".to_owned());
        }
        Ok(found)
    }

    /// Where the daemon is, as the plugin that speaks to it itself is told.
    fn docker_daemon(&self, found: &mut Container) -> Result<(), HostVarError> {
        const NAME: &str = "ansible_docker_tls_hostname";
        if let Some(name) = self.text(&[NAME])? {
            return Err(self
                .unsupported(NAME, &format!("{name}: docker's client checks the name that it connects to")));
        }
        if let Some(host) = self.text(&["ansible_docker_docker_host"])? {
            found.options.extend(["-H".to_owned(), host]);
        }
        if self.flag(&["ansible_docker_validate_certs"])? == Some(true) {
            found.options.push("--tlsverify".to_owned());
        } else if self.flag(&["ansible_docker_tls"])? == Some(true) {
            found.options.push("--tls".to_owned());
        }
        for (names, option) in [
            (&["ansible_docker_ca_cert", "ansible_docker_ca_path"][..], "--tlscacert"),
            (&["ansible_docker_client_cert"], "--tlscert"),
            (&["ansible_docker_client_key"], "--tlskey"),
        ] {
            let value = self.text(names)?;
            found.options.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        }
        let version = self.text(&["ansible_docker_api_version"])?.filter(|version| version != "auto");
        found.env.extend(version.map(|version| ("DOCKER_API_VERSION".to_owned(), version)));
        Ok(())
    }

    /// `ansible_user` says nothing of a pod: whoever started its container runs what is brought into it.
    fn pod(&self, engine: Engine) -> Result<Container, HostVarError> {
        let mut found = Container::plain(engine);
        let own = |what: &str| format!("ansible_{}_{what}", engine.name());
        let text = |vars: &[&str], env: &[&str]| {
            let names: Vec<String> = vars.iter().map(|what| own(what)).collect();
            let env: Vec<String> = env.iter().map(|what| format!("K8S_AUTH_{what}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.text_or(&names, &env.iter().map(String::as_str).collect::<Vec<_>>())
        };
        found.name = text(&["pod"], &["POD"])?;
        found.of_pod = text(&["container"], &["CONTAINER"])?;
        let mut option = |name: &str, value: Option<String>| {
            found.options.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        // In the order of the plugins' own options.
        option("-n", text(&["namespace"], &["NAMESPACE"])?);
        let config = self.find(&[&own("kubeconfig"), &own("config")])?.map(|(_, value)| value);
        found.kubeconfig = config.as_ref().filter(|value| value.is_object()).map(Value::to_string);
        if found.kubeconfig.is_none() {
            option("--kubeconfig", text(&["kubeconfig", "config"], &["KUBECONFIG"])?);
        }
        option("--context", text(&["context"], &["CONTEXT"])?);
        option("--server", text(&["host", "server"], &["HOST", "SERVER"])?);
        if engine == Engine::Kubectl {
            option("--username", text(&["username", "user"], &["USERNAME"])?);
            option("--password", text(&["password"], &["PASSWORD"])?);
        }
        option("--token", text(&["token", "api_key"], &["TOKEN", "API_KEY"])?);
        option("--client-certificate", text(&["cert_file", "client_cert"], &["CERT_FILE"])?);
        option("--client-key", text(&["key_file", "client_key"], &["KEY_FILE"])?);
        option("--certificate-authority", text(&["ssl_ca_cert", "ca_cert"], &["SSL_CA_CERT"])?);
        let of_env = std::env::var("K8S_AUTH_VERIFY_SSL").ok().map(|word| is_yes(&word));
        if let Some(is_checked) = self.flag(&[&own("verify_ssl"), &own("validate_certs")])?.or(of_env) {
            found.options.push(format!("--insecure-skip-tls-verify={}", !is_checked));
        }
        let args = text(&["extra_args"], &["EXTRA_ARGS"])?.unwrap_or_default();
        found.options.extend(args.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
        found.env.extend(self.environment(&own("local_env_vars"))?);
        Ok(found)
    }

    /// A variable, or one of the environment that the plugins read where it is not set.
    fn text_or(&self, names: &[&str], env: &[&str]) -> Result<Option<String>, HostVarError> {
        let set = self.text(names)?;
        let of_env = || env.iter().find_map(|name| std::env::var(name).ok());
        Ok(set.or_else(of_env).filter(|text| !text.is_empty()))
    }

    fn environment(&self, name: &str) -> Result<BTreeMap<String, String>, HostVarError> {
        let Some((name, value)) = self.find(&[name])? else { return Ok(BTreeMap::new()) };
        let wrong = || self.wrong(name.clone(), &value, "mapping of names to texts");
        let all = value.as_object().ok_or_else(wrong)?;
        let text = |(name, value): (&String, &Value)| {
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            value.as_str().filter(|_| is_name).map(|text| (name.clone(), text.to_owned()))
        };
        all.iter().map(|one| text(one).ok_or_else(wrong)).collect()
    }
}

fn is_yes(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1" | "y" | "t")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::inventory::{Connection, HostVarError};

    fn container(vars: &str) -> Result<Container, HostVarError> {
        let text = format!("all:\n  hosts:\n    h1: {{{vars}}}\n");
        let host = Arc::new(crate::inventory::from_yaml(&text).expect("an inventory")).host("h1")?;
        match host.connection {
            Some(Connection::Container(container)) => Ok(*container),
            other => panic!("{vars}: {other:?}"),
        }
    }

    #[test]
    fn variables_of_an_engine_come_to_its_words() {
        let podman = container(
            "ansible_connection: podman, ansible_podman_host: web, ansible_podman_working_directory: /srv, \
             ansible_podman_extra_env: {A: 'x y'}, ansible_podman_privilege_escalation: sudo, ansible_podman_timeout: 5",
        )
        .expect("fine");
        assert_eq!(podman.name.as_deref(), Some("web"));
        assert_eq!(podman.exec, ["--env", "A=x y", "--workdir", "/srv"]);
        assert_eq!(podman.before, ["sudo", "-n"]);
        let docker = container(
            "ansible_connection: community.docker.docker_api, ansible_docker_docker_host: 'tcp://h:1', \
             ansible_docker_validate_certs: true, ansible_docker_ca_path: /ca, ansible_docker_api_version: '1.41'",
        )
        .expect("fine");
        assert_eq!(docker.options, ["-H", "tcp://h:1", "--tlsverify", "--tlscacert", "/ca"]);
        assert_eq!(docker.env.get("DOCKER_API_VERSION").map(String::as_str), Some("1.41"));
        let pod = container(
            "ansible_connection: kubectl, ansible_kubectl_verify_ssl: false, ansible_kubectl_kubeconfig: {kind: Config}",
        )
        .expect("fine");
        assert_eq!(pod.options, ["--insecure-skip-tls-verify=true"]);
        assert_eq!(pod.kubeconfig.as_deref(), Some("{\"kind\":\"Config\"}"));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_name() {
        for (vars, name) in [
            ("ansible_connection: podman, ansible_podman_extra_args: \"'\"", "ansible_podman_extra_args"),
            ("ansible_connection: podman, ansible_podman_privilege_escalation: su", "privilege_escalation"),
            ("ansible_connection: podman, ansible_podman_extra_env: [A]", "ansible_podman_extra_env"),
            ("ansible_connection: docker, ansible_docker_extra_env: {A: 1}", "ansible_docker_extra_env"),
            ("ansible_connection: docker, ansible_docker_extra_env: {'A=B': x}", "ansible_docker_extra_env"),
            ("ansible_connection: docker, ansible_docker_tls_hostname: h", "ansible_docker_tls_hostname"),
            ("ansible_connection: kubectl, ansible_kubectl_pod: [a]", "ansible_kubectl_pod"),
        ] {
            let error = container(vars).err().unwrap_or_else(|| panic!("{vars} was taken")).to_string();
            assert!(error.contains(name) && error.contains("h1"), "{vars}: {error}");
        }
    }
}

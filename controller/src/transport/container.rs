//! Containers and pods, by their engine's own command line: what Ansible's plugins would run.

use std::io::Write;
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::inventory::{Container, Engine};
use crate::transport::ResolveError;
use crate::transport::process::{Ends, Program};

/// The program and its words up to the container, which `address` names unless the inventory does.
pub(super) fn words(
    container: &Container,
    address: &str,
    user: Option<&str>,
    kubeconfig: Option<&str>,
) -> Vec<String> {
    let mut words = vec![container.program.clone()];
    words.extend(kubeconfig.into_iter().flat_map(|path| ["--kubeconfig", path]).map(str::to_owned));
    words.extend(container.options.iter().cloned());
    words.push("exec".to_owned());
    let option = match container.engine {
        Engine::Podman => Some("--user"),
        Engine::Docker => Some("-u"),
        Engine::Kubectl | Engine::Oc => None,
    };
    let user = container.user.as_deref().or(user);
    words.extend(option.zip(user).into_iter().flat_map(|(option, user)| [option, user]).map(str::to_owned));
    words.extend(container.exec.iter().cloned());
    words.extend(["-i".to_owned(), container.name.clone().unwrap_or_else(|| address.to_owned())]);
    if container.engine.has_pods() {
        words.extend(container.of_pod.iter().flat_map(|name| ["-c".to_owned(), name.clone()]));
        words.push("--".to_owned());
    }
    words.extend(container.before.iter().cloned());
    words
}

/// How a container is started anew from outside: by its engine, or, in a pod, by an end of its first process, after which
/// the kubelet starts it again.
pub(crate) enum Restart {
    /// These words do it.
    Words(Vec<String>),
    /// A shell command in it.
    Within(&'static str),
}

/// Longest that a container may take to end by itself before its engine kills it.
const GRACE: &str = "60";

pub(super) fn restart(container: &Container, address: &str) -> Restart {
    if container.engine.has_pods() {
        return Restart::Within("kill -TERM 1");
    }
    let mut words = vec![container.program.clone()];
    words.extend(container.options.iter().cloned());
    words.extend(["restart", "-t", GRACE].map(str::to_owned));
    words.push(container.name.clone().unwrap_or_else(|| address.to_owned()));
    Restart::Words(words)
}

/// The program that runs a shell command in a container.
pub(super) fn program(
    container: &Container,
    address: &str,
    user: Option<&str>,
) -> Result<Program, ResolveError> {
    let name = container.name.as_deref().unwrap_or(address);
    // It would be an option of the engine's.
    if name.is_empty() || name.starts_with('-') {
        return Err(ResolveError::Container(format!("{name:?} is no name of a container")));
    }
    let kubeconfig = container.kubeconfig.as_deref().map(kept).transpose()?;
    let path = kubeconfig.as_ref().map(|file| file.path().to_string_lossy().into_owned());
    let mut all = words(container, address, user, path.as_deref());
    all.extend(["/bin/sh", "-c"].map(str::to_owned));
    let program = Program::new(all, Ends::BeforeTheHost).with_env(&container.env);
    let program = match container.user.as_deref().or(user).filter(|_| !container.engine.has_pods()) {
        Some(user) => program.of_user(user),
        None => program,
    };
    Ok(program.keeping(kubeconfig).restarted_by(restart(container, address)))
}

/// The program that runs a shell command, as root, in a container that is made for it.
pub(super) fn of_image(engine: Engine, image: &str) -> Program {
    let words = [engine.name(), "run", "--rm", "-i", "--user", "0", "--entrypoint", "/bin/sh", image, "-c"];
    Program::new(words.map(str::to_owned).to_vec(), Ends::BeforeTheHost)
}

/// A kubeconfig of the inventory, for as long as it is needed; nobody else reads it.
fn kept(text: &str) -> Result<Arc<NamedTempFile>, ResolveError> {
    let failed =
        |error: std::io::Error| ResolveError::Container(format!("no file for its kubeconfig: {error}"));
    let mut file = tempfile::Builder::new().prefix("pulpcov-kubeconfig-").tempfile().map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(Arc::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: &Container, user: Option<&str>) -> String {
        words(container, "web", user, None).join(" ")
    }

    #[test]
    fn each_engine_has_its_words() {
        let plain = |engine| line(&Container::plain(engine), Some("pulp"));
        assert_eq!(plain(Engine::Podman), "podman exec --user pulp -i web");
        assert_eq!(plain(Engine::Docker), "docker exec -u pulp -i web");
        // Whoever started the container runs what is brought into it.
        assert_eq!(plain(Engine::Kubectl), "kubectl exec -i web --");
        let pod = Container {
            of_pod: Some("api".into()),
            name: Some("pulp-api-0".into()),
            options: vec!["-n".into(), "pulp".into()],
            ..Container::plain(Engine::Oc)
        };
        assert_eq!(line(&pod, None), "oc -n pulp exec -i pulp-api-0 -c api --");
    }

    #[test]
    fn a_name_that_is_an_option_is_refused() {
        for name in ["", "--privileged", "-it"] {
            assert!(program(&Container::plain(Engine::Podman), name, None).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_kubeconfig_of_the_inventory_is_a_file_while_it_is_needed() {
        let with = Container {
            kubeconfig: Some("{\"kind\":\"Config\"}".into()),
            ..Container::plain(Engine::Kubectl)
        };
        let program = program(&with, "web", None).expect("fine");
        let path = program.words()[2].clone();
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "{\"kind\":\"Config\"}");
        drop(program);
        assert!(!std::path::Path::new(&path).exists());
    }
}

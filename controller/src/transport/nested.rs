//! A container of another host's engine: its command runs within a command of that host.

use std::sync::Arc;

use crate::inventory::source::shell_words;
use crate::inventory::{Container, Sought};
use crate::transport::container::{self, Restart};
use crate::transport::ssh::KeyRing;
use crate::transport::{Channel, ChannelEvent, Endpoint, Limits, TransportError, listing};

/// Most that is kept of what such a command says on stderr.
const MAX_WORDS: usize = 4096;

/// A container on another host.
pub(crate) struct Nested {
    host: Arc<Endpoint>,
    /// The engine's words there, up to the shell command in the container.
    words: Vec<String>,
    restart: Restart,
    user: Option<String>,
}

impl Nested {
    /// The container of a name, reached through `host`, where `before` comes before the engine's words.
    pub(super) fn new(
        host: Arc<Endpoint>,
        before: &[String],
        sought: &Sought,
        name: &str,
        user: Option<&str>,
    ) -> Self {
        let program = Container { program: String::new(), options: Vec::new(), ..sought.container.clone() };
        let on = |words: Vec<String>| {
            let rest = words.into_iter().skip(1);
            before.iter().cloned().chain(listing::program(sought)).chain(rest).collect::<Vec<_>>()
        };
        let mut words = on(container::words(&program, name, user, None));
        words.extend(["/bin/sh", "-c"].map(str::to_owned));
        let restart = match container::restart(&program, name) {
            Restart::Words(words) => Restart::Words(on(words)),
            within @ Restart::Within(_) => within,
        };
        let user = sought.container.user.as_deref().or(user).filter(|_| !sought.container.engine.has_pods());
        Self { host, words, restart, user: user.map(str::to_owned) }
    }

    pub(super) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("its user")
    }

    /// A line for the host's shell that runs a shell command in the container.
    fn line(&self, command: &str) -> String {
        line(self.words.iter().map(String::as_str).chain([command]))
    }

    pub(super) async fn open(
        &self,
        ring: &KeyRing,
        limits: Limits,
        command: &str,
    ) -> Result<Channel, TransportError> {
        Box::pin(self.host.open(ring, limits, &self.line(command))).await
    }

    pub(super) async fn restart(&self, ring: &KeyRing, limits: Limits) -> Result<(), TransportError> {
        match &self.restart {
            Restart::Words(words) => {
                let line = line(words.iter().map(String::as_str));
                run(&self.host, ring, limits, &line).await.map(|_| ())
            }
            // What ends the first process may end with it.
            Restart::Within(command) => match run(&self.host, ring, limits, &self.line(command)).await {
                Err(TransportError::Command(_)) | Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }
}

/// Words as a line that any login shell takes.
pub(super) fn line<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(shell_words::quote).collect();
    format!("exec {}", words.join(" "))
}

/// What a short command writes, which must succeed.
pub(super) async fn run(
    endpoint: &Endpoint,
    ring: &KeyRing,
    limits: Limits,
    line: &str,
) -> Result<String, TransportError> {
    // A first word: who has nothing to say has been reached all the same.
    let mut channel = endpoint.open(ring, limits, &format!("echo; {line}")).await?;
    let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), None);
    loop {
        match channel.next().await? {
            ChannelEvent::Stdout(bytes) => out.extend(bytes),
            ChannelEvent::Stderr(bytes) => err.extend(bytes.into_iter().take(MAX_WORDS)),
            ChannelEvent::Exit(found) => code = Some(found),
            ChannelEvent::Closed => break,
        }
        if out.len() > listing::MAX_LIST {
            return Err(TransportError::Command(format!("it says more than {} bytes", listing::MAX_LIST)));
        }
        let surplus = err.len().saturating_sub(MAX_WORDS);
        err.drain(..surplus);
    }
    channel.close().await;
    if code == Some(0) {
        return Ok(String::from_utf8_lossy(&out).into_owned());
    }
    let words = String::from_utf8_lossy(&err);
    let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let ended =
        || code.map_or("it was killed".to_owned(), |code| format!("it ended with {code} and said nothing"));
    Err(TransportError::Command(last.map_or_else(ended, crate::output::terminal::printable)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Engine;
    use crate::transport::local;

    #[test]
    fn a_container_of_another_host_is_a_line_for_its_shell() {
        let sought = Sought {
            on: Some("bastion".into()),
            container: Container {
                options: vec!["--url".into(), "ssh://a b".into()],
                env: [("A".to_owned(), "x y".to_owned())].into(),
                ..Container::plain(Engine::Podman)
            },
            labels: vec!["app=pulp".into()],
            name: None,
        };
        let host = || Arc::new(Endpoint::Process(Box::new(local::program())));
        let sudo = ["sudo", "-n"].map(str::to_owned);
        let nested = Nested::new(host(), &sudo, &sought, "web", Some("root"));
        assert_eq!(
            nested.line("exec /bin/sh -c 'a' b"),
            "exec sudo -n env 'A=x y' podman --url 'ssh://a b' exec --user root -i web /bin/sh -c 'exec /bin/sh -c '\\''a'\\'' b'"
        );
        let Restart::Words(words) = &nested.restart else { panic!("an engine restarts its containers") };
        assert_eq!(words[..4], ["sudo", "-n", "env", "A=x y"]);
        assert_eq!(words[7..], ["restart", "-t", "60", "web"]);
        assert_eq!(
            line(listing::words(&sought).iter().map(String::as_str)),
            "exec env 'A=x y' podman --url 'ssh://a b' ps --format 'PCOV1	{{.CreatedAt}}\t{{.Names}}' --filter label=app=pulp"
        );
        let pods = Sought {
            container: Container { of_pod: Some("api".into()), ..Container::plain(Engine::Kubectl) },
            ..sought
        };
        let pod = Nested::new(host(), &[], &pods, "pulp-api-0", None);
        assert_eq!(pod.line("true"), "exec kubectl exec -i pulp-api-0 -c api -- /bin/sh -c true");
    }
}

//! What OpenSSH's client asks while it logs in, answered without a terminal.
//!
//! ssh runs this very program as its `SSH_ASKPASS`, which carries the prompt over a socket in a folder of our user's alone
//! to the process that started ssh. Secrets are on no disk, no command line and in nobody's environment, from where a
//! `SendEnv` would hand them to a host.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Tells ssh's helper that it is one, and where it is answered.
const SOCKET: &str = "PULPCOV_ASKPASS";

/// What ssh says of a prompt: `none` where it wants no answer, and the text is to stand there until ssh ends the helper.
const PROMPT_KIND: &str = "SSH_ASKPASS_PROMPT";

/// ssh cuts a user's name in its prompt.
const PROMPT_USER: usize = 30;

/// A prompt has a few lines.
const MAX_PROMPT: u64 = 16 * 1024;

/// The first byte of an answer, so that an empty secret is one too.
const ANSWER: u8 = b'=';

/// The first byte of what the helper brings.
const QUESTION: u8 = b'?';
const NOTICE: u8 = b'!';

/// What may be answered, and to whom.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// `user@host`, as the prompts of the host itself have it.
    pub(super) asked_by: String,
    pub(super) password: Option<String>,
    pub(super) passphrase: Option<String>,
}

/// What ssh wanted of a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// There is no answer: whoever asks has to be done without.
    Refused(String),
    /// Something is to be done, such as a touch of a key.
    Notice(String),
}

enum Answer<'a> {
    Secret(&'a str),
    /// ssh goes on without.
    Nothing,
    /// Whatever ssh would say instead could do harm: an empty password counts as a failed login.
    Refused,
}

impl Secrets {
    pub(super) fn new(user: &str, hostname: &str, password: Option<&str>, passphrase: Option<&str>) -> Self {
        let user: String = user.chars().take(PROMPT_USER).collect();
        Self {
            asked_by: format!("{user}@{hostname}"),
            password: password.map(str::to_owned),
            passphrase: passphrase.map(str::to_owned),
        }
    }

    /// The password is the host's own: a jump host that asks gets none.
    fn answer(&self, prompt: &str) -> Answer<'_> {
        if prompt.starts_with("Enter passphrase for ") || prompt.starts_with("Enter PIN for ") {
            return self.passphrase.as_deref().map_or(Answer::Nothing, Answer::Secret);
        }
        let is_ours = prompt.starts_with(&format!("{}'s password:", self.asked_by))
            || prompt.starts_with(&format!("({}) ", self.asked_by));
        self.password.as_deref().filter(|_| is_ours).map_or(Answer::Refused, Answer::Secret)
    }
}

/// The socket that one ssh and its jump hosts' are answered at.
pub(super) struct Askpass {
    /// Goes with the socket.
    folder: TempDir,
    asked: mpsc::UnboundedReceiver<Asked>,
    /// Dropped, it ends.
    _answering: JoinSet<()>,
}

impl Askpass {
    pub(super) fn listen(secrets: Secrets) -> io::Result<Self> {
        // The path of a socket is short.
        let folder = private_folder(&std::env::temp_dir()).or_else(|_| private_folder(Path::new("/tmp")))?;
        let listener = UnixListener::bind(folder.path().join("s"))?;
        let (sender, asked) = mpsc::unbounded_channel();
        let mut answering = JoinSet::new();
        answering.spawn(serve(listener, Arc::new(secrets), sender));
        Ok(Self { folder, asked, _answering: answering })
    }

    /// What ssh finds its helper by.
    pub(super) fn env(&self) -> io::Result<Vec<(&'static str, OsString)>> {
        Ok(vec![
            ("SSH_ASKPASS", std::env::current_exe()?.into()),
            ("SSH_ASKPASS_REQUIRE", "force".into()),
            (SOCKET, self.folder.path().join("s").into()),
        ])
    }

    /// The next thing that has no answer.
    pub(super) async fn asked(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

fn private_folder(parent: &Path) -> io::Result<TempDir> {
    // A folder of tempfile's is its owner's alone.
    let folder = tempfile::Builder::new().prefix("pulpcov-ask.").tempdir_in(parent)?;
    std::os::unix::net::SocketAddr::from_pathname(folder.path().join("s"))?;
    Ok(folder)
}

async fn serve(listener: UnixListener, secrets: Arc<Secrets>, asked: mpsc::UnboundedSender<Asked>) {
    // Several may stand at once: a notice stands until ssh takes it away.
    let mut questions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while questions.try_join_next().is_some() {}
        let (secrets, asked) = (Arc::clone(&secrets), asked.clone());
        questions.spawn(async move {
            // A helper that is gone has no use for an answer.
            let _ = answer_one(stream, &secrets, &asked).await;
        });
    }
}

async fn answer_one(
    mut stream: UnixStream,
    secrets: &Secrets,
    asked: &mpsc::UnboundedSender<Asked>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    (&mut stream).take(MAX_PROMPT).read_to_end(&mut bytes).await?;
    let Some((&kind, prompt)) = bytes.split_first() else { return Ok(()) };
    let prompt = String::from_utf8_lossy(prompt);
    let asked = |what: fn(String) -> Asked| {
        // Nobody listens once ssh has come through.
        let _ = asked.send(what(prompt.trim().to_owned()));
    };
    if kind == NOTICE {
        asked(Asked::Notice);
        return std::future::pending().await;
    }
    match secrets.answer(&prompt) {
        Answer::Secret(secret) => {
            stream.write_u8(ANSWER).await?;
            stream.write_all(secret.as_bytes()).await
        }
        Answer::Nothing => Ok(()),
        Answer::Refused => {
            asked(Asked::Refused);
            // Without an answer, until ssh is ended.
            std::future::pending().await
        }
    }
}

/// Whether ssh started this program as its helper.
pub(crate) fn is_helper() -> bool {
    std::env::var_os(SOCKET).is_some()
}

/// The helper's answer to ssh, by the words that ssh started it with.
pub(crate) fn help(mut words: impl Iterator<Item = OsString>) -> Option<String> {
    let prompt = words.nth(1).unwrap_or_default();
    let is_notice = std::env::var_os(PROMPT_KIND).is_some_and(|kind| kind == "none");
    ask(&std::env::var_os(SOCKET)?, &prompt.to_string_lossy(), is_notice).ok().flatten()
}

fn ask(socket: &OsString, prompt: &str, is_notice: bool) -> io::Result<Option<String>> {
    let mut stream = BlockingStream::connect(socket)?;
    stream.write_all(&[if is_notice { NOTICE } else { QUESTION }])?;
    stream.write_all(prompt.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.strip_prefix(char::from(ANSWER)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::new("deploy", "10.0.0.1", Some("pw"), Some("phrase"))
    }

    #[test]
    fn a_password_goes_to_the_host_that_it_is_for() {
        let secrets = secrets();
        let answer = |prompt: &str| match secrets.answer(prompt) {
            Answer::Secret(secret) => Some(secret.to_owned()),
            Answer::Nothing | Answer::Refused => None,
        };
        assert_eq!(answer("deploy@10.0.0.1's password: ").as_deref(), Some("pw"));
        assert_eq!(answer("(deploy@10.0.0.1) Password: ").as_deref(), Some("pw"));
        assert_eq!(answer("Enter passphrase for key '/k': ").as_deref(), Some("phrase"));
        assert_eq!(answer("Enter PIN for 'token': ").as_deref(), Some("phrase"));
        for other in [
            "deploy@gate's password: ",
            "root@10.0.0.1's password: ",
            "deploy@10.0.0.10's password: ",
            "(deploy@10.0.0.10) deploy@10.0.0.1's password: ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "",
        ] {
            assert_eq!(answer(other), None, "{other}");
        }
    }

    #[test]
    fn a_key_whose_passphrase_is_not_known_is_passed_over_and_nothing_else() {
        let secrets = Secrets::new("deploy", "10.0.0.1", None, None);
        assert!(matches!(secrets.answer("Enter passphrase for key '/k': "), Answer::Nothing));
        assert!(matches!(secrets.answer("deploy@10.0.0.1's password: "), Answer::Refused));
    }

    /// Asks as the helper does.
    async fn asking(askpass: &Askpass, prompt: &'static str, is_notice: bool) -> Option<String> {
        let socket = askpass.folder.path().join("s").into_os_string();
        let helper = tokio::task::spawn_blocking(move || ask(&socket, prompt, is_notice));
        helper.await.expect("it ran").expect("it is answered")
    }

    #[tokio::test]
    async fn what_is_asked_comes_and_what_is_answered_goes_by_the_socket() {
        let mut askpass = Askpass::listen(secrets()).expect("a socket");
        assert_eq!(asking(&askpass, "deploy@10.0.0.1's password: ", false).await.as_deref(), Some("pw"));
        let silent = Askpass::listen(Secrets { passphrase: None, ..secrets() }).expect("a socket");
        assert_eq!(asking(&silent, "Enter passphrase for key '/k': ", false).await, None);
        let empty =
            Askpass::listen(Secrets { password: Some(String::new()), ..secrets() }).expect("a socket");
        assert_eq!(asking(&empty, "deploy@10.0.0.1's password: ", false).await.as_deref(), Some(""));
        // Who has no answer waits until ssh is ended.
        for (prompt, is_notice, expected) in [
            ("deploy@gate's password: ", false, Asked::Refused("deploy@gate's password:".to_owned())),
            ("Confirm user presence", true, Asked::Notice("Confirm user presence".to_owned())),
        ] {
            let socket = askpass.folder.path().join("s").into_os_string();
            let helper = tokio::task::spawn_blocking(move || ask(&socket, prompt, is_notice));
            assert_eq!(askpass.asked().await, expected);
            assert!(!helper.is_finished());
            drop(std::mem::replace(&mut askpass, Askpass::listen(secrets()).expect("a socket")));
            assert_eq!(helper.await.expect("it ran").ok().flatten(), None);
        }
    }
}

//! What OpenSSH's client asks while it logs in, answered without a terminal.
//!
//! ssh runs this very program as its `SSH_ASKPASS`, which carries the prompt over a socket in a folder of our user's alone
//! to the process that started ssh. Secrets are on no disk, no command line and in nobody's environment, from where a
//! `SendEnv` would hand them to a host.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Tells ssh's helper that it is one, and where it is answered.
const SOCKET: &str = "PULPCOV_ASKPASS";

/// Its name in the folder. The path of a socket is short.
pub(super) const SOCKET_NAME: &str = "s";

/// What ssh says of a prompt: `none` where it wants no answer, and the text is to stand there until ssh ends the helper.
const PROMPT_KIND: &str = "SSH_ASKPASS_PROMPT";

/// Older clients cut names in a prompt.
const PROMPT_USER: usize = 30;
const PROMPT_HOST: usize = 128;

/// A prompt has a few lines.
const MAX_PROMPT: u64 = 16 * 1024;

/// The first byte of an answer, so that an empty secret is one too.
const ANSWER: u8 = b'=';

/// The first byte of what the helper brings.
const QUESTION: u8 = b'?';
const NOTICE: u8 = b'!';

/// What may be answered, and to whom.
#[derive(Clone)]
pub(super) struct Secrets {
    /// `user@host`, in each way in which the prompts of the host itself may have it.
    asked_by: Vec<String>,
    /// Whether a question with nobody's name before it can only be the host's.
    asks_alone: bool,
    password: Option<String>,
    passphrase: Option<String>,
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
    /// `hosts` are the names that ssh may call the host by.
    pub(super) fn new(user: &str, hosts: &[&str], password: Option<&str>, passphrase: Option<&str>) -> Self {
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let of_host = |host: &&str| {
            [format!("{user}@{host}"), format!("{}@{}", cut(user, PROMPT_USER), cut(host, PROMPT_HOST))]
        };
        Self {
            asked_by: hosts.iter().flat_map(of_host).collect(),
            asks_alone: false,
            password: password.map(str::to_owned),
            passphrase: passphrase.map(str::to_owned),
        }
    }

    /// No other program on the way asks, as a `ProxyCommand` might.
    pub(super) fn asked_for_alone(self, asks_alone: bool) -> Self {
        Self { asks_alone, ..self }
    }

    fn answer(&self, prompt: &str) -> Answer<'_> {
        if is_of_key(prompt) {
            return self.passphrase.as_deref().map_or(Answer::Nothing, Answer::Secret);
        }
        let is_ours = self.asked_by.iter().any(|name| {
            prompt.starts_with(&format!("{name}'s password:"))
                || prompt.strip_prefix(&format!("({name}) ")).is_some_and(is_for_password)
        });
        // Before 8.5, what the host itself asks has nobody's name before it. Jump hosts ask for no password.
        let is_bare = self.asks_alone && prompt.trim_end() == "Password:";
        self.password.as_deref().filter(|_| is_ours || is_bare).map_or(Answer::Refused, Answer::Secret)
    }
}

/// Whether ssh itself asks for what opens a key or a token, and not a host in its words.
fn is_of_key(prompt: &str) -> bool {
    ["Enter passphrase for key '", "Enter passphrase for PKCS#11 token ", "Enter PIN for "]
        .iter()
        .any(|begin| prompt.starts_with(begin))
        && prompt.ends_with(": ")
}

/// Words of questions that are not for the password that one logs in with, which has a name in each language.
const NOT_FOR_PASSWORD: [&str; 8] =
    ["code", "otp", "token", "one-time", "passphrase", "new ", "retype", "again"];

/// Whether a host asks for the password that one logs in with: no code, and no new one.
fn is_for_password(question: &str) -> bool {
    let question = question.to_lowercase();
    !NOT_FOR_PASSWORD.iter().any(|word| question.contains(word))
}

/// The socket that one ssh and its jump hosts' are answered at.
pub(super) struct Askpass {
    socket: PathBuf,
    asked: mpsc::UnboundedReceiver<Asked>,
    /// Dropped, it ends.
    _answering: JoinSet<()>,
}

impl Askpass {
    /// `folder` is our user's alone.
    pub(super) fn listen(secrets: Secrets, folder: &Path) -> io::Result<Self> {
        let socket = folder.join(SOCKET_NAME);
        let listener = UnixListener::bind(&socket)?;
        let (sender, asked) = mpsc::unbounded_channel();
        let mut answering = JoinSet::new();
        answering.spawn(serve(listener, Arc::new(secrets), sender));
        Ok(Self { socket, asked, _answering: answering })
    }

    /// What ssh finds its helper by.
    pub(super) fn env(&self) -> [(&'static str, OsString); 3] {
        // This very program, also where another has taken its name since.
        let program = format!("/proc/{}/exe", std::process::id());
        [
            ("SSH_ASKPASS", program.into()),
            ("SSH_ASKPASS_REQUIRE", "force".into()),
            (SOCKET, self.socket.clone().into()),
        ]
    }

    /// The next thing that has no answer.
    pub(super) async fn asked(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

async fn serve(listener: UnixListener, secrets: Arc<Secrets>, asked: mpsc::UnboundedSender<Asked>) {
    // Several may stand at once: a notice stands until ssh takes it away.
    let mut questions = JoinSet::new();
    let own = rustix::process::geteuid().as_raw();
    while let Ok((stream, _)) = listener.accept().await {
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
            continue;
        }
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
pub(crate) fn help(mut words: impl Iterator<Item = OsString>) -> io::Result<Option<String>> {
    let prompt = words.nth(1).unwrap_or_default();
    let is_notice = std::env::var_os(PROMPT_KIND).is_some_and(|kind| kind == "none");
    ask(&std::env::var_os(SOCKET).unwrap_or_default(), &prompt.to_string_lossy(), is_notice)
}

fn ask(socket: &OsStr, prompt: &str, is_notice: bool) -> io::Result<Option<String>> {
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

    fn secrets(password: Option<&str>, passphrase: Option<&str>) -> Secrets {
        Secrets::new("deploy", &["10.0.0.1", "web-alias"], password, passphrase)
    }

    #[test]
    fn a_password_goes_to_the_host_that_it_is_for() {
        let secrets = secrets(Some("pw"), Some("phrase")).asked_for_alone(true);
        let answer = |prompt: &str| match secrets.answer(prompt) {
            Answer::Secret(secret) => Some(secret.to_owned()),
            Answer::Nothing | Answer::Refused => None,
        };
        for password in [
            "deploy@10.0.0.1's password: ",
            "deploy@web-alias's password: ",
            "(deploy@10.0.0.1) Password: ",
            "(deploy@10.0.0.1) (current) UNIX password: ",
            "(deploy@10.0.0.1) Passwort: ",
            "Password: ",
        ] {
            assert_eq!(answer(password).as_deref(), Some("pw"), "{password}");
        }
        assert_eq!(answer("Enter passphrase for key '/k': ").as_deref(), Some("phrase"));
        assert_eq!(answer("Enter PIN for 'token': ").as_deref(), Some("phrase"));
        for other in [
            "deploy@gate's password: ",
            "root@10.0.0.1's password: ",
            "deploy@10.0.0.10's password: ",
            "(deploy@10.0.0.10) deploy@10.0.0.1's password: ",
            "(deploy@10.0.0.1) Verification code: ",
            "(deploy@10.0.0.1) New password: ",
            "(deploy@10.0.0.1) Enter passphrase for key '/k': ",
            "Enter passphrase for you, says the host: ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "",
        ] {
            assert_eq!(answer(other), None, "{other}");
        }
    }

    #[test]
    fn a_long_name_is_known_whole_and_cut() {
        let user = "abcdefghijabcdefghijabcdefghij12";
        let secrets = Secrets::new(user, &["h"], Some("pw"), None);
        for name in [user, &user[..30]] {
            assert!(
                matches!(secrets.answer(&format!("{name}@h's password: ")), Answer::Secret("pw")),
                "{name}"
            );
        }
    }

    #[test]
    fn a_key_whose_passphrase_is_not_known_is_passed_over_and_nothing_else() {
        let secrets = secrets(None, None);
        assert!(matches!(secrets.answer("Enter passphrase for key '/k': "), Answer::Nothing));
        assert!(matches!(secrets.answer("deploy@10.0.0.1's password: "), Answer::Refused));
    }

    #[test]
    fn a_question_without_a_name_is_not_answered_where_another_program_may_ask() {
        assert!(matches!(secrets(Some("pw"), None).answer("Password: "), Answer::Refused));
    }

    fn listen(secrets: Secrets) -> (tempfile::TempDir, Askpass) {
        let folder = tempfile::tempdir().expect("a folder");
        let askpass = Askpass::listen(secrets, folder.path()).expect("a socket");
        (folder, askpass)
    }

    fn asking(
        askpass: &Askpass,
        prompt: &'static str,
        is_notice: bool,
    ) -> tokio::task::JoinHandle<io::Result<Option<String>>> {
        let socket = askpass.socket.clone().into_os_string();
        tokio::task::spawn_blocking(move || ask(&socket, prompt, is_notice))
    }

    #[tokio::test]
    async fn what_is_asked_comes_and_what_is_answered_goes_by_the_socket() {
        for (secrets, prompt, expected) in [
            (secrets(Some("pw"), None), "deploy@10.0.0.1's password: ", Some("pw")),
            (secrets(Some(""), None), "deploy@10.0.0.1's password: ", Some("")),
            (secrets(Some("pw"), None), "Enter passphrase for key '/k': ", None),
        ] {
            let (_folder, askpass) = listen(secrets);
            let answer = asking(&askpass, prompt, false).await.expect("it ran").expect("it is answered");
            assert_eq!(answer.as_deref(), expected, "{prompt}");
        }
        // Who has no answer waits until ssh is ended.
        for (prompt, is_notice, expected) in [
            ("deploy@gate's password: ", false, Asked::Refused("deploy@gate's password:".to_owned())),
            ("Confirm user presence", true, Asked::Notice("Confirm user presence".to_owned())),
        ] {
            let (_folder, mut askpass) = listen(secrets(Some("pw"), None));
            let helper = asking(&askpass, prompt, is_notice);
            assert_eq!(askpass.asked().await, expected);
            assert!(!helper.is_finished());
            drop(askpass);
            assert_eq!(helper.await.expect("it ran").ok().flatten(), None);
        }
    }
}

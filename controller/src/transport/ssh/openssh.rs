//! OpenSSH's client program: whatever it can do (Kerberos, security keys, PKCS#11, shared connections, any algorithm),
//! with host keys checked as strictly as by our own SSH, and no question asked at a terminal.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::transport::process::{Ends, Program};
use crate::transport::ssh::resolve::ConnectRequest;

/// How long a host may be silent before ssh asks it for a sign of life, and how often it does.
const KEEPALIVE_SECONDS: u32 = 15;
const KEEPALIVES: u32 = 4;

/// Tells ssh's helper that it is one, and for whom: `user@host`.
const ASKED_BY: &str = "PULPCOV_ASKPASS_FOR";
const PASSWORD: &str = "PULPCOV_ASKPASS_PASSWORD";
const PASSPHRASE: &str = "PULPCOV_ASKPASS_PASSPHRASE";

/// ssh cuts a user's name in its prompt.
const PROMPT_USER: usize = 30;

/// What is decided about a host before ssh is started.
pub(super) struct Decided<'a> {
    pub(super) accept_new: bool,
    /// Known hosts that count instead of the usual files.
    pub(super) known_hosts: &'a [PathBuf],
    /// Who is logged in, where: as ssh_config has it.
    pub(super) user: &'a str,
    pub(super) hostname: &'a str,
    pub(super) connect_seconds: u64,
}

/// The program for one host. `options` are the inventory's own, accepted.
pub(super) fn program(
    client: &str,
    request: &ConnectRequest<'_>,
    options: &[String],
    decided: &Decided<'_>,
) -> Program {
    let asks = request.password.is_some() || request.passphrase.is_some();
    let mut words: Vec<String> = [client, "-T", "-x", "-a"].map(str::to_owned).to_vec();
    let mut option = |text: String| words.extend(["-o".to_owned(), text]);
    // The first word on a matter counts, so what must hold comes before what the inventory and ssh_config say.
    option(format!("BatchMode={}", if asks { "no" } else { "yes" }));
    option(format!("StrictHostKeyChecking={}", if decided.accept_new { "accept-new" } else { "yes" }));
    if !decided.known_hosts.is_empty() {
        let files: Vec<String> =
            decided.known_hosts.iter().map(|file| format!("\"{}\"", file.display())).collect();
        option(format!("UserKnownHostsFile={}", files.join(" ")));
        option("GlobalKnownHostsFile=/dev/null".to_owned());
    }
    option("ClearAllForwardings=yes".to_owned());
    option("RemoteCommand=none".to_owned());
    option("NumberOfPasswordPrompts=1".to_owned());
    words.extend(request.words());
    words.extend_from_slice(options);
    let mut option = |text: String| words.extend(["-o".to_owned(), text]);
    option(format!("ConnectTimeout={}", decided.connect_seconds));
    option(format!("ServerAliveInterval={KEEPALIVE_SECONDS}"));
    option(format!("ServerAliveCountMax={KEEPALIVES}"));
    words.extend(["--".to_owned(), request.address.to_owned()]);
    Program::new(words, Ends::AsSsh).of_user(decided.user).with_env(if asks {
        askpass_env(request, decided)
    } else {
        Vec::new()
    })
}

/// ssh asks this very program for its secrets: nothing lies on a disk, and nothing is on a command line.
fn askpass_env(request: &ConnectRequest<'_>, decided: &Decided<'_>) -> Vec<(String, String)> {
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let user: String = decided.user.chars().take(PROMPT_USER).collect();
    let mut env = vec![
        ("SSH_ASKPASS".to_owned(), program.to_string_lossy().into_owned()),
        ("SSH_ASKPASS_REQUIRE".to_owned(), "force".to_owned()),
        (ASKED_BY.to_owned(), format!("{user}@{}", decided.hostname)),
    ];
    let secrets = [(PASSWORD, request.password), (PASSPHRASE, request.passphrase)];
    env.extend(secrets.into_iter().filter_map(|(name, word)| Some((name.to_owned(), word?.to_owned()))));
    env
}

/// Whether ssh started this program as its helper.
pub(crate) fn is_askpass() -> bool {
    std::env::var_os(ASKED_BY).is_some()
}

/// The helper's answer to ssh, by the words that ssh started it with. A jump host that asks gets nothing: the password
/// is not its own.
pub(crate) fn askpass(mut words: impl Iterator<Item = OsString>) -> Option<String> {
    let prompt = words.nth(1).unwrap_or_default();
    let secret = |name| std::env::var(name).ok();
    answer(&prompt, &secret(ASKED_BY)?, secret(PASSWORD), secret(PASSPHRASE))
}

fn answer(
    prompt: &OsStr,
    asked_by: &str,
    password: Option<String>,
    passphrase: Option<String>,
) -> Option<String> {
    let prompt = prompt.to_string_lossy();
    if prompt.starts_with("Enter passphrase for ") || prompt.starts_with("Enter PIN for ") {
        return passphrase;
    }
    let is_ours = prompt.starts_with(&format!("{asked_by}'s password:"))
        || prompt.starts_with(&format!("({asked_by}) "));
    password.filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided() -> Decided<'static> {
        Decided {
            accept_new: false,
            known_hosts: &[],
            user: "deploy",
            hostname: "10.0.0.1",
            connect_seconds: 9,
        }
    }

    #[test]
    fn what_must_hold_comes_before_what_the_inventory_says() {
        let request = ConnectRequest { address: "web1", port: Some(2222), ..ConnectRequest::default() };
        let options = ["-o".to_owned(), "StrictHostKeyChecking=accept-new".to_owned()];
        let program = program("ssh", &request, &options, &decided());
        let words = program.words().join(" ");
        assert!(words.starts_with("ssh -T -x -a -o BatchMode=yes -o StrictHostKeyChecking=yes "), "{words}");
        assert!(words.ends_with("-o ServerAliveCountMax=4 -- web1"), "{words}");
        let place = |text: &str| words.find(text).unwrap_or_else(|| panic!("{text}: {words}"));
        assert!(place("Port=2222") < place("accept-new") && place("accept-new") < place("ConnectTimeout=9"));
    }

    #[test]
    fn a_password_goes_to_the_host_that_it_is_for() {
        let ask = |prompt: &str| {
            answer(OsStr::new(prompt), "deploy@10.0.0.1", Some("pw".into()), Some("phrase".into()))
        };
        assert_eq!(ask("deploy@10.0.0.1's password: ").as_deref(), Some("pw"));
        assert_eq!(ask("(deploy@10.0.0.1) Password: ").as_deref(), Some("pw"));
        assert_eq!(ask("Enter passphrase for key '/k': ").as_deref(), Some("phrase"));
        assert_eq!(ask("Enter PIN for 'token': ").as_deref(), Some("phrase"));
        for other in [
            "deploy@gate's password: ",
            "root@10.0.0.1's password: ",
            "deploy@10.0.0.10's password: ",
            "(deploy@10.0.0.10) deploy@10.0.0.1's password: ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "",
        ] {
            assert_eq!(ask(other), None, "{other}");
        }
    }
}

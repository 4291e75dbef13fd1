//! OpenSSH's client program: whatever it can do (Kerberos, security keys, PKCS#11, shared connections, any algorithm),
//! with host keys checked as strictly as by our own SSH, and no question asked at a terminal.

use std::path::PathBuf;

use crate::transport::askpass::Secrets;
use crate::transport::client_files::{ClientOptions, UserConfig};
use crate::transport::process::{Ends, Program};
use crate::transport::ssh::args;
use crate::transport::ssh::resolve::ConnectRequest;

/// How long a host may be silent before ssh asks it for a sign of life, and how often it does.
const KEEPALIVE_SECONDS: u32 = 15;
const KEEPALIVES: u32 = 4;

/// What is decided about a host before ssh is started.
pub(super) struct Decided<'a> {
    pub(super) accept_new: bool,
    /// Known hosts that count instead of the usual files.
    pub(super) known_hosts: &'a [PathBuf],
    /// Who is logged in, where: as ssh_config has it.
    pub(super) user: &'a str,
    pub(super) hostname: &'a str,
    /// `HostKeyAlias`, by which ssh calls the host in its questions.
    pub(super) alias: Option<&'a str>,
    /// Whether a `ProxyCommand` leads there, which may ask, too.
    pub(super) by_command: bool,
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
    let (user_config, options) = without_config(options);
    // The first word on a matter counts, so what must hold comes before what the inventory and ssh_config say.
    let mut words: Vec<String> = [client, "-T", "-x", "-a"].map(str::to_owned).to_vec();
    let mut option = |text: &str| words.extend(["-o".to_owned(), text.to_owned()]);
    option(if asks { "BatchMode=no" } else { "BatchMode=yes" });
    for line in host_keys(decided) {
        option(&line.replacen(' ', "=", 1));
    }
    option("ClearAllForwardings=yes");
    option("RemoteCommand=none");
    option("NumberOfPasswordPrompts=1");
    words.extend(request.words());
    words.extend(options);
    let mut option = |text: String| words.extend(["-o".to_owned(), text]);
    if request.password.is_some() {
        option("PasswordAuthentication=yes".to_owned());
        option("KbdInteractiveAuthentication=yes".to_owned());
    }
    option(format!("ConnectTimeout={}", decided.connect_seconds));
    option(format!("ServerAliveInterval={KEEPALIVE_SECONDS}"));
    option(format!("ServerAliveCountMax={KEEPALIVES}"));
    words.extend(["--".to_owned(), request.address.to_owned()]);
    Program::new(words, Ends::AsSsh).of_user(decided.user).with_client(ClientOptions {
        for_all: for_all(asks, decided),
        user_config,
        secrets: asks.then(|| {
            let names = [decided.hostname, decided.alias.unwrap_or(decided.hostname)];
            Secrets::new(decided.user, &names, request.password, request.passphrase)
                .asked_for_alone(!decided.by_command)
        }),
    })
}

/// What every host on the way must keep to, jump hosts too. A password is for the host itself, whose own words say so.
fn for_all(asks: bool, decided: &Decided<'_>) -> Vec<String> {
    let mut lines = host_keys(decided);
    lines.push("PasswordAuthentication no".to_owned());
    lines.push("KbdInteractiveAuthentication no".to_owned());
    if !asks {
        lines.push("BatchMode yes".to_owned());
    }
    lines
}

/// Whom to believe, in lines of ssh_config.
fn host_keys(decided: &Decided<'_>) -> Vec<String> {
    let mut lines =
        vec![format!("StrictHostKeyChecking {}", if decided.accept_new { "accept-new" } else { "yes" })];
    if !decided.known_hosts.is_empty() {
        let files: Vec<String> =
            decided.known_hosts.iter().map(|file| format!("\"{}\"", file.display())).collect();
        lines.push(format!("UserKnownHostsFile {}", files.join(" ")));
        lines.push("GlobalKnownHostsFile /dev/null".to_owned());
    }
    lines
}

/// Takes `-F` out of options, the last of which counts.
fn without_config(options: &[String]) -> (UserConfig, Vec<String>) {
    let (mut config, mut rest) = (UserConfig::Usual, Vec::new());
    let mut words = options.iter();
    while let Some(word) = words.next() {
        // A letter and its value are two words, so that no value is taken for a letter.
        let value = words.as_slice().first().filter(|_| args::has_value(word));
        if value.is_some() {
            words.next();
        }
        if word == "-F" {
            config = match value.map(String::as_str) {
                None | Some("none") => UserConfig::None,
                Some(file) => UserConfig::File(file.into()),
            };
        } else {
            rest.extend([Some(word), value].into_iter().flatten().cloned());
        }
    }
    (config, rest)
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
            alias: None,
            by_command: false,
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
    fn jump_hosts_keep_to_what_the_host_keeps_to_and_are_asked_for_no_password() {
        let files = [PathBuf::from("/known hosts")];
        let decided = Decided { known_hosts: &files, ..decided() };
        let lines = for_all(false, &decided);
        for line in [
            "StrictHostKeyChecking yes",
            "UserKnownHostsFile \"/known hosts\"",
            "PasswordAuthentication no",
            "BatchMode yes",
        ] {
            assert!(lines.iter().any(|have| have == line), "{line}: {lines:?}");
        }
    }

    #[test]
    fn the_users_configuration_is_taken_out_of_the_words() {
        let options = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let given = options(&["-F", "/a", "-o", "-F", "-4", "-F", "/b"]);
        let (config, rest) = without_config(&given);
        assert_eq!((config, rest), (UserConfig::File("/b".into()), options(&["-o", "-F", "-4"])));
        assert_eq!(without_config(&options(&["-F", "none"])).0, UserConfig::None);
        assert_eq!(without_config(&[]).0, UserConfig::Usual);
    }
}

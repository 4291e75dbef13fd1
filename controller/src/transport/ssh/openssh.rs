//! OpenSSH's client program: whatever it can do (Kerberos, security keys, PKCS#11, shared connections, any algorithm),
//! with host keys checked as strictly as by our own SSH, and no question asked at a terminal.

use std::path::PathBuf;

use crate::transport::askpass::Secrets;
use crate::transport::process::{Ends, Program};
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
    let secrets = Secrets::new(decided.user, decided.hostname, request.password, request.passphrase);
    Program::new(words, Ends::AsSsh).of_user(decided.user).asking(secrets)
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
}

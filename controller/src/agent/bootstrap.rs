//! How the agent gets onto a host: one small POSIX script that finds it by its digest or takes it
//! from stdin, then becomes it. Pure: what to send, and what the answers mean.

use std::fmt::Write as _;

use crate::inventory::BecomeMethod;

/// Most that a login shell may print before our first word (motd, .bashrc).
pub(crate) const MAX_NOISE: usize = 8 * 1024;

const SCRIPT: &str = include_str!("bootstrap.sh");

/// The script as one line without single quotes, which any login shell passes on as one word.
fn one_line() -> String {
    let lines = SCRIPT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.collect::<Vec<_>>().join(" ")
}

/// An agent binary as the script is told of it.
pub(crate) struct Offer<'a> {
    pub(crate) sha256: &'a str,
    pub(crate) size: usize,
}

/// How to become root on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BecomeBy<'a> {
    pub(crate) method: BecomeMethod,
    /// The program, where it is not the method's own name.
    pub(crate) exe: Option<&'a str>,
    pub(crate) has_password: bool,
}

/// The command for the one exec channel of a host; `first` is the word of an op that the agent begins with.
pub(crate) fn command(
    x86_64: Option<Offer<'_>>,
    aarch64: Option<Offer<'_>>,
    by: Option<BecomeBy<'_>>,
    first: Option<&str>,
) -> String {
    let mut command = format!("exec /bin/sh -c '{}' pulpcov", one_line());
    // Writing to a String cannot fail.
    for offer in [x86_64, aarch64] {
        let _ = match offer {
            Some(Offer { sha256, size }) => write!(command, " {sha256} {size}"),
            None => write!(command, " none 0"),
        };
    }
    let _ = match by {
        None => write!(command, " none none nopw"),
        Some(BecomeBy { method, exe, has_password }) => {
            let password = if has_password { "pw" } else { "nopw" };
            write!(command, " {} {} {password}", method.name(), exe.unwrap_or(method.name()))
        }
    };
    if let Some(word) = first {
        let _ = write!(command, " {word}");
    }
    command
}

/// What the script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Send the agent for this machine.
    Need(String),
    /// The agent runs from here on.
    Run,
    Error(String),
}

/// Finds the script's next word in `buffer` and takes it and all before it out.
pub(crate) fn next_handshake(buffer: &mut Vec<u8>) -> Option<Handshake> {
    const MARK: &[u8] = b"PCOV1 ";
    let start = buffer.windows(MARK.len()).position(|window| window == MARK)?;
    let end = start + buffer.get(start..)?.iter().position(|&byte| byte == b'\n')?;
    let line = String::from_utf8_lossy(buffer.get(start + MARK.len()..end)?).trim().to_owned();
    buffer.drain(..=end);
    Some(match line.split_once(' ') {
        Some(("NEED", machine)) => Handshake::Need(machine.to_owned()),
        Some(("ERR", reason)) => Handshake::Error(reason.to_owned()),
        None if line == "RUN" => Handshake::Run,
        _ => Handshake::Error(format!("unexpected answer {line:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_word_for_any_shell() {
        let script = one_line();
        assert!(!script.contains(['\'', '\n']) && script.len() < 4000, "{}", script.len());
        assert!(!script.replace("! ", "").contains('!'), "csh takes it for history: {script}");
        let offer = || Some(Offer { sha256: "ab", size: 7 });
        let by = BecomeBy { method: BecomeMethod::Sudo, exe: Some("/opt/sudo"), has_password: false };
        let sudo = command(offer(), None, Some(by), None);
        assert!(sudo.ends_with("' pulpcov ab 7 none 0 sudo /opt/sudo nopw"), "{sudo}");
        assert!(
            command(offer(), None, None, Some("7b7d")).ends_with("' pulpcov ab 7 none 0 none none nopw 7b7d")
        );
    }

    #[test]
    fn words_are_found_behind_the_noise_of_a_login_shell() {
        let mut buffer = b"Welcome!\nPCOV1 NEED x86_64\n".to_vec();
        assert_eq!(next_handshake(&mut buffer), Some(Handshake::Need("x86_64".into())));
        assert!(buffer.is_empty());
        buffer.extend(b"\x1b[0mPCOV1 RUN\n\0\0\0");
        assert_eq!(next_handshake(&mut buffer), Some(Handshake::Run));
        assert_eq!(buffer, b"\0\0\0");
        buffer = b"PCOV1 RU".to_vec();
        assert_eq!(next_handshake(&mut buffer), None);
    }
}

//! How the agent gets onto a host: one small POSIX script that finds it by its digest or takes it
//! from stdin, then becomes it. Pure: what to send, and what the answers mean.

use std::fmt::Write as _;

/// Most that a login shell may print before our first word (motd, .bashrc).
pub(crate) const MAX_NOISE: usize = 8 * 1024;

/// What sudo asks with, so that a password is sent when and only when it is asked for.
pub(crate) const SUDO_PROMPT: &str = "PCOV1-SUDO:";

/// Takes: digest and size for x86-64, digest and size for aarch64, how to become root. No single
/// quotes and no newlines, so that any login shell passes it on as one word.
const SCRIPT: &str = r#"m=$(uname -m); case $m in x86_64|amd64) h=$1 n=$2;; aarch64|arm64) h=$3 n=$4;; *) h=none;; esac; s=$5; case $h in none) echo "PCOV1 ERR there is no agent for $m"; exit 73;; esac; d=${TMPDIR:-/tmp}/.pulpcov-$(id -u); a=$d/$h; umask 077; mkdir -p "$d" && [ -O "$d" ] && [ ! -L "$d" ] || { echo "PCOV1 ERR cannot use $d"; exit 71; }; k() { [ -f "$1" ] && c=$(sha256sum <"$1") && [ "${c%% *}" = "$h" ]; }; if ! k "$a"; then echo "PCOV1 NEED $m"; t=$d/t$$; trap "rm -f \"$t\"" 0; head -c "$n" >"$t" && k "$t" && chmod 700 "$t" && mv -f "$t" "$a" || { echo "PCOV1 ERR the agent did not arrive whole in $d"; exit 72; }; trap - 0; fi; echo "PCOV1 RUN"; case $s in none) exec "$a" serve;; nopw) exec sudo -n "$a" serve;; pw) exec sudo -S -p PCOV1-SUDO: "$a" serve;; esac"#;

/// An agent binary as the script is told of it.
pub(crate) struct Offer<'a> {
    pub(crate) sha256: &'a str,
    pub(crate) size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BecomeBy {
    Nothing,
    SudoWithoutPassword,
    SudoWithPassword,
}

/// The command for the one exec channel of a host.
pub(crate) fn command(x86_64: Option<Offer<'_>>, aarch64: Option<Offer<'_>>, by: BecomeBy) -> String {
    let mut command = format!("exec /bin/sh -c '{SCRIPT}' pulpcov");
    for offer in [x86_64, aarch64] {
        // Writing to a String cannot fail.
        let _ = match offer {
            Some(Offer { sha256, size }) => write!(command, " {sha256} {size}"),
            None => write!(command, " none 0"),
        };
    }
    command.push_str(match by {
        BecomeBy::Nothing => " none",
        BecomeBy::SudoWithoutPassword => " nopw",
        BecomeBy::SudoWithPassword => " pw",
    });
    command
}

/// What the script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Send the agent for this machine.
    Need(String),
    /// The agent runs from here on.
    Run,
    Error(String),
}

/// Finds the script's next word in `buffer` and takes it and all before it out.
pub(crate) fn next_word(buffer: &mut Vec<u8>) -> Option<Word> {
    const MARK: &[u8] = b"PCOV1 ";
    let start = buffer.windows(MARK.len()).position(|window| window == MARK)?;
    let end = start + buffer.get(start..)?.iter().position(|&byte| byte == b'\n')?;
    let line = String::from_utf8_lossy(buffer.get(start + MARK.len()..end)?).trim().to_owned();
    buffer.drain(..=end);
    Some(match line.split_once(' ') {
        Some(("NEED", machine)) => Word::Need(machine.to_owned()),
        Some(("ERR", reason)) => Word::Error(reason.to_owned()),
        None if line == "RUN" => Word::Run,
        _ => Word::Error(format!("unexpected answer {line:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_word_for_any_shell() {
        assert!(!SCRIPT.contains(['\'', '\n']));
        let command = command(Some(Offer { sha256: "ab", size: 7 }), None, BecomeBy::SudoWithoutPassword);
        assert!(command.ends_with("' pulpcov ab 7 none 0 nopw"), "{command}");
    }

    #[test]
    fn words_are_found_behind_the_noise_of_a_login_shell() {
        let mut buffer = b"Welcome!\nPCOV1 NEED x86_64\n".to_vec();
        assert_eq!(next_word(&mut buffer), Some(Word::Need("x86_64".into())));
        assert!(buffer.is_empty());
        buffer.extend(b"\x1b[0mPCOV1 RUN\n\0\0\0");
        assert_eq!(next_word(&mut buffer), Some(Word::Run));
        assert_eq!(buffer, b"\0\0\0");
        buffer = b"PCOV1 RU".to_vec();
        assert_eq!(next_word(&mut buffer), None);
    }
}

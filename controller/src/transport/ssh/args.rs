//! ssh's own arguments, as inventories have them: those that say where to and as whom go to `ssh -G`,
//! those that change nothing here are passed over, all others are refused by name. Pure.

use crate::inventory::source::shell_words::{self, WordsError};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error(transparent)]
    Words(#[from] WordsError),
    #[error("{0} has no value")]
    NoValue(String),
    #[error("{0} is no option of ssh that is followed here")]
    Refused(String),
    #[error("{0} would take any host for the right one; host keys are always checked")]
    Unchecked(String),
}

impl ArgsError {
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Unchecked(_) => {
                "use --host-key accept-new: a new host's key is kept, a changed one refused"
            }
            _ => "leave it out",
        }
    }
}

/// Options that decide where to connect to, as whom, and whom to believe.
const FOLLOWED: &[&str] = &[
    "addressfamily",
    "certificatefile",
    "globalknownhostsfile",
    "hashknownhosts",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "kbdinteractiveauthentication",
    "challengeresponseauthentication",
    "passwordauthentication",
    "port",
    "preferredauthentications",
    "proxycommand",
    "proxyjump",
    "pubkeyauthentication",
    "user",
    "userknownhostsfile",
];

/// Options about terminals, forwardings, logs, time limits and shared connections: nothing of that is
/// theirs to say here, or nothing would be different.
const HARMLESS: &[&str] = &[
    "addkeystoagent",
    "batchmode",
    "checkhostip",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "escapechar",
    "exitonforwardfailure",
    "forwardagent",
    "forwardx11",
    "forwardx11trusted",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "ipqos",
    "loglevel",
    "numberofpasswordprompts",
    "permitlocalcommand",
    "requesttty",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "setenv",
    "tcpkeepalive",
    "updatehostkeys",
    "visualhostkey",
];

/// Options that list algorithms: one that only adds to the list refuses nobody that we would take.
const ALGORITHMS: &[&str] = &[
    "ciphers",
    "hostkeyalgorithms",
    "kexalgorithms",
    "macs",
    "pubkeyacceptedalgorithms",
    "pubkeyacceptedkeytypes",
];

/// The words of `text` that `ssh -G` is to be given.
pub(crate) fn accept(text: &str) -> Result<Vec<String>, ArgsError> {
    let mut accepted = Vec::new();
    let mut words = shell_words::split(text, false)?.into_iter();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            return Err(ArgsError::Refused(word));
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            match letter {
                'q' | 'v' | 'C' | 'T' | 'a' | 'A' | 'x' | 'n' => {}
                '4' | '6' => accepted.push(format!("-{letter}")),
                'o' | 'J' | 'p' | 'l' | 'i' | 'F' | 'S' => {
                    let value = value_of(letter, &mut letters, &mut words)?;
                    accept_value(letter, value, &mut accepted)?;
                }
                _ => return Err(ArgsError::Refused(format!("-{letter}"))),
            }
        }
    }
    Ok(accepted)
}

/// Options that would make another thing of ssh than a command with stdin and stdout.
const OTHER_USES: &[&str] = &[
    "dynamicforward",
    "forkafterauthentication",
    "localforward",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "sessiontype",
    "stdinnull",
    "tunnel",
];

/// Letters of OpenSSH's client that a value comes behind.
const WITH_VALUE: &str = "BbcEeFIiJlmoPpS";

/// Whether a value comes behind an accepted word.
pub(super) fn has_value(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next() == Some('-')
        && chars.next().is_some_and(|letter| WITH_VALUE.contains(letter))
        && chars.next().is_none()
}

/// The words of `text` that OpenSSH's client is to be given: all but those that make another thing of it, or that
/// would take any host for the right one.
pub(crate) fn accept_for_openssh(text: &str) -> Result<Vec<String>, ArgsError> {
    let mut accepted = Vec::new();
    let mut words = shell_words::split(text, false)?.into_iter();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            return Err(ArgsError::Refused(word));
        };
        let mut letters = rest.chars();
        while let Some(letter) = letters.next() {
            match letter {
                // Nobody looks at a terminal there, and stdin is ours.
                'T' | 'n' | 't' => {}
                '4' | '6' | 'A' | 'a' | 'C' | 'K' | 'k' | 'M' | 'q' | 'v' | 'X' | 'x' | 'Y' | 'y' => {
                    accepted.push(format!("-{letter}"));
                }
                _ if WITH_VALUE.contains(letter) => {
                    let value = value_of(letter, &mut letters, &mut words)?;
                    if letter == 'o' {
                        check_for_openssh(&value)?;
                    }
                    accepted.extend([format!("-{letter}"), value]);
                }
                _ => return Err(ArgsError::Refused(format!("-{letter}"))),
            }
        }
    }
    Ok(accepted)
}

fn check_for_openssh(option: &str) -> Result<(), ArgsError> {
    let (name, key, value) = parts_of(option)?;
    if key == "stricthostkeychecking" && is_unchecked(value) {
        return Err(ArgsError::Unchecked(format!("{name}={value}")));
    }
    if OTHER_USES.contains(&key.as_str()) { Err(ArgsError::Refused(name.to_owned())) } else { Ok(()) }
}

fn is_unchecked(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "no" | "off" | "false")
}

/// The name of an `-o` option, the same in small letters, and its value.
fn parts_of(option: &str) -> Result<(&str, String, &str), ArgsError> {
    let end = option.find(|c: char| c == '=' || c.is_whitespace());
    let (name, value) = option.split_at(end.unwrap_or(option.len()));
    let value = value.trim_matches(|c: char| c == '=' || c == '"' || c.is_whitespace());
    if value.is_empty() {
        return Err(ArgsError::NoValue(name.to_owned()));
    }
    Ok((name, name.to_ascii_lowercase(), value))
}

/// What is left of a word behind an option's letter, else the next word.
fn value_of(
    letter: char,
    letters: &mut std::str::Chars<'_>,
    words: &mut impl Iterator<Item = String>,
) -> Result<String, ArgsError> {
    let rest: String = letters.by_ref().collect();
    let value = if rest.is_empty() { words.next() } else { Some(rest) };
    value.ok_or_else(|| ArgsError::NoValue(format!("-{letter}")))
}

fn accept_value(letter: char, value: String, accepted: &mut Vec<String>) -> Result<(), ArgsError> {
    match letter {
        // The place of a control socket.
        'S' => Ok(()),
        'o' => {
            if is_followed(&value)? {
                accepted.extend(["-o".to_owned(), value]);
            }
            Ok(())
        }
        _ => {
            accepted.extend([format!("-{letter}"), value]);
            Ok(())
        }
    }
}

/// Whether an option of `-o` goes to `ssh -G`; it is passed over otherwise.
fn is_followed(option: &str) -> Result<bool, ArgsError> {
    let (name, key, value) = parts_of(option)?;
    if key == "stricthostkeychecking" {
        return if is_unchecked(value) {
            Err(ArgsError::Unchecked(format!("{name}={value}")))
        } else {
            Ok(true)
        };
    }
    if ALGORITHMS.contains(&key.as_str()) && value.starts_with('+') {
        return Ok(false);
    }
    if FOLLOWED.contains(&key.as_str()) {
        return Ok(true);
    }
    if HARMLESS.contains(&key.as_str()) { Ok(false) } else { Err(ArgsError::Refused(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<String, ArgsError> {
        accept(text).map(|words| words.join("|"))
    }

    #[test]
    fn what_matters_is_passed_on_and_what_does_not_is_passed_over() {
        assert_eq!(
            words(r#"-C -o ControlMaster=auto -o ControlPersist=60s -o ProxyCommand="ssh -W %h:%p -q gate""#),
            Ok("-o|ProxyCommand=ssh -W %h:%p -q gate".into())
        );
        assert_eq!(words("-J a,b -qTp2222 -oUser=x -6"), Ok("-J|a,b|-p|2222|-o|User=x|-6".into()));
        assert_eq!(words("-o 'HostKeyAlgorithms +ssh-rsa' -S none"), Ok(String::new()));
        assert_eq!(words("-o StrictHostKeyChecking=accept-new").map(|words| words.len()), Ok(35));
    }

    #[test]
    fn openssh_is_given_all_that_leaves_it_what_it_is() {
        let words = |text: &str| accept_for_openssh(text).map(|words| words.join("|"));
        assert_eq!(
            words("-tt -o ControlMaster=auto -I/usr/lib/p11.so -o Ciphers=3des-cbc -K"),
            Ok("-o|ControlMaster=auto|-I|/usr/lib/p11.so|-o|Ciphers=3des-cbc|-K".into())
        );
        for (text, named) in [
            ("-o StrictHostKeyChecking=off", "StrictHostKeyChecking=off"),
            ("-o RemoteCommand=x", "RemoteCommand"),
            ("-oLocalForward=\"1 a:2\"", "LocalForward"),
            ("-W a:1", "-W"),
            ("-fN", "-f"),
            ("other-host", "other-host"),
            ("-I", "-I"),
        ] {
            let error = words(text).expect_err(text).to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        for (text, named) in [
            ("-o StrictHostKeyChecking=no", "StrictHostKeyChecking=no"),
            ("-o Ciphers=3des-cbc", "Ciphers"),
            ("-o RemoteCommand=x", "RemoteCommand"),
            ("-L 1:a:2", "-L"),
            ("-tt", "-t"),
            ("host", "host"),
            ("-o", "-o"),
            ("-o User=", "User"),
            ("-o 'User=a", "quotation"),
        ] {
            let error = words(text).expect_err(text).to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}

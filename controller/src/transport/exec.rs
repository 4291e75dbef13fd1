//! Any command that carries stdin and stdout to a host: `pulpcov_exec`.

use crate::transport::ResolveError;
use crate::transport::process::{Ends, Program};

/// Stands for the host's name or address.
const HOST: &str = "{host}";

/// Stands for the shell command, as one word. Without it, `/bin/sh -c` and the command come behind the other words.
const COMMAND: &str = "{command}";

/// The program that `words` make for a host.
pub(super) fn program(words: &[String], address: &str) -> Result<Program, ResolveError> {
    let Some(first) = words.first().filter(|first| !first.is_empty() && *first != COMMAND) else {
        return Err(ResolveError::Exec("it names no program".to_owned()));
    };
    if first.contains(HOST) {
        return Err(ResolveError::Exec(format!("the program {first:?} depends on the host")));
    }
    let Some((last, before)) = words.split_last() else {
        return Err(ResolveError::Exec("it is empty".to_owned()));
    };
    if before.iter().any(|word| word.contains(COMMAND)) || (last.contains(COMMAND) && last != COMMAND) {
        return Err(ResolveError::Exec(format!("{COMMAND} is not the last word")));
    }
    let is_whole = last == COMMAND;
    let mut all: Vec<String> = words.iter().map(|word| word.replace(HOST, address)).collect();
    if is_whole {
        all.pop();
    } else {
        all.extend(["/bin/sh", "-c"].map(str::to_owned));
    }
    Ok(Program::new(all, Ends::BeforeTheHost))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Vec<String>, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        program(&words, "web1").map(|program| program.words().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_host_and_the_command_go_where_they_are_wanted() {
        assert_eq!(
            words(&["podman", "exec", "-i", "{host}"]).expect("fine").join(" "),
            "podman exec -i web1 /bin/sh -c"
        );
        assert_eq!(words(&["ssh", "a@{host}", "{command}"]).expect("fine").join(" "), "ssh a@web1");
    }

    #[test]
    fn what_names_no_program_is_refused() {
        for bad in
            [&[][..], &[""], &["{command}"], &["{host}", "x"], &["a", "{command}", "b"], &["a", "x{command}"]]
        {
            assert!(words(bad).is_err(), "{bad:?}");
        }
    }
}

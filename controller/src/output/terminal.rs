//! The one place that writes to stdout and stderr: a reader that has left is no error there, and nowhere else.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use pulpcov_coverage::render::names::{acts_on_screen, write_json};

/// Writes to stdout. A reader that has left has what it wanted; what the command came to is told all the same.
pub(crate) fn print(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match render(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}

/// A line of JSON. Reader and terminal are never in danger of it, whatever a host says.
pub(crate) fn json_line(value: &impl serde::Serialize, out: &mut dyn Write) -> std::io::Result<()> {
    write_json(value, out)?;
    out.write_all(b"\n")
}

/// Why stdout did not take what was told.
static LOST: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Writes to stdout what nobody has to read: the exit code says how it went, also to a reader that has left. What is lost
/// in another way is told at the end, by [`lost`].
pub(crate) fn tell(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut out = std::io::stdout().lock();
    match render(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        _ => {}
    }
}

/// What went wrong first with what was told, but for a reader that has left.
pub(crate) fn lost() -> Option<std::io::Error> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The same on stderr.
pub(crate) fn say_all(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let _ = render(&mut std::io::stderr().lock());
}

/// A line on stderr, which nobody has to read.
pub(crate) fn say(line: &str) {
    say_all(|err| writeln!(err, "{line}"));
}

/// A host's words on our terminal: no control characters, not without end.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if acts_on_screen(c) { ' ' } else { c }).take(1000).collect()
}

/// Asks a person for a secret; `None` where nobody can be asked.
pub(crate) fn ask(prompt: &str) -> Option<String> {
    std::io::stdin().is_terminal().then(|| rpassword::prompt_password(prompt).ok()).flatten()
}

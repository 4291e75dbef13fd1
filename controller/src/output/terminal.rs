//! What goes to stdout and stderr as it is: a reader that has left is no error there, and nowhere else.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use pulpcov_coverage::render::names::write_json;

/// Writes to stdout. A reader that has left has what it wanted; what the command came to is told all the same.
pub(crate) fn print(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match render(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// A line of JSON. Reader and terminal are never in danger of it, whatever a host says.
pub(crate) fn json_line(value: &impl serde::Serialize, out: &mut dyn Write) -> std::io::Result<()> {
    write_json(value, out)?;
    out.write_all(b"\n")
}

/// A line on stderr, which nobody has to read.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

//! A file for each host with all that was heard of it: steps, warnings, how it ended.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::output::event::Event;
use crate::output::progress::lines;
use crate::output::terminal::printable;

/// A folder of such files.
pub(crate) struct LogDir {
    folder: PathBuf,
    command: &'static str,
}

impl LogDir {
    pub(crate) fn at(folder: &Path) -> std::io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), command: "" })
    }

    /// Notes an event. What cannot be written is worth a word, and no more: the run goes on.
    pub(super) fn note(&mut self, event: &Event) -> std::io::Result<()> {
        let (host, words) = match event {
            Event::Started { command, .. } => {
                self.command = command;
                return Ok(());
            }
            Event::HostStarted { host } => (Some(host), format!("{} begins", self.command)),
            Event::Step { host, step } => (Some(host), printable(step)),
            Event::Warning { host, text } => (host.as_ref(), format!("warning: {}", printable(text))),
            Event::HostFinished { host, hint, .. } => {
                let hint = hint.as_ref().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
                let end = lines::text(event).unwrap_or_default();
                let end = end.strip_prefix(&format!("{host}: ")).unwrap_or(&end).to_owned();
                (Some(host), format!("{} {end}{hint}", self.command))
            }
        };
        // Host names are plain file names: the inventory saw to it.
        let name = host.map_or("all.log".to_owned(), |host| format!("{host}.log"));
        let mut options = fs_err::OpenOptions::new();
        let mut file = options.create(true).append(true).open(self.folder.join(name))?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        file.write_all(format!("{now} {words}\n").as_bytes())
    }
}

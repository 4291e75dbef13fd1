//! `pulpcov completions SHELL`

use anyhow::Result;
use clap_complete::Shell;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to complete for
    shell: Shell,
}

/// `command` is the whole command line.
pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pulpcov", &mut text);
    crate::output::terminal::print(|out| out.write_all(&text))?;
    Ok(Exit::Ok)
}

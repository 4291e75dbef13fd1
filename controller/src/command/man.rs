//! `pulpcov man`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_mangen::Man;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder that gets a page for each command; the main page goes to stdout without it
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// `command` is the whole command line.
pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<Exit> {
    if let Some(folder) = &args.folder {
        fs_err::create_dir_all(folder)?;
        // Pages of subcommands want their full names.
        command.build();
        pages(&command, "pulpcov", folder)?;
    } else {
        let mut text = Vec::new();
        Man::new(command).render(&mut text)?;
        crate::output::terminal::print(|out| out.write_all(&text))?;
    }
    Ok(Exit::Ok)
}

/// A page for a command and for each below it: `pulpcov-fleet-install.1`.
fn pages(command: &clap::Command, name: &str, folder: &std::path::Path) -> Result<()> {
    let mut text = Vec::new();
    Man::new(command.clone().display_name(name.to_owned())).render(&mut text)?;
    let path = folder.join(format!("{name}.1"));
    crate::output::file::write_output(&path, &text)
        .with_context(|| format!("cannot write {}", path.display()))?;
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        pages(inner, &format!("{name}-{}", inner.get_name()), folder)?;
    }
    Ok(())
}

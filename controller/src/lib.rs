//! pulpcov: code coverage of long-running Python services on many real hosts.

mod agent;
mod cli;
mod command;
mod demo;
mod exit;
mod fleet;
// In tests, too, that it goes on to compile.
#[cfg(any(fuzzing, test))]
pub mod fuzz;
mod inventory;
mod output;
mod profile;
mod report;
mod run;
mod transport;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pulpcov_protocol::text::error_chain;

use crate::cli::{Cli, Command, Fleet, Wheelhouse};
use crate::exit::{Exit, Usage};
use crate::output::terminal;
use crate::transport::askpass;

/// The program.
pub fn main() -> ExitCode {
    if askpass::is_helper() {
        return answer_ssh(askpass::help(std::env::args_os()));
    }
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("PULPCOV_LOG").unwrap_or_default())
        .init();
    match run(cli.command) {
        Ok(exit) => match terminal::lost() {
            None => exit.into(),
            // Who reads the lines depends on them.
            Some(error) => {
                let failure = complain(&anyhow::Error::new(error).context("cannot write to stdout"));
                if exit.is_well() { failure } else { exit.into() }
            }
        },
        Err(error) => complain(&error),
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(dispatch(command))
}

/// Does what the words of a command line say: the demo runs what real hosts run.
fn run_words(words: Vec<String>) -> demo::run::Running {
    Box::pin(async move { dispatch(Cli::try_parse_from(words)?.command).await })
}

async fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Bake(args) => command::bake::run(args).await,
        Command::Combine(args) => command::combine::run(&args),
        Command::Report(args) => command::report::run(&args),
        Command::Diff(args) => command::diff::run(&args),
        Command::Trend(args) => command::trend::run(&args),
        Command::Wheelhouse(Wheelhouse::Sync(args)) => command::wheelhouse::run(&args),
        Command::Completions(args) => command::completions::run(&args, Cli::command()),
        Command::Man(args) => command::man::run(&args, Cli::command()),
        Command::Demo(args) => demo::run::run(args, run_words).await,
        Command::Fleet(fleet) => match fleet {
            Fleet::Run(args) => Box::pin(command::run::run(args)).await,
            Fleet::Install(args) => command::install::run(args).await,
            Fleet::Status(args) => command::status::run(args).await,
            Fleet::Collect(args) => command::collect::run(args).await,
            Fleet::Report(args) => command::fleet_report::run(args).await,
            Fleet::Services(args) => command::services::run(args).await,
            Fleet::Reset(args) => command::reset::run(args).await,
            Fleet::Doctor(args) => command::doctor::run(args).await,
            Fleet::Inventory(args) => command::inventory::run(&args),
            Fleet::Uninstall(args) => command::uninstall::run(args).await,
        },
    }
}

/// What ssh's helper does: a word on stdout, or nothing and a failure.
fn answer_ssh(answer: std::io::Result<Option<String>>) -> ExitCode {
    match answer {
        Ok(Some(answer)) if terminal::print(|out| writeln!(out, "{answer}")).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            terminal::say(&format!("error: ssh's question reached nobody: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// `error:`, and `hint:` where there is one.
fn complain(error: &anyhow::Error) -> ExitCode {
    let usage = error.downcast_ref::<Usage>();
    terminal::say(&format!("error: {}", terminal::printable(&error_chain(error.as_ref()))));
    if let Some(hint) = usage.and_then(|usage| usage.hint.as_ref()) {
        terminal::say(&format!("hint: {hint}"));
    }
    ExitCode::from(if usage.is_some() { 2 } else { 1 })
}

//! `pulpcov fleet status`

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use pulpcov_protocol::manifest::ProcessState;
use pulpcov_protocol::op::{Op, Status};
use pulpcov_protocol::outcome::{Detail, StatusDetail};
use serde_json::json;

use crate::agent::client::AgentError;
use crate::command::args::FleetArgs;
use crate::exit::Exit;
use crate::fleet::fan_out::JobResult;
use crate::fleet::outcome::Recap;
use crate::fleet::targets::{Targets, exit_of};
use crate::output::event::HostResult;
use crate::output::progress::Mode;
use crate::output::terminal::{self, json_line, printable};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Write one JSON object to stdout instead of the table
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let targets = Targets::new(args.fleet.targets()?, "status").await?;
    let mode = targets.mode;
    let recap = targets
        .run(|access, host, reporter| async move {
            let op = Op::Status(Status { lib_root: host.lib_root() });
            let outcome = access.ask_once(&host, &op, &reporter).await?;
            let Detail::Status(data) = outcome.pulpcov else {
                return Err(AgentError::Unexpected("status without its details".to_owned()));
            };
            Ok(JobResult { verdict: HostResult::Ok, msg: outcome.msg, warnings: outcome.warnings, data })
        })
        .await?;
    if args.json {
        terminal::tell(|out| json_line(&to_json(&recap), out));
    } else if mode != Mode::JsonLines {
        terminal::tell(|out| write_table(&recap, out));
    }
    Ok(exit_of(&recap))
}

fn to_json(recap: &Recap<StatusDetail>) -> serde_json::Value {
    let hosts: serde_json::Map<String, serde_json::Value> = recap
        .0
        .iter()
        .map(|(host, status)| {
            (host.clone(), json!({"result": status.verdict, "msg": status.msg, "status": status.data}))
        })
        .collect();
    json!({"hosts": hosts})
}

fn write_table(recap: &Recap<StatusDetail>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut rows = vec![["HOST", "PID", "ROLE", "UNIT", "LABEL", "STATE", "NOTE"].map(str::to_owned)];
    for (host, status) in &recap.0 {
        let Some(detail) = &status.data else { continue };
        let live: BTreeSet<(u32, u64)> = detail
            .processes
            .iter()
            .filter(|process| process.state == ProcessState::Live)
            .map(|process| (process.pid, process.start_ticks))
            .collect();
        // A process that was reset has ended one generation and lives in the next: that one is shown.
        let shown = detail.processes.iter().filter(|process| {
            process.state == ProcessState::Live || !live.contains(&(process.pid, process.start_ticks))
        });
        for process in shown {
            let state = match process.state {
                ProcessState::Live if process.error.is_some() => "cannot write",
                ProcessState::Live => "recording",
                ProcessState::Elsewhere => "elsewhere",
                ProcessState::Ended => "ended",
                ProcessState::Died => "died",
            };
            let note = match (&process.error, process.last_flush) {
                (Some(error), _) => printable(error),
                (None, _) if process.state == ProcessState::Elsewhere => {
                    format!("of {}, which has the same data folder", printable(&process.hostname))
                }
                (None, None) => match process.state {
                    ProcessState::Live => {
                        "has written nothing yet: idle, or its label is younger than an interval"
                    }
                    ProcessState::Elsewhere => "",
                    ProcessState::Ended => "has written nothing: it ran none of the packages",
                    ProcessState::Died => "has written nothing: what it ran is lost",
                }
                .to_owned(),
                (None, Some(_)) => String::new(),
            };
            let unit = process.unit.clone().unwrap_or_default();
            rows.push([
                host.clone(),
                process.pid.to_string(),
                printable(&process.role),
                printable(&unit),
                printable(&process.label),
                state.to_owned(),
                note,
            ]);
        }
        for process in &detail.unrecorded {
            rows.push([
                host.clone(),
                process.pid.to_string(),
                String::new(),
                printable(&process.unit),
                String::new(),
                "not recorded".to_owned(),
                printable(&process.reason),
            ]);
        }
    }
    if rows.len() == 1 {
        return Ok(());
    }
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

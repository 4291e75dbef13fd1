//! `pulpcov fleet collect`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::Source;
use pulpcov_protocol::op::{Bundle, Collect, Op, Part, Want};
use pulpcov_protocol::outcome::{CollectDetail, Detail};
use pulpcov_protocol::text::{counted, error_chain};

use crate::agent::client::{AgentError, Progressing, RemoteAgent};
use crate::command::args::{FleetArgs, seconds};
use crate::exit::{Exit, usage};
use crate::fleet::fan_out::{Access, JobResult, Reporter};
use crate::fleet::fetch_once::FetchOnce;
use crate::fleet::outcome::Recap;
use crate::fleet::targets::{OwnInventory, Targets, exit_of, troubles};
use crate::inventory::Host;
use crate::output::event::HostResult;
use crate::output::jsonl::{self, Line};
use crate::output::terminal;
use crate::run::bundle::{BundleRequest, PlacedBundle, Spool};
use crate::run::dir::RunDir;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Run directory; one that exists is added to [default: runs/TIME, and runs/latest points at it]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Seconds to wait for live processes to flush
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) flush_timeout: f64,
    /// Leave the data on the hosts
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Most bundles that one collect takes of one host: two million data files.
const MAX_ROUNDS: u32 = 100;

/// What of hosts is collected, and what becomes of it there.
#[derive(Debug, Clone)]
pub(super) struct CollectOptions {
    pub(super) flush_timeout: f64,
    /// Leave the data on the hosts.
    pub(super) keep: bool,
    pub(super) part: Part,
    /// Hosts whose recording ends with this.
    pub(super) finish: BTreeSet<String>,
}

struct Plan {
    run: RunDir,
    fetch_once: FetchOnce,
    options: CollectOptions,
    inventory: OwnInventory,
}

/// What a host's collect brought.
pub(super) struct Brought {
    /// Data files there that are not of the part that was asked for.
    pub(super) others: u64,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let jsonl = args.fleet.jsonl;
    let (exit, run) = collect(args).await?;
    let path = run.path.display().to_string();
    if jsonl {
        jsonl::write(&Line::Run { path: &path });
    } else {
        terminal::tell(|out| writeln!(out, "{path}"));
    }
    Ok(exit)
}

/// Collects, and says how it went and where it lies.
pub(crate) async fn collect(args: Args) -> Result<(Exit, RunDir)> {
    let targets = Targets::new(args.fleet.targets()?, "collect").await?;
    let options = CollectOptions {
        flush_timeout: args.flush_timeout,
        keep: args.keep,
        part: Part::All,
        finish: BTreeSet::new(),
    };
    let (recap, run) = collect_all(targets, args.output.as_deref(), options).await?;
    Ok((exit_of(&recap), run))
}

/// Collects of all hosts into the run directory at `output`, or a new one.
pub(super) async fn collect_all(
    targets: Targets,
    output: Option<&Path>,
    options: CollectOptions,
) -> Result<(Recap<Brought>, RunDir)> {
    let inventory = targets.own_inventory()?;
    // What was missing then belongs to what was there.
    let earlier = targets.rerun.as_ref().and_then(|last| Some(last.run.clone()?.0));
    let run = place(output.or(earlier.as_deref()))?;
    let own_place = output.is_some();
    let groups = targets.groups.clone();
    let fetch_once = FetchOnce::new().context("there is no randomness")?;
    let damaged = already_here(&run, &fetch_once)?;
    let targets = targets.warn(damaged);
    let plan = Arc::new(Plan { run: run.clone(), fetch_once, options, inventory });
    let recap = targets
        .run_into(Some(&run.path), move |access, host, reporter| {
            let plan = Arc::clone(&plan);
            async move {
                // Whatever it reserves and does not bring, others may bring.
                let _guard = plan.fetch_once.guard(&host.name);
                collect_one(&access, &host, &reporter, &plan).await
            }
        })
        .await?;
    run.note(troubles(&recap), groups).context("cannot note how the hosts went")?;
    if !own_place && recap.0.values().any(|status| !status.verdict.is_bad()) {
        run.becomes_latest();
    }
    Ok((recap, run))
}

/// The run directory at `output`, or a new one. Where there can be none, nothing was done.
pub(super) fn place(output: Option<&Path>) -> Result<RunDir> {
    match output {
        Some(path) => RunDir::at(path),
        None => RunDir::new_in(Path::new("runs")),
    }
    .map_err(usage)
}

/// Sources and analyses that earlier bundles of the run hold are not fetched again. What a damaged one held is
/// not here; that is a warning.
fn already_here(run: &RunDir, fetch_once: &FetchOnce) -> Result<Vec<String>> {
    let mut damaged = Vec::new();
    for bundle in run.bundles()? {
        match crate::run::bundle_reader::check_bundle(&bundle) {
            Ok(manifest) => {
                fetch_once.keep(&manifest.host, manifest.entries.into_iter().map(|entry| entry.path));
            }
            Err(error) => damaged.push(format!(
                "{} of this run is left out: {}; its sources are fetched again",
                bundle.display(),
                error_chain(&error)
            )),
        }
    }
    Ok(damaged)
}

async fn collect_one(
    access: &Access,
    host: &Host,
    reporter: &Reporter,
    plan: &Plan,
) -> Result<JobResult<Brought>, AgentError> {
    let lib_root = host.lib_root();
    let options = &plan.options;
    let list = |flush_timeout, after| {
        Op::Collect(Collect {
            lib_root: lib_root.clone(),
            flush_timeout,
            after,
            part: options.part.clone(),
            finish: options.finish.contains(&host.name),
            check: false,
            fleet: Some(plan.inventory.fleet_of(host)),
        })
    };
    let (mut agent, mut outcome) =
        access.ask(host, &list(Some(options.flush_timeout), None), reporter).await?;
    let begin = Instant::now();
    let (mut files, mut bytes, mut erased) = (0, 0, 0);
    let mut warnings = Vec::new();
    let mut rounds = 1;
    let (processes, others) = loop {
        let Detail::Collect(listed) = outcome.pulpcov else {
            return Err(AgentError::Unexpected("collect without its details".to_owned()));
        };
        warnings.extend(
            outcome.warnings.into_iter().filter(|warning| !warnings.contains(warning)).collect::<Vec<_>>(),
        );
        let bundle = fetch(&mut agent, host, reporter, plan, &listed).await?;
        // Data that nobody can analyse would be as good as lost: it stays on the host until its sources
        // and analyses are here too, whoever brings them.
        settle(&mut agent, host, reporter, plan, &listed.sources).await?;
        files += listed.data_files;
        bytes += listed.data_bytes;
        if !options.keep {
            erased += erase(&mut agent, &lib_root, reporter, &bundle).await?;
        }
        if listed.remaining == 0 || listed.last.is_none() {
            break (listed.processes, listed.others);
        }
        // Rounds have the time of one op, all together: who always has more is never done.
        let limit = access.limits.op;
        if begin.elapsed() > limit {
            return Err(AgentError::OpTimeout(limit.as_secs()));
        }
        rounds += 1;
        if rounds > MAX_ROUNDS {
            return Err(AgentError::Unexpected(format!(
                "list of data files that has no end after {MAX_ROUNDS} rounds"
            )));
        }
        // Only the first round flushes: the later ones fetch what did not fit.
        outcome = agent.call(&list(None, listed.last), reporter).await?;
    };
    agent.close().await;
    let (files_word, processes) = (counted(files, "data file"), counted(processes, "process"));
    let msg = format!("{files_word} ({}) of {processes}, {erased} erased there", size_text(bytes));
    Ok(JobResult { verdict: HostResult::of(files > 0), msg, warnings, data: Brought { others } })
}

/// Fetches the listed data, and those sources and analyses that no other host is bringing.
async fn fetch(
    agent: &mut RemoteAgent,
    host: &Host,
    reporter: &Reporter,
    plan: &Plan,
    listed: &CollectDetail,
) -> Result<PlacedBundle, AgentError> {
    let all = keys_of(&listed.sources);
    let mut keys = plan.fetch_once.reserve(&host.name, all.iter().cloned());
    keys.extend(plan.fetch_once.check(&host.name, &all));
    let asked = BundleRequest { keys: &keys, data_files: listed.data_files, sources: &listed.sources };
    fetch_bundle(agent, host, reporter, plan, &asked, false).await
}

/// Brings what hosts had reserved that then failed.
async fn settle(
    agent: &mut RemoteAgent,
    host: &Host,
    reporter: &Reporter,
    plan: &Plan,
    sources: &[Source],
) -> Result<(), AgentError> {
    let all = keys_of(sources);
    loop {
        let mine = agent.hold(plan.fetch_once.wait(&host.name, &all)).await?;
        if mine.is_empty() {
            return Ok(());
        }
        let asked = BundleRequest { keys: &mine, data_files: 0, sources };
        fetch_bundle(agent, host, reporter, plan, &asked, true).await?;
    }
}

/// Spools, verifies, names. Only after this returns may anything be erased on the host.
async fn fetch_bundle(
    agent: &mut RemoteAgent,
    host: &Host,
    reporter: &Reporter,
    plan: &Plan,
    asked: &BundleRequest<'_>,
    without_data: bool,
) -> Result<PlacedBundle, AgentError> {
    let folder = plan
        .run
        .host_folder(&host.name)
        .map_err(|error| AgentError::Failed { msg: error.to_string(), hint: None })?;
    let mut spool = Spool::new(&folder)?;
    let op = Op::Bundle(Bundle { host: host.name.clone(), want: want(asked.keys), without_data });
    agent.fetch(&op, reporter, &mut |bytes| tokio::task::block_in_place(|| spool.write(bytes))).await?;
    reporter.step("verifying");
    let (name, keys, sources) = (host.name.clone(), asked.keys.to_vec(), asked.sources.to_vec());
    let data_files = asked.data_files;
    // That may take minutes, in which the agent is not to think that it was forgotten.
    let placing = tokio::task::spawn_blocking(move || {
        let verified = spool.verify(&name, &BundleRequest { keys: &keys, data_files, sources: &sources })?;
        tracing::debug!(host = %name, bytes = verified.bytes, "bundle verified");
        verified.place(&folder)
    });
    let placed = agent.hold(placing).await?;
    let bundle = placed
        .map_err(|error| AgentError::Unexpected(format!("bundle that nobody could read: {error}")))??;
    plan.fetch_once.keep(&host.name, bundle.entries().cloned());
    Ok(bundle)
}

/// Erases on the host what now lies here, each file named by its digest.
async fn erase(
    agent: &mut RemoteAgent,
    lib_root: &str,
    reporter: &Reporter,
    bundle: &PlacedBundle,
) -> Result<u64, AgentError> {
    let outcome = agent.call(&bundle.collected().erase(lib_root), reporter).await?;
    match outcome.pulpcov {
        Detail::Erase(detail) => Ok(detail.erased.len() as u64),
        _ => Err(AgentError::Unexpected("erase without its details".to_owned())),
    }
}

/// What a host's data needs besides itself, as paths of bundle entries.
fn keys_of(sources: &[Source]) -> Vec<String> {
    let mut keys: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            [EntryPath::Source(source.sha256.clone()), EntryPath::Analysis(source.analysis.clone())]
        })
        .map(|path| path.to_string())
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn want(keys: &[String]) -> Want {
    let (mut sources, mut analyses) = (Vec::new(), Vec::new());
    for key in keys {
        match EntryPath::parse(key) {
            Ok(EntryPath::Source(sha256)) => sources.push(sha256),
            Ok(EntryPath::Analysis(key)) => analyses.push(key),
            _ => {}
        }
    }
    Want::Only { sources, analyses }
}

fn size_text(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes = bytes as f64;
    if bytes < 1e6 { format!("{:.0} kB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
}

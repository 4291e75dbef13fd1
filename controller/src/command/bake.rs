//! `pulpcov bake IMAGE`: the hook for containers that are made anew, as a layer and as volumes.
//!
//! It is installed in a container that is there for this alone, with the same proof as on any host, and what that made is
//! taken out of it.

mod tree;
mod words;

use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use pulpcov_protocol::op::{
    Commands, DEFAULT_DATA_ROOT, DEFAULT_LIB_ROOT, Export, Install, Op, Probe, Wheel,
};
use pulpcov_protocol::outcome::Detail;
use pulpcov_protocol::profile::Profile;
use pulpcov_protocol::text::counted;

use self::tree::Tree;
use self::words::Baked;
use crate::agent::binary::AgentBinaries;
use crate::agent::bootstrap;
use crate::agent::client::{AgentError, Provisions, RemoteAgent};
use crate::exit::{Exit, usage, usage_hint};
use crate::inventory::Engine;
use crate::output::terminal::{self, printable};
use crate::profile::load;
use crate::profile::wheelhouse::Wheelhouse;
use crate::run::bundle::BundleError;
use crate::transport::{Channel, Limits};

/// Largest tree that is taken: coverage.py for each Python has some megabytes.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Longest wait for a container that has to be pulled, and for what is done in it.
const LIMITS: Limits = Limits {
    connect: Duration::from_mins(10),
    auth: Duration::from_secs(30),
    idle: Duration::from_mins(2),
    op: Duration::from_mins(30),
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image whose Python the hook is for
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Folder for what is made, which must not be there yet
    #[arg(short, long, value_name = "DIR", default_value = "pulpcov-bake")]
    output: PathBuf,
    /// Engine that has the image
    #[arg(long, value_name = "ENGINE", value_enum, default_value = "podman")]
    engine: Runs,
    /// Profile of the service: a built-in name or a YAML file
    #[arg(long, value_name = "NAME", default_value = load::DEFAULT)]
    profile: String,
    /// Python in the image, where the programs that the profile names do not show it (can be repeated)
    #[arg(long = "python", value_name = "PATH")]
    pythons: Vec<String>,
    /// Folder with wheels of coverage, where the container has no package index; `pulpcov wheelhouse sync` fills it
    #[arg(long, value_name = "DIR")]
    wheelhouse: Option<PathBuf>,
    /// Where the hook lies in the container
    #[arg(long, value_name = "PATH", default_value = DEFAULT_LIB_ROOT)]
    lib_root: String,
    /// Where processes write what they record: a volume that they can write to
    #[arg(long, value_name = "PATH", default_value = DEFAULT_DATA_ROOT)]
    data_root: String,
    /// Service of a compose file, or container of a pod, that gets the hook (can be repeated) [default: pulp]
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
    /// Folder with the agents, instead of the one that came with pulpcov
    #[arg(long, value_name = "DIR", env = "PULPCOV_AGENT_DIR")]
    agent_dir: Option<PathBuf>,
}

/// Engines that have images.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Runs {
    Podman,
    Docker,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    if args.output.symlink_metadata().is_ok() {
        return Err(usage_hint(
            anyhow::anyhow!("{} is there already", args.output.display()),
            "name another folder with --output, or remove it",
        ));
    }
    if args.image.is_empty() || args.image.starts_with('-') {
        return Err(usage(anyhow::anyhow!("{:?} is no name of an image", args.image)));
    }
    let profile = load::named(&args.profile, &std::env::current_dir()?).map_err(usage)?;
    let wheelhouse = args.wheelhouse.as_deref().map(Wheelhouse::open).transpose().map_err(usage)?;
    let agents = AgentBinaries::find(args.agent_dir.as_deref()).map_err(usage)?;
    let mut layer = tempfile::tempfile().context("no temporary file")?;
    let installed = match install(&args, &profile, wheelhouse.as_ref(), &agents, &mut layer).await {
        Ok(installed) => installed,
        Err(error) => {
            terminal::say(&format!("error: {}: {}", printable(&args.image), printable(&error.to_string())));
            if let Some(hint) = error.hint() {
                terminal::say(&format!("hint: {}", printable(&hint)));
            }
            return Ok(Exit::HostsFailed);
        }
    };
    layer.rewind()?;
    let tree = Tree::read(&mut layer, &args.lib_root, &args.data_root)
        .with_context(|| format!("what the container of {} sent is not taken", args.image))?;
    let services = if args.services.is_empty() { vec!["pulp".to_owned()] } else { args.services };
    let output = std::path::absolute(&args.output)?;
    let baked = Baked {
        image: &args.image,
        lib_root: &args.lib_root,
        data_root: &args.data_root,
        services: &services,
        output: &output,
    };
    tree.write(&args.output, &baked.files(&tree))
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    terminal::say(&format!("{}: {installed}, {}", printable(&args.image), counted(tree.files(), "file")));
    terminal::print(|out| out.write_all(baked.next_steps().as_bytes()))?;
    Ok(Exit::Ok)
}

/// Installs in a container of the image, and takes out what that made; tells for which Pythons.
async fn install(
    args: &Args,
    profile: &Profile,
    wheelhouse: Option<&Wheelhouse>,
    agents: &AgentBinaries,
    layer: &mut std::fs::File,
) -> Result<String, AgentError> {
    let command = bootstrap::command(
        agents.x86_64.as_ref().map(crate::agent::binary::AgentBinary::offer),
        agents.aarch64.as_ref().map(crate::agent::binary::AgentBinary::offer),
        None,
        None,
    );
    let engine = match args.engine {
        Runs::Podman => Engine::Podman,
        Runs::Docker => Engine::Docker,
    };
    let channel = Channel::of_image(engine, &args.image, LIMITS, &command)?;
    let provisions = Provisions { agents, user: "root", r#become: None, become_password: None };
    let mut agent = RemoteAgent::start(channel, &provisions).await?;
    let step = |text: &str| terminal::say(&printable(text));
    let mut op = install_op(args, profile);
    let mut streams = Vec::new();
    if let Some(wheelhouse) = wheelhouse {
        for (wheel, bytes) in wheels(&mut agent, &op, wheelhouse).await? {
            op.wheels.push(wheel);
            streams.push(bytes);
        }
    }
    let outcome = agent.call_with(&Op::Install(Box::new(op)), &streams, &step).await?;
    let Detail::Install(detail) = outcome.pulpcov else {
        return Err(AgentError::Unexpected("install without its detail".to_owned()));
    };
    let mut taken = 0;
    let mut sink = |bytes: &[u8]| {
        taken += bytes.len() as u64;
        if taken > MAX_BYTES {
            let what = format!("more than {taken} bytes");
            return Err(BundleError::Limit { what, limit: MAX_BYTES });
        }
        layer.write_all(bytes).map_err(BundleError::Store)
    };
    let export = Op::Export(Export { lib_root: args.lib_root.clone() });
    agent.fetch(&export, &step, &mut sink).await?;
    agent.close().await;
    for warning in outcome.warnings {
        terminal::say(&format!("warning: {}", printable(&warning)));
    }
    let pythons: Vec<String> = detail
        .interpreters
        .iter()
        .map(|python| format!("{} (Python {}, coverage {})", python.path, python.version, python.coverage))
        .collect();
    Ok(printable(&pythons.join(", ")))
}

fn install_op(args: &Args, profile: &Profile) -> Install {
    Install {
        lib_root: args.lib_root.clone(),
        data_root: Some(args.data_root.clone()),
        profile: profile.clone(),
        interpreters: args.pythons.clone(),
        host_label: None,
        wheels: Vec::new(),
        wheelhouse: None,
        offered: Vec::new(),
        restart: false,
        commands: Commands::default(),
        restarted: None,
        label: None,
        run: None,
        force: false,
        check: false,
        diff: false,
        fleet: None,
        take_over: false,
        bake: true,
    }
}

async fn wheels(
    agent: &mut RemoteAgent,
    op: &Install,
    wheelhouse: &Wheelhouse,
) -> Result<Vec<(Wheel, Vec<u8>)>, AgentError> {
    let probe = Probe {
        lib_root: op.lib_root.clone(),
        units: Vec::new(),
        interpreters: op.interpreters.clone(),
        profile: Some(op.profile.clone()),
        programs: true,
    };
    let outcome = agent.call(&Op::Probe(probe), &|_: &str| {}).await?;
    let Detail::Probe(found) = outcome.pulpcov else {
        return Err(AgentError::Unexpected("probe without interpreters".to_owned()));
    };
    wheelhouse
        .for_host(&found.interpreters)
        .map_err(|error| AgentError::Failed { msg: error.to_string(), hint: None })
}

//! A real Pulp 3: pulpcore with its file plugin, a database, Apache and redis, in a layer over the hosts'
//! root image; and the hosts of a lab as nodes of one Pulp.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::lab::{Lab, Options};
use crate::{base, image, programs, python, pythons};

/// The host of the API and of the content app.
pub const FRONT: usize = 1;
/// A worker of the venv layout.
pub const WORKER_VENV: usize = 2;
/// A worker of the RPM layout: system Python, wrapper, and a sandbox.
pub const WORKER_RPM: usize = 3;
pub const DATABASE: usize = 4;

pub(crate) fn files() -> PathBuf {
    programs::workspace().join("tests/support/pulp")
}

/// The layer's folder over the root image; built once, in about two minutes.
pub fn layer() -> Result<PathBuf> {
    let base = base::ensure()?;
    let mut recipe = vec![base.as_os_str().as_encoded_bytes().to_vec()];
    recipe.extend(contents(&files())?);
    let image = image::ensure_built("pulp", &recipe, |building| build(&base, building))?;
    Ok(image.join("u"))
}

/// The layers of a Pulp that runs under a Python with a live map, but for the worker of the RPM layout; nothing where this
/// machine has no such Python.
pub fn live_layers() -> Result<Option<Vec<PathBuf>>> {
    let Some(python) = python::of_version(pythons::BUILT) else { return Ok(None) };
    let below = layer()?;
    let recipe = [&below, &python].map(|path| path.as_os_str().as_encoded_bytes().to_vec());
    let script = fs_err::read_to_string(files().join("build-layer.sh"))?;
    let requirement = |name: &str| {
        let version = script.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        version.map(|version| format!("{name}=={version}")).with_context(|| format!("no version of {name}"))
    };
    let (pulpcore, coverage) = (requirement("pulpcore")?, requirement("coverage")?);
    let recipe = [&recipe[..], &[include_bytes!("pythons.rs").to_vec()]].concat();
    let above = image::ensure_built("live-pulp", &recipe, |layer| {
        pythons::put_venv(&python, layer, Path::new("usr/local/lib/pulp"), &[&pulpcore])?;
        // Beside what the peer has for the other Python: the same version, with a tracer for this one.
        pythons::pip(&python, &layer.join("opt/plain-coverage"), &[&coverage])
    })?;
    Ok(Some(vec![above, below]))
}

/// Every file below a folder, in the order of the names: what the layer is made of.
pub(crate) fn contents(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(contents(&path)?);
        } else {
            all.push(fs_err::read(path)?);
        }
    }
    Ok(all)
}

fn build(base: &Path, building: &Path) -> Result<()> {
    // Its mounts end with it, whatever happens.
    image::run(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "bash"])
            .arg(files().join("build-layer.sh"))
            .args([base, building])
            .arg(files()),
    )
}

/// Four hosts, with the database and all services running.
pub fn start() -> Lab {
    start_on(hosts(4))
}

/// The same under a Python with a live map; nothing where this machine has none.
pub fn start_live() -> Option<Lab> {
    let layers = live_layers().transpose()?;
    Some(start_on(hosts_over(4, layers)))
}

fn start_on(mut lab: Lab) -> Lab {
    lab.shell(DATABASE, "systemctl start postgresql");
    lab.shell(DATABASE, "install -d -o pulp -g pulp /shared/media /shared/fixture");
    place_units(&lab);
    for (host, units) in SERVICES {
        lab.shell(host, &format!("systemctl daemon-reload; systemctl enable --now {units}"));
    }
    wait_until_online(&mut lab);
    lab
}

/// Hosts with Pulp's layer, and nothing of it running.
pub fn hosts(n: usize) -> Lab {
    hosts_over(n, layer().map(|layer| vec![layer]))
}

fn hosts_over(n: usize, layers: Result<Vec<PathBuf>>) -> Lab {
    let layers = layers.unwrap_or_else(|error| panic!("no Pulp for the hosts: {error:#}"));
    Lab::start_with(n, &Options { layers, shared: true, ..Options::default() })
}

/// What runs where.
pub const SERVICES: [(usize, &str); 3] = [
    (FRONT, "pulpcore-api pulpcore-content"),
    (WORKER_VENV, "pulpcore-worker@1"),
    (WORKER_RPM, "pulpcore-worker@2"),
];

/// Each host gets the units that such a host has.
fn place_units(lab: &Lab) {
    lab.shell(
        FRONT,
        "cp /opt/units/pulpcore-api.service /opt/units/pulpcore-content.service /etc/systemd/system/",
    );
    lab.shell(WORKER_VENV, "cp /opt/units/pulpcore-worker@.service /etc/systemd/system/");
    lab.shell(
        WORKER_RPM,
        "cp /opt/units/pulpcore-worker-rpm@.service /etc/systemd/system/pulpcore-worker@.service; \
         mv /usr/local/lib/pulp/bin /usr/local/lib/pulp/not-here; \
         mount --bind /opt/rpm-layout/site-packages /usr/local/lib/python3.11/dist-packages",
    );
}

/// Two processes of each kind say that they are there. Rows of processes that were killed are removed first:
/// they would be counted until they time out.
pub fn wait_until_online(lab: &mut Lab) {
    lab.shell(DATABASE, "su postgres -c \"psql -q pulp -c 'delete from core_appstatus where last_heartbeat < now() - interval '\\''20 seconds'\\'''\" || true");
    lab.wait("Pulp to be online", |lab| {
        let script = "curl -sf -m 5 http://10.77.0.2:24817/pulp/api/v3/status/ | \
            jq -r '[(.online_workers|length),(.online_api_apps|length),(.online_content_apps|length)]|map(tostring)|join(\" \")'";
        let output = lab.on(FRONT, &["sh", "-c", script]);
        let counts: Vec<u32> = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        counts.len() == 3 && counts.iter().all(|&count| count >= 2)
    });
}

/// Restarts every service by systemd alone.
pub fn restart(lab: &Lab) {
    for (host, units) in SERVICES {
        lab.shell(host, &format!("systemctl restart {units}"));
    }
}

/// Repositories, syncs, uploads, publications, downloads.
pub fn exercise(lab: &Lab, rounds: u32) {
    lab.shell(FRONT, &format!("/opt/exercise.sh {rounds}"));
}

/// An inventory of the three hosts that run Pulp's code, with the profile that is built in.
pub fn inventory(lab: &Lab) -> String {
    lab.write_inventory(
        "all:\n  vars: {pulpcov_profile: pulp3}\n  children:\n    front:\n      hosts: {h1: {}}\n    workers:\n      hosts: {h2: {}, h3: {}}\n",
    )
}

//! Units whose service runs in a container of podman's: systemd's generator makes them of `.container` files (quadlets), and
//! makes the container anew at each start.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::host::systemd::{self, Unit};
use crate::host::{child, fs};

/// The engine, as the hosts of quadlets have it.
pub(crate) const ENGINE: &str = "podman";

/// Where the drop-ins of a host's administrator belong, whoever brought the `.container` file.
pub(crate) const FOLDER: &str = "/etc/containers/systemd";

/// The property of a unit that names the file it was made of.
pub(crate) const SOURCE: &str = "SourcePath";

/// Properties by which containers are found.
pub(crate) const PROPERTIES: [&str; 4] = [SOURCE, "FragmentPath", "ExecStart", "ControlGroup"];

/// What helps where one install cannot do for all units.
pub(crate) const ONE_EACH: &str = "make a host of each in the inventory, with its own pulpcov_units, pulpcov_lib_root and pulpcov_data_root";

/// The name of a drop-in of ours.
pub(crate) const DROP_IN: &str = "90-pulpcov.conf";

/// Largest unit that is read.
const MAX_UNIT: u64 = 256 * 1024;

/// The containers of the service's units, all of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Containers {
    /// The id of the image.
    pub(crate) image: String,
    /// The name that its units have for it.
    pub(crate) reference: String,
    /// Of each unit: its name, and the `.container` file it was made of.
    pub(crate) units: Vec<(String, PathBuf)>,
}

/// Whether a unit that was asked for [`SOURCE`] is a container's.
pub(crate) fn is_container(unit: &Unit) -> bool {
    Path::new(unit.property(SOURCE)).extension().is_some_and(|end| end == "container")
}

/// The containers among units; `None` where there are none.
pub(crate) fn containers(patterns: &[String]) -> Result<Option<Containers>, Failure> {
    if !systemd::is_here() || patterns.is_empty() {
        return Ok(None);
    }
    of_units(&systemd::units(patterns, &PROPERTIES)?)
}

/// The same of units that were asked for [`PROPERTIES`].
pub(crate) fn of_units(units: &[Unit]) -> Result<Option<Containers>, Failure> {
    let mut found: Option<(String, &str)> = None;
    let mut all = Vec::new();
    for unit in units.iter().filter(|unit| is_container(unit)) {
        let reference = image_of(unit)?;
        match &found {
            Some((known, of)) if *known != reference => {
                return Err(Failure::new(format!(
                    "{of} runs the image {known}, and {} runs {reference}: one install is for one image",
                    unit.name
                ))
                .hint(ONE_EACH));
            }
            Some(_) => {}
            None => found = Some((reference, &unit.name)),
        }
        all.push((unit.name.clone(), PathBuf::from(unit.property(SOURCE))));
    }
    let Some((reference, unit)) = found else { return Ok(None) };
    let image = image_id(&reference).map_err(|failure| {
        Failure::new(format!("the image {reference} of {unit} cannot be looked at: {}", failure.msg))
            .hint(format!("start {unit}, or fetch its image: podman pull {reference}"))
    })?;
    Ok(Some(Containers { image, reference, units: all }))
}

fn image_id(reference: &str) -> Result<String, Failure> {
    let mut command = Command::new(ENGINE);
    command.args(["image", "inspect", "--format", "{{.Id}}", "--", reference]);
    let answer = child::run_engine(&mut command, b"")?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// The name of the image that a unit runs: its generator notes what it read. Where that names another unit, which fetches
/// or builds it, that one tells.
fn image_of(unit: &Unit) -> Result<String, Failure> {
    let named = noted(&unit_text(unit.property("FragmentPath")), "X-Container", "Image");
    let named = named.ok_or_else(|| Failure::new(format!("{} names no image", unit.name)))?;
    let (stem, section) = match named.rsplit_once('.') {
        Some((stem, "image")) => (format!("{stem}-image"), "X-Image"),
        Some((stem, "build")) => (format!("{stem}-build"), "X-Build"),
        _ => return Ok(named),
    };
    let maker = systemd::properties(&format!("{stem}.service"), &["FragmentPath"])?;
    let text = unit_text(maker.get("FragmentPath").map_or("", String::as_str));
    noted(&text, section, "ImageTag")
        .or_else(|| noted(&text, section, "Image"))
        .ok_or_else(|| Failure::new(format!("{} runs the image of {named}, which names none", unit.name)))
}

fn unit_text(path: &str) -> String {
    let bytes = fs::read_limited(Path::new(path), MAX_UNIT).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last value of a key in a section of a unit's text.
fn noted(text: &str, section: &str, key: &str) -> Option<String> {
    let mut now = "";
    let mut value = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            now = name;
        } else if now == section
            && let Some((name, rest)) = line.split_once('=')
            && name.trim() == key
        {
            value = Some(rest.trim().to_owned());
        }
    }
    value.filter(|value| !value.is_empty())
}

/// Where the drop-in of a `.container` file goes. Instances of a template share one, also those to come.
pub(crate) fn drop_in(source: &Path) -> PathBuf {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let of = match name.split_once('@') {
        Some((template, _)) => format!("{template}@.container"),
        None => name.into_owned(),
    };
    Path::new(FOLDER).join(format!("{of}.d")).join(DROP_IN)
}

/// A drop-in that has a container see files of the host, each under a name, and its unit's name. `%n` is systemd's.
pub(crate) fn drop_in_text(volumes: &[(PathBuf, PathBuf, bool)]) -> String {
    let mut text = "# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n[Container]\n".to_owned();
    for (path, name, is_writable) in volumes {
        let mode = if *is_writable { "" } else { ":ro" };
        text.push_str(&format!("Volume={}:{}{mode}\n", path.display(), name.display()));
    }
    text.push_str("Environment=PULPCOV_UNIT=%n\n");
    text
}

/// Whether a path can stand in a drop-in as it is.
pub(crate) fn is_plain(path: &Path) -> bool {
    path.to_string_lossy().chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-+".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_the_drop_in_of_their_template() {
        for (source, wanted) in [
            ("/etc/containers/systemd/pulp-worker@1.container", "pulp-worker@.container.d"),
            ("/usr/share/containers/systemd/pulp-api.container", "pulp-api.container.d"),
        ] {
            let wanted = Path::new(FOLDER).join(wanted).join("90-pulpcov.conf");
            assert_eq!(drop_in(Path::new(source)), wanted);
        }
    }

    #[test]
    fn the_last_value_of_the_right_section_counts() {
        let text =
            "[X-Other]\nImage=no\n[X-Container]\nImage=first\nImage = localhost/shop\n[Service]\nImage=no\n";
        assert_eq!(noted(text, "X-Container", "Image").as_deref(), Some("localhost/shop"));
        assert_eq!(noted(text, "X-Container", "Exec"), None);
        assert_eq!(noted("[X-Container]\nImage=a\nImage=\n", "X-Container", "Image"), None);
    }

    #[test]
    fn a_drop_in_mounts_what_it_names() {
        let volumes = [("/a".into(), "/b".into(), false), ("/data".into(), "/data".into(), true)];
        let text = drop_in_text(&volumes);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["[Container]", "Volume=/a:/b:ro", "Volume=/data:/data", "Environment=PULPCOV_UNIT=%n"]
        );
        assert!(is_plain(Path::new("/usr/local/lib/pulpcov")) && !is_plain(Path::new("/a:b")));
        assert!(!is_plain(Path::new("/a b")) && !is_plain(Path::new("/50%")));
    }
}

//! Units whose service runs in a container of podman's: systemd's generator makes them of `.container` files (quadlets), and
//! makes the container anew at each start.

use std::path::{Path, PathBuf};
use std::process::Command;

use pulpcov_protocol::text::wildcard;

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

/// Whether an image is on this host.
pub(crate) fn has_image(image: &str) -> bool {
    let mut command = Command::new(ENGINE);
    command.args(["image", "exists", "--", image]);
    child::run_engine(&mut command, b"").is_ok()
}

/// What it means that the units run another image than the one that was installed for; nothing where they do not.
pub(crate) fn replaced_image(patterns: &[String], installed: &str) -> Option<String> {
    let now = containers(patterns).ok()??;
    (now.image != installed).then(|| {
        format!(
            "{} is another image by now than the one for which the hook is installed: what starts of it may not be \
             recorded, and what ran of the old one may have no source; collect, and install again",
            now.reference
        )
    })
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
    let named = named.ok_or_else(|| {
        Failure::new(format!("{} runs no image, and nothing else can be recorded in a container", unit.name))
            .hint("name the other units in pulpcov_units")
    })?;
    if named.contains('%') {
        return expanded(&named, unit.property("ExecStart")).ok_or_else(|| {
            Failure::new(format!("{} runs {named}, which stands in its command line otherwise", unit.name))
        });
    }
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

/// The word of a command line that a name with systemd's specifiers has become.
fn expanded(named: &str, command_line: &str) -> Option<String> {
    let mut pattern = String::new();
    let mut letters = named.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => {
                letters.next();
                pattern.push('*');
            }
            letter => pattern.push(letter),
        }
    }
    let mut words = command_line.split_whitespace().filter(|word| wildcard(&pattern, word));
    words.next().map(str::to_owned)
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

/// What a container is to see of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    /// Under which name.
    pub(crate) name: PathBuf,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file that is only read.
    File,
    /// A folder that is only read.
    Folder,
    /// A folder in which everybody may write.
    Data,
}

/// A drop-in by which a container sees them, and knows its unit's name (`%n` is systemd's). What somebody has removed of
/// them is made again, empty: the service starts all the same.
pub(crate) fn drop_in_text(volumes: &[Volume]) -> String {
    let mut text = "# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n[Container]\n".to_owned();
    for Volume { path, name, kind } in volumes {
        let mode = if *kind == Kind::Data { "" } else { ":ro" };
        text.push_str(&format!("Volume={}:{}{mode}\n", path.display(), name.display()));
    }
    text.push_str("Environment=PULPCOV_UNIT=%n\n\n[Service]\n");
    for Volume { path, kind, .. } in volumes {
        let path = path.display();
        let make = match kind {
            Kind::File => format!("test -e {path} || install -D -m 644 /dev/null {path}"),
            Kind::Folder => format!("test -e {path} || install -d -m 755 {path}"),
            Kind::Data => format!("test -e {path} || install -d -m 1777 {path}"),
        };
        text.push_str(&format!("ExecStartPre=-/bin/sh -c \"{make}\"\n"));
    }
    text
}

/// Those that a container does not see by its own unit, of which a drop-in of ours may be a part: that one's text is
/// `before`. Where the unit has something else under the name of one, that fails.
pub(crate) fn missing(volumes: &[Volume], command_line: &str, before: &str) -> Result<Vec<Volume>, Failure> {
    let mounts = mounts(command_line);
    let mut missing = Vec::new();
    for volume in volumes {
        let (path, name) = (volume.path.to_string_lossy(), volume.name.to_string_lossy());
        let ours = usize::from(before.contains(&format!("Volume={path}:{name}")));
        let theirs: Vec<_> = mounts.iter().filter(|mount| mount.name == name).skip(ours).collect();
        match theirs.as_slice() {
            [] => missing.push(volume.clone()),
            [mount] if mount.path == path && (mount.is_writable || volume.kind != Kind::Data) => {}
            _ => {
                return Err(Failure::new(format!("has a volume of its own at {name}"))
                    .hint("set pulpcov_data_root or pulpcov_lib_root to another folder"));
            }
        }
    }
    Ok(missing)
}

/// A volume on podman's command line.
struct Mount<'a> {
    path: &'a str,
    name: &'a str,
    is_writable: bool,
}

fn mounts(command_line: &str) -> Vec<Mount<'_>> {
    let mut mounts = Vec::new();
    let mut words = command_line.split_whitespace();
    while let Some(word) = words.next() {
        let value = match word {
            "-v" | "--volume" | "--mount" => words.next(),
            word => word.strip_prefix("--volume=").or_else(|| word.strip_prefix("--mount=")),
        };
        let Some(value) = value else { continue };
        if value.starts_with('/') {
            let mut parts = value.split(':');
            let (path, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let is_writable = parts.next().is_none_or(|options| options.split(',').all(|one| one != "ro"));
            mounts.push(Mount { path, name, is_writable });
        } else if let Some(name) = value.split(',').find_map(|part| {
            let (key, value) = part.split_once('=')?;
            ["destination", "dst", "target"].contains(&key).then_some(value)
        }) {
            mounts.push(Mount { path: "", name, is_writable: false });
        } else if let Some((path, rest)) = value.split_once(':') {
            // A volume by its name.
            mounts.push(Mount { path, name: rest.split(':').next().unwrap_or_default(), is_writable: true });
        }
    }
    mounts
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
    fn a_name_with_specifiers_is_found_where_it_was_expanded() {
        let line =
            "{ path=/usr/bin/podman ; argv[]=/usr/bin/podman run --name x localhost/shop:h1 gunicorn ; }";
        assert_eq!(expanded("localhost/shop:%H", line).as_deref(), Some("localhost/shop:h1"));
        assert_eq!(expanded("localhost/other:%H", line), None);
    }

    #[test]
    fn what_a_unit_mounts_itself_is_not_mounted_twice() {
        let data = Volume { path: "/srv/d".into(), name: "/srv/d".into(), kind: Kind::Data };
        let volumes = std::slice::from_ref(&data);
        let missing = |line: &str, before: &str| missing(volumes, line, before).map(|missing| missing.len());
        assert_eq!(missing("podman run -v /var/lib:/var/lib:z shop", "").ok(), Some(1));
        assert_eq!(missing("podman run -v /srv/d:/srv/d:rprivate,z shop", "").ok(), Some(0));
        // By our own drop-in.
        assert_eq!(missing("podman run -v /srv/d:/srv/d shop", "Volume=/srv/d:/srv/d\n").ok(), Some(1));
        for other in
            ["-v /srv/d:/srv/d:ro", "-v /x:/srv/d", "--volume=name:/srv/d", "--mount type=tmpfs,dst=/srv/d"]
        {
            assert!(missing(&format!("podman run {other} shop"), "").is_err(), "{other}");
        }
    }

    #[test]
    fn a_drop_in_mounts_what_it_names() {
        let volume = |path: &str, name: &str, kind| Volume { path: path.into(), name: name.into(), kind };
        let volumes = [volume("/a", "/b", Kind::File), volume("/data", "/data", Kind::Data)];
        let text = drop_in_text(&volumes);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "[Container]",
                "Volume=/a:/b:ro",
                "Volume=/data:/data",
                "Environment=PULPCOV_UNIT=%n",
                "",
                "[Service]",
                "ExecStartPre=-/bin/sh -c \"test -e /a || install -D -m 644 /dev/null /a\"",
                "ExecStartPre=-/bin/sh -c \"test -e /data || install -d -m 1777 /data\"",
            ]
        );
        assert!(is_plain(Path::new("/usr/local/lib/pulpcov")) && !is_plain(Path::new("/a:b")));
        assert!(!is_plain(Path::new("/a b")) && !is_plain(Path::new("/50%")));
    }
}

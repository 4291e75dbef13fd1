//! The Pythons of a host: which ones, what they are, how to run one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::profile::is_python_name;
use pulpcov_protocol::text::unhex;
use pulpcov_protocol::wheel::pinned_coverage;

use crate::failure::Failure;
use crate::host::identity::{self, Identity};
use crate::host::python::Start;
use crate::host::{facts, fs, owners};

/// Prints what the agent must know, as JSON. `-I`: nothing of the working directory or the user's
/// site is imported; the paths it tells are the same without.
const FACTS: &str = r#"
import json, os, platform, site, sys, sysconfig
v = sys.version_info
cp = "cp%d%d" % v[:2]
abi = cp + ("m" if v < (3, 8) else "")
purelib = sysconfig.get_path("purelib")
if purelib not in sys.path:
    purelib = next((p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")), purelib)
own = site.getusersitepackages() if sys.prefix == sys.base_prefix else None
machine = platform.machine()
try:
    major, minor = [int(n) for n in os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")[:2]]
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    platforms = []
    for n in range(minor, 4, -1):
        platforms.append("manylinux_%d_%d_%s" % (major, n, machine))
        if n in old:
            platforms.append("%s_%s" % (old[n], machine))
except (ValueError, OSError, IndexError, AttributeError):
    platforms = ["musllinux_1_%d_%s" % (n, machine) for n in (2, 1)]
print(json.dumps({"version": "%d.%d.%d" % v[:3], "major": v[0], "minor": v[1], "prefix": sys.prefix,
                  "cache_tag": sys.implementation.cache_tag, "implementation": sys.implementation.name,
                  "purelib": purelib, "user_site": own, "tags": ["-".join((cp, abi, p)) for p in platforms]}))
"#;

#[derive(serde::Deserialize)]
struct Facts {
    version: String,
    major: u32,
    minor: u32,
    prefix: String,
    cache_tag: String,
    implementation: String,
    purelib: String,
    /// Its user's own folder of packages, if it reads one.
    #[serde(default)]
    user_site: Option<String>,
    tags: Vec<String>,
}

impl Facts {
    /// Most of it becomes part of a path that root writes to.
    fn check(&self, path: &str) -> Result<(), Failure> {
        let is_word = |text: &str| {
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
            (1..=MAX_WORD).contains(&text.len()) && text.chars().all(is_plain) && !text.starts_with('.')
        };
        let is_path = |text: &str| {
            text.starts_with('/') && text.len() <= MAX_PATH && !text.chars().any(char::is_control)
        };
        let words = [&self.version, &self.cache_tag].into_iter().chain(&self.tags);
        let paths = [&self.prefix, &self.purelib].into_iter().chain(&self.user_site);
        let odd = words.filter(|text| !is_word(text)).chain(paths.filter(|text| !is_path(text))).next();
        odd.map_or(Ok(()), |text| {
            let shown: String = text.chars().take(MAX_WORD).collect();
            Err(Failure::new(format!("{path} says {shown:?} of itself, which no Python does")))
        })
    }
}

/// Longest word of what a Python says of itself, and longest path.
const MAX_WORD: usize = 100;
const MAX_PATH: usize = 4096;

/// Asks the interpreter at `path` what it is: one of the host, or of the image with that id.
pub(crate) fn inspect(path: &str, image: Option<&str>) -> Result<Interpreter, Failure> {
    if !Path::new(path).is_absolute() {
        return Err(Failure::new(format!("interpreter {path} is not an absolute path")));
    }
    let identity = identity_of(path, image)?;
    let answer = Start::at(path, image).args(&["-I", "-B", "-c", FACTS]).answer(b"")?;
    let mut facts: Facts = serde_json::from_slice(&answer)
        .map_err(|error| Failure::new(format!("{path} does not answer as a Python 3: {error}")))?;
    if facts.implementation != "cpython" {
        return Err(Failure::new(format!(
            "{path} is {}, only CPython can be recorded",
            facts.implementation
        )));
    }
    // Without a home it is relative to nothing.
    facts.user_site = facts.user_site.filter(|folder| folder.starts_with('/'));
    facts.check(path)?;
    let purelib = if identity.is_root() || image.is_some() {
        facts.purelib
    } else {
        into_text(identity::packages_folder(Path::new(path), identity.uid, &facts.purelib)?)
    };
    let purelib = facts
        .user_site
        .filter(|_| image.is_none() && !rustix::process::geteuid().is_root() && !is_writable(&purelib))
        .unwrap_or(purelib);
    let coverage = pinned_coverage(facts.major, facts.minor).ok_or_else(|| {
        Failure::new(format!("{path} is Python {}, the hook needs 3.6 or later", facts.version))
    })?;
    Ok(Interpreter {
        path: path.to_owned(),
        version: facts.version,
        cache_tag: facts.cache_tag,
        purelib,
        prefix: facts.prefix,
        coverage: coverage.to_owned(),
        coverage_present: false,
        tags: facts.tags,
        uid: identity.uid,
        image: image.map(str::to_owned),
    })
}

/// Whom an interpreter is run as. One of an image is shut in where it runs: it is nobody's but root's.
pub(crate) fn identity(python: &Interpreter) -> Result<Identity, Failure> {
    identity_of(&python.path, python.image.as_deref())
}

fn identity_of(path: &str, image: Option<&str>) -> Result<Identity, Failure> {
    if image.is_some() { Ok(Identity::own()) } else { Identity::of_interpreter(Path::new(path)) }
}

/// Whether this process could write in a folder, or make it.
fn is_writable(folder: &str) -> bool {
    let there = Path::new(folder).ancestors().find(|path| path.exists());
    there.is_some_and(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok())
}

/// `3.11` of `3.11.2`.
/// Whether it has `sys.monitoring`: 3.12 was the first.
pub(crate) fn has_monitoring(interpreter: &Interpreter) -> bool {
    let mut numbers = interpreter.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (3, 12)
}

pub(crate) fn minor_version(interpreter: &Interpreter) -> String {
    interpreter.version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// Compiles sources for an interpreter, and gives their byte code back: it has no right to write where they lie.
const COMPILE: &str = r#"
import binascii, json, os, py_compile, sys, tempfile
with tempfile.TemporaryDirectory() as folder:      # also where the disk is full
    out = os.path.join(folder, "code")
    for path in json.load(sys.stdin):
        py_compile.compile(path, cfile=out, doraise=True)
        with open(out, "rb") as f:
            print(binascii.hexlify(f.read()).decode())
        os.unlink(out)
"#;

/// The byte code of sources, in their order.
pub(crate) fn compile(python: &Interpreter, sources: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let request = serde_json::json!(sources).to_string();
    let folders = sources.iter().filter_map(|source| source.parent()).collect::<BTreeSet<_>>();
    let start = Start::of(python).args(&["-I", "-c", COMPILE]);
    let answer = folders.into_iter().fold(start, Start::sees).answer(request.as_bytes())?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let compiled: Option<Vec<Vec<u8>>> = text.lines().map(unhex).collect();
    compiled
        .filter(|compiled| compiled.len() == sources.len())
        .ok_or_else(|| Failure::new(format!("{} compiled not all of what it was asked", python.path)))
}

/// Where a Python looks for the byte code of a source.
pub(crate) fn compiled_path(python: &Interpreter, source: &Path) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let folder = source.parent().unwrap_or(Path::new("/")).join("__pycache__");
    folder.join(format!("{stem}.{}.pyc", python.cache_tag))
}

/// Deepest chain of wrappers that is followed.
const MAX_WRAPPERS: u32 = 4;

/// Most of a wrapper that is read.
const MAX_WRAPPER: u64 = 16 * 1024;

/// The interpreter behind a program of a unit: itself, what its first lines name, or, of a shell
/// wrapper, what it starts.
pub(crate) fn of_program(program: &str) -> Option<String> {
    follow(program, MAX_WRAPPERS)
}

/// The same by a program's name alone, as a shell would find it.
pub(crate) fn of_name(name: &str) -> Option<String> {
    of_program(&on_path(name, &std::env::var("PATH").unwrap_or_default())?)
}

fn follow(program: &str, depth: u32) -> Option<String> {
    let text = fs::read_head(Path::new(program), MAX_WRAPPER).ok()?;
    if text.starts_with(b"\x7fELF") {
        return is_python_name(program).then(|| program.to_owned());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    match interpreter_of_script(&text, &path)? {
        Script::Python(python) => Some(python),
        Script::Shell if depth > 0 => started_by(&text, &path_in(&text, &path))
            .into_iter()
            .filter(|started| started != program)
            .find_map(|started| follow(&started, depth - 1)),
        Script::Shell => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Script {
    Python(String),
    Shell,
}

/// Reads `#!/usr/bin/python3`, `#!/usr/bin/env python3` and pip's form for long paths
/// (`#!/bin/sh` and then `'''exec' /very/long/python ...`).
fn interpreter_of_script(text: &str, path: &str) -> Option<Script> {
    let mut lines = text.lines();
    let mut words = lines.next()?.strip_prefix("#!")?.split_whitespace();
    let program = words.next()?;
    match Path::new(program).file_name()?.to_str()? {
        "env" => {
            let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
            match name {
                "sh" | "bash" | "dash" => Some(Script::Shell),
                _ if is_python_name(name) => on_path(name, path).map(Script::Python),
                _ => None,
            }
        }
        "sh" | "bash" | "dash" => {
            let Some(second) = lines.next().and_then(|line| line.strip_prefix("'''exec'")) else {
                return Some(Script::Shell);
            };
            let second = second.trim_start();
            let python = match second.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next()?,
                None => second.split_whitespace().next()?,
            };
            Some(Script::Python(python.to_owned()))
        }
        name if is_python_name(name) => Some(Script::Python(program.to_owned())),
        _ => None,
    }
}

/// The path on which a shell wrapper finds its programs: before the usual one, the virtual environments that it
/// activates, and what it puts there itself.
fn path_in(text: &str, path: &str) -> String {
    let clean = |word: &str| word.trim_matches(['"', '\'', ';']).to_owned();
    let mut folders = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split([' ', '\t', ';', '&']).map(clean).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            if matches!(word.as_str(), "." | "source") {
                let activate = words.next().unwrap_or_default();
                folders.extend(activate.strip_suffix("/activate").map(str::to_owned));
            } else if let Some(value) = word.strip_prefix("PATH=") {
                folders.extend(value.trim_matches(['"', '\'']).split(':').map(str::to_owned));
            }
        }
    }
    let absolute = folders.into_iter().filter(|folder| folder.starts_with('/'));
    absolute.chain([path.to_owned()]).collect::<Vec<_>>().join(":")
}

/// Programs that a shell wrapper starts, the last line's first: what it `exec`s is most likely the one.
/// No shell is spoken here, only the words that are programs as they stand.
fn started_by(text: &str, path: &str) -> Vec<String> {
    let lines = text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#'));
    let lines = lines.flat_map(|line| line.split(';').flat_map(|part| part.split("&&"))).map(str::trim);
    let words = |line: &str| {
        let words = line.split_whitespace().map(|word| word.trim_matches(['"', '\'', ';']));
        words
            .filter(|word| !word.is_empty() && !word.contains(['$', '=', '`']))
            .take_while(|word| !matches!(*word, "|" | ">" | "&&" | "||"))
            .filter_map(|word| {
                if word.starts_with('/') {
                    Path::new(word).is_file().then(|| word.to_owned())
                } else {
                    (!word.contains('/')).then(|| on_path(word, path)).flatten()
                }
            })
            .collect::<Vec<_>>()
    };
    let mut execs: Vec<Vec<String>> = Vec::new();
    let mut others = Vec::new();
    for line in lines {
        match line.strip_prefix("exec ") {
            Some(rest) => execs.push(words(rest)),
            None => others.push(words(line)),
        }
    }
    execs.into_iter().rev().chain(others.into_iter().rev()).flatten().collect()
}

fn on_path(name: &str, path: &str) -> Option<String> {
    path.split(':').map(|folder| Path::new(folder).join(name)).find(|p| p.is_file()).map(into_text)
}

/// The interpreter that a process runs, by the name under which it was started: in a virtual
/// environment that is not the file behind it.
pub(crate) fn of_process(pid: u32) -> Option<String> {
    let exe = match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(exe) => exe,
        // Another user's, which not even root may look into where it may not trace.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return of_command_line(pid),
        Err(_) => return None,
    };
    // An upgrade has replaced it under the running process: the new one stands at its place.
    let exe = exe.to_str()?.strip_suffix(" (deleted)").map_or(exe.clone(), PathBuf::from);
    if !is_python_name(exe.to_str()?) {
        return None;
    }
    let first = words_of(pid)?.into_iter().next()?;
    let named = Path::new(&first);
    let is_same = named.is_absolute() && std::fs::canonicalize(named).is_ok_and(|path| path == exe);
    Some(if is_same && is_of_process(named, pid) { first } else { into_text(exe) })
}

/// The interpreter that a command line names, or the script that it runs.
fn of_command_line(pid: u32) -> Option<String> {
    let words = words_of(pid)?;
    let first = words.first()?;
    if !is_python_name(first) {
        // It has put a title there, or was started under its own name: its script says what runs it.
        let title = first.split_once(": ").map(|(name, _)| name.to_owned());
        let python = title.into_iter().chain(facts::name(pid)).find_map(|name| of_name(&name))?;
        return is_of_process(Path::new(&python), pid).then_some(python);
    }
    let script = words.iter().skip(1).find(|word| !word.starts_with('-'));
    let named = Some(first.clone()).filter(|word| word.starts_with('/'));
    let python = named
        .or_else(|| of_program(script.filter(|word| word.starts_with('/'))?))
        .or_else(|| on_path(first, &std::env::var("PATH").unwrap_or_default()))?;
    is_of_process(Path::new(&python), pid).then_some(python)
}

pub(super) fn words_of(pid: u32) -> Option<Vec<String>> {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(raw.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// Whether a name under which a process was started can be believed: its first word is its own, and a link of anybody's
/// leads to a Python.
fn is_of_process(named: &Path, pid: u32) -> bool {
    let uids = facts::uids(pid).unwrap_or_default();
    owners::walk(named).is_ok_and(|way| way.writers.iter().all(|uid| uids.contains(uid)))
}

pub(super) fn into_text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, path: &str) -> Option<String> {
        match interpreter_of_script(text, path)? {
            Script::Python(python) => Some(python),
            Script::Shell => Some("(shell)".to_owned()),
        }
    }

    #[test]
    fn what_a_python_says_is_no_way_to_another_place() {
        let facts = |version: &str, cache_tag: &str, purelib: &str, tag: &str| Facts {
            version: version.into(),
            major: 3,
            minor: 11,
            prefix: "/usr".into(),
            cache_tag: cache_tag.into(),
            implementation: "cpython".into(),
            purelib: purelib.into(),
            user_site: None,
            tags: vec![tag.into()],
        };
        let tag = "cp311-cp311-manylinux_2_17_x86_64";
        let check = |facts: Facts| facts.check("/srv/python3");
        check(facts("3.11.2", "cpython-311", "/usr/lib/python3/dist-packages", tag)).expect("honest");
        for lie in [
            facts("3.11.2", "cpython-311/../../../srv", "/usr/lib", tag),
            facts("3.11.2", "..", "/usr/lib", tag),
            facts("../../etc", "cpython-311", "/usr/lib", tag),
            facts("3.11.2", "", "/usr/lib", tag),
            facts("3.11.2", "cpython-311", "usr/lib", tag),
            facts("3.11.2", "cpython-311", "/usr/\nlib", tag),
            facts("3.11.2", "cpython-311", "/usr/lib", "../../x"),
        ] {
            assert!(check(lie).expect_err("a lie").msg.contains("which no Python does"));
        }
    }

    #[test]
    fn every_form_of_a_script_head_is_read() {
        assert_eq!(
            of("#!/opt/venv/bin/python3.11 -s\nimport x", "").as_deref(),
            Some("/opt/venv/bin/python3.11")
        );
        assert_eq!(
            of("#!/usr/bin/env -S python3\n", "/nowhere:/usr/bin"),
            of("#!/usr/bin/env python3\n", "/usr/bin")
        );
        assert_eq!(
            of("#!/bin/sh\n'''exec' \"/a b/python3\" \"$0\" \"$@\"\n' '''\n", "").as_deref(),
            Some("/a b/python3")
        );
        assert_eq!(of("#!/bin/bash\nexec foo\n", "").as_deref(), Some("(shell)"));
        let platform = "#!/usr/libexec/platform-python -s\n";
        assert_eq!(of(platform, "").as_deref(), Some("/usr/libexec/platform-python"));
        assert_eq!(of("#!/usr/bin/perl\n", ""), None);
        assert_eq!(of("", ""), None);
    }

    #[test]
    fn a_wrapper_that_activates_an_environment_runs_its_python() {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("venv/bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        let bin = bin.display();
        std::fs::write(format!("{bin}/shop-server"), format!("#!{bin}/python3\n")).expect("written");
        for start in [
            format!(". {bin}/activate\nexec shop-server --port 1"),
            format!("source \"{bin}/activate\" && exec shop-server"),
            format!("export PATH=\"{bin}:$PATH\"\nshop-server"),
        ] {
            let wrapper = folder.path().join("wrapper");
            std::fs::write(&wrapper, format!("#!/bin/bash\n{start}\n")).expect("written");
            assert_eq!(of_program(&into_text(wrapper)), Some(format!("{bin}/python3")), "{start}");
        }
    }

    /// Its owner can put anything in the place of a unit's program.
    #[test]
    fn a_pipe_is_no_program_and_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pulpcore-worker");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a pipe");
        assert_eq!(of_program(&into_text(path)), None);
    }

    #[test]
    fn a_wrapper_is_followed_to_the_python_that_it_starts() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.to_string_lossy().into_owned()
        };
        let program = file("pulpcore-worker", "#!/usr/bin/python3.11 -s\nimport sys\n");
        let katello = file("wrapper", &format!("#!/bin/bash\n\nset -e\n# run it\nexec {program} \"$@\"\n"));
        assert_eq!(of_program(&katello).as_deref(), Some("/usr/bin/python3.11"));
        let with_words = file(
            "words",
            &format!("#!/bin/sh\nif true; then\n  exec nice -n 5 \"{program}\" $OPTIONS\nfi\n"),
        );
        assert_eq!(of_program(&with_words).as_deref(), Some("/usr/bin/python3.11"));
        let endless = folder.path().join("endless").to_string_lossy().into_owned();
        assert_eq!(of_program(&file("endless", &format!("#!/bin/sh\nexec {endless}\n"))), None);
        assert_eq!(of_program(&file("other", "#!/bin/sh\nexec /bin/ls\n")), None);
    }
}

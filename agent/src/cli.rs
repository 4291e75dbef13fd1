//! The faces for people, scripts and Ansible: one op a run, one answer on stdout.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pulpcov_protocol::bundle::{EntryPath, MANIFEST, MAX_MANIFEST_BYTES};
use pulpcov_protocol::manifest::Manifest;
use pulpcov_protocol::op::{Bundle, DEFAULT_LIB_ROOT, Erase, ErasedFile, Op, Want};
use pulpcov_protocol::outcome::{Detail, Outcome};
use serde_json::{Map, Value};

use crate::failure::{During, Failure};
use crate::host::{child, facts, fs};
use crate::ops::{self, OUTBOX, OpContext};
use crate::serve;

const HELP: &str = "\
pulpcov-agent: records Python services on this host with coverage.py

Usage:
  pulpcov-agent <VERB> [--json] [--args FILE]   one op; its words as a JSON object in FILE ('-' is stdin)
  pulpcov-agent ansible FILE                    the same as an Ansible module: {\"op\": VERB, ...}
  pulpcov-agent serve [OP]                      framed ops on stdin, for the pulpcov controller

Verbs:
  probe      look at the host and its interpreters
  install    put the hook in place; needs {\"profile\": {...}}
  status     who records, who does not, and why
  flush      let every recorded process write what it has
  collect    flush, and write one bundle of all data (--bundle PATH, --host NAME)
  erase      remove data that a fetched bundle holds (--bundle PATH)
  analyse    coverage.py's analysis of {\"paths\": [...]}
  doctor     what would keep services from being measured; needs {\"profile\": {...}}
  services   {\"action\": \"start\" | \"stop\" | \"restart\"}
  reset      begin anew, under {\"label\": LABEL}
  compact    make few data files of the many of processes that are gone
  uninstall  put everything back

Options:
  --json         answer with one JSON object: changed, failed, msg, and more
  --args FILE    the op's words
  --check        tell what would be done, and do nothing
  --diff         show what becomes of each file (install, uninstall)
  --bundle PATH  where collect writes its bundle, and erase reads what it held
  --host NAME    name of this host in the bundle (its own host name otherwise)
  --lib-root DIR where pulpcov is installed (/usr/local/lib/pulpcov otherwise)
  -h, --help     this text
  -V, --version  the version

Exit codes: 0 ok, 1 failed, 2 usage.
";

/// Largest object of arguments.
const MAX_ARGS: u64 = 8 * 1024 * 1024;

const VERBS: [&str; 12] = [
    "probe",
    "install",
    "status",
    "flush",
    "collect",
    "erase",
    "analyse",
    "services",
    "reset",
    "doctor",
    "compact",
    "uninstall",
];

#[derive(Default)]
struct Words {
    verb: String,
    json: bool,
    check: bool,
    diff: bool,
    args: Option<String>,
    bundle: Option<PathBuf>,
    host: Option<String>,
    lib_root: Option<String>,
}

pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match words.first().map(String::as_str) {
        Some("-h" | "--help" | "help") => {
            say(HELP);
            ExitCode::SUCCESS
        }
        Some("-V" | "--version") => {
            say(concat!("pulpcov-agent ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Some("serve") => match serve::run(words.get(1).map(String::as_str)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                complain(&failure);
                ExitCode::FAILURE
            }
        },
        Some(child::WITH_PARENT) => {
            complain(&child::become_child(words.get(1..).unwrap_or_default()));
            ExitCode::from(127)
        }
        Some("ansible") => answer_ansible(words.get(1).map(String::as_str)),
        _ => match parse(&words) {
            Ok(words) => answer(&words),
            Err(failure) => {
                complain(&failure);
                ExitCode::from(2)
            }
        },
    }
}

fn parse(words: &[String]) -> Result<Words, Failure> {
    let usage = |msg: String| Failure::new(msg).hint("pulpcov-agent --help");
    let mut parsed = Words::default();
    let mut rest = words.iter();
    parsed.verb = rest.next().cloned().ok_or_else(|| usage("no verb".to_owned()))?;
    if !VERBS.contains(&parsed.verb.as_str()) {
        return Err(usage(format!("unknown verb {:?}", parsed.verb)));
    }
    while let Some(word) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| usage(format!("{word} wants a value")));
        match word.as_str() {
            "--json" => parsed.json = true,
            "--check" => parsed.check = true,
            "--diff" => parsed.diff = true,
            "--args" => parsed.args = Some(value()?),
            "--bundle" => parsed.bundle = Some(value()?.into()),
            "--host" => parsed.host = Some(value()?),
            "--lib-root" => parsed.lib_root = Some(value()?),
            _ => return Err(usage(format!("unknown word {word:?}"))),
        }
    }
    if parsed.bundle.is_some() && !["collect", "erase"].contains(&parsed.verb.as_str()) {
        return Err(usage(format!("--bundle does not go with {}", parsed.verb)));
    }
    Ok(parsed)
}

fn answer(words: &Words) -> ExitCode {
    let args = match &words.args {
        Some(file) => read_args(file),
        None => Ok(Map::new()),
    };
    let outcome = args
        .map(|mut args| {
            args.extend(
                words.lib_root.iter().map(|path| ("lib_root".to_owned(), Value::String(path.clone()))),
            );
            args
        })
        .and_then(|args| with_flags(args, &words.verb, words.check, words.diff))
        .and_then(|args| one(&words.verb, args, words.bundle.as_deref(), words.host.as_deref()))
        .unwrap_or_else(|failure| Outcome::failure(failure.msg, failure.hint));
    if words.json { print_json(&outcome) } else { print_text(&outcome) }
}

/// Ansible's protocol for binary modules: arguments in a file, options of its own among them.
fn answer_ansible(file: Option<&str>) -> ExitCode {
    let outcome = file
        .ok_or_else(|| Failure::new("no file of arguments"))
        .and_then(read_args)
        .and_then(|mut args| {
            let is_set = |name: &str| args.get(name) == Some(&Value::Bool(true));
            let (check, diff) = (is_set("_ansible_check_mode"), is_set("_ansible_diff"));
            args.retain(|key, _| !key.starts_with("_ansible_"));
            let Some(Value::String(verb)) = args.remove("op") else {
                return Err(Failure::new("the arguments name no op"));
            };
            args = with_flags(args, &verb, check, diff)?;
            let bundle = take_text(&mut args, "bundle")?.map(PathBuf::from);
            let host = take_text(&mut args, "host")?;
            one(&verb, args, bundle.as_deref(), host.as_deref())
        })
        .unwrap_or_else(|failure| Outcome::failure(failure.msg, failure.hint));
    print_json(&outcome)
}

/// Verbs that only look are the same in check mode.
fn with_flags(
    mut args: Map<String, Value>,
    verb: &str,
    check: bool,
    diff: bool,
) -> Result<Map<String, Value>, Failure> {
    if check && verb == "compact" {
        return Err(Failure::new("compact has no check mode").hint("leave it out of a check"));
    }
    let changes = !["probe", "status", "doctor", "analyse"].contains(&verb);
    for (flag, is_set) in
        [("check", check && changes), ("diff", diff && ["install", "uninstall"].contains(&verb))]
    {
        if is_set {
            args.insert(flag.to_owned(), Value::Bool(true));
        }
    }
    Ok(args)
}

fn take_text(args: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Failure> {
    match args.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Failure::new(format!("{key} is {other}, not a text"))),
    }
}

fn read_args(file: &str) -> Result<Map<String, Value>, Failure> {
    let mut text = Vec::new();
    if file == "-" {
        std::io::stdin().lock().take(MAX_ARGS).read_to_end(&mut text).during("read", "stdin")?;
    } else {
        // The caller's own file, a pipe as well as any other.
        fs_err::File::open(file)?.take(MAX_ARGS).read_to_end(&mut text)?;
    }
    serde_json::from_slice(&text)
        .map_err(|error| Failure::new(format!("the arguments are no JSON object: {error}")))
}

/// Does one verb with everything that belongs to it.
fn one(
    verb: &str,
    mut args: Map<String, Value>,
    bundle: Option<&Path>,
    host: Option<&str>,
) -> Result<Outcome, Failure> {
    if verb == "erase"
        && let Some(bundle) = bundle
    {
        return erase_fetched(&args, bundle);
    }
    args.insert("op".to_owned(), Value::String(verb.to_owned()));
    let op: Op = serde_json::from_value(Value::Object(args))
        .map_err(|error| Failure::new(format!("{verb}: {error}")))?;
    let quiet = |_: &str| {};
    let mut session = OpContext::new(&quiet);
    let outcome = ops::run(&op, &mut session, &mut std::io::sink())?;
    match op {
        Op::Collect(collect) if !collect.check => {
            write_bundle(&mut session, outcome, &collect.lib_root, bundle, host)
        }
        _ => Ok(outcome),
    }
}

/// Writes the bundle whole: temporary file, fsync, rename; readable by whoever called sudo.
fn write_bundle(
    session: &mut OpContext<'_>,
    listed: Outcome,
    lib_root: &str,
    path: Option<&Path>,
    host: Option<&str>,
) -> Result<Outcome, Failure> {
    let host = host.map_or_else(facts::hostname, str::to_owned);
    let path = if let Some(path) = path {
        path.to_owned()
    } else {
        let outbox = Path::new(lib_root).join(OUTBOX);
        fs_err::create_dir_all(&outbox)?;
        // A name of its own: a second run beside this one must not take its place before it is fetched.
        outbox.join(format!("bundle-{}.tar.gz", facts::random_word()?))
    };
    let tmp = path.with_extension(format!("{}.tmp", facts::random_word()?));
    let op = Op::Bundle(Bundle { host, want: Want::Everything, without_data: false });
    let result: Result<String, Failure> = (|| {
        let mut file = std::os::unix::fs::OpenOptionsExt::mode(
            fs_err::OpenOptions::new().write(true).create_new(true).options_mut(),
            0o600,
        )
        .open(&tmp)
        .during("write", tmp.display())?;
        ops::run(&op, session, &mut file)?;
        file.sync_all().during("write", tmp.display())?;
        if let Some((uid, gid)) = caller() {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))
                .during("set the owner of", tmp.display())?;
        }
        drop(file);
        let mut written = fs_err::File::open(&tmp)?.into_file();
        let (sha256, _) = fs::digest_of(&mut written).during("read", tmp.display())?;
        fs_err::rename(&tmp, &path)?;
        Ok(sha256)
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    let sha256 = result?;
    fs::sync_folder(path.parent().unwrap_or(Path::new("/")));
    let mut outcome = listed;
    outcome.changed = true;
    outcome.msg = format!("{} in {}", outcome.msg, path.display());
    if let Detail::Collect(detail) = &mut outcome.pulpcov {
        detail.bundle = Some(path.to_string_lossy().into_owned());
        detail.bundle_sha256 = Some(sha256);
        // The bundle tells it all; a log of a playbook need not.
        detail.sources.clear();
    }
    Ok(outcome)
}

/// Who called sudo, so that the bundle can be fetched without it.
fn caller() -> Option<(u32, u32)> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

/// Erases the data that a bundle of this host holds, and then the bundle.
fn erase_fetched(args: &Map<String, Value>, bundle: &Path) -> Result<Outcome, Failure> {
    let manifest = read_manifest(bundle)?;
    let records = manifest
        .records()
        .map(|(name, sha256)| ErasedFile { name: name.clone(), sha256: sha256.clone() })
        .collect();
    let lib_root = args.get("lib_root").and_then(Value::as_str).unwrap_or(DEFAULT_LIB_ROOT).to_owned();
    let files = manifest
        .entries
        .into_iter()
        .filter_map(|entry| match EntryPath::parse(&entry.path) {
            Ok(EntryPath::Data(name)) => Some(ErasedFile { name, sha256: entry.sha256 }),
            _ => None,
        })
        .collect();
    let quiet = |_: &str| {};
    let check = args.get("check") == Some(&Value::Bool(true));
    let op = Op::Erase(Erase { lib_root: lib_root.clone(), files, records, check });
    let outcome = ops::run(&op, &mut OpContext::new(&quiet), &mut std::io::sink())?;
    if check {
        return Ok(outcome);
    }
    fs_err::remove_file(bundle)?;
    // This bundle may have been the last that an uninstall had left.
    let warnings = ops::finish_uninstall(&lib_root)?;
    Ok(Outcome { changed: true, ..outcome }.with_warnings(warnings))
}

fn read_manifest(bundle: &Path) -> Result<Manifest, Failure> {
    let regular = fs::open_regular(bundle)
        .during("open", bundle.display())?
        .ok_or_else(|| Failure::new(format!("{} is not a regular file", bundle.display())))?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(regular.file));
    let damaged = |what: String| Failure::new(format!("{} is no bundle: {what}", bundle.display()));
    let mut entries =
        tar.entries().map(|entries| entries.raw(true)).map_err(|error| damaged(error.to_string()))?;
    let first = entries
        .next()
        .ok_or_else(|| damaged("it is empty".to_owned()))?
        .map_err(|error| damaged(error.to_string()))?;
    if first.path_bytes() != MANIFEST.as_bytes() {
        return Err(damaged("it does not begin with a manifest".to_owned()));
    }
    serde_json::from_reader(first.take(MAX_MANIFEST_BYTES)).map_err(|error| damaged(error.to_string()))
}

fn print_json(outcome: &Outcome) -> ExitCode {
    let text = serde_json::to_string(outcome).unwrap_or_else(|error| {
        format!(r#"{{"changed":false,"failed":true,"msg":"cannot answer: {error}"}}"#)
    });
    say(&text);
    say("\n");
    exit_code(outcome)
}

fn print_text(outcome: &Outcome) -> ExitCode {
    for warning in &outcome.warnings {
        shout(&format!("warning: {warning}\n"));
    }
    if outcome.failed {
        complain(&Failure { msg: outcome.msg.clone(), hint: outcome.hint.clone() });
    } else {
        say(&format!("{}: {}\n", if outcome.changed { "changed" } else { "ok" }, outcome.msg));
    }
    exit_code(outcome)
}

fn exit_code(outcome: &Outcome) -> ExitCode {
    if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn complain(failure: &Failure) {
    shout(&format!("error: {}\n", failure.msg));
    if let Some(hint) = &failure.hint {
        shout(&format!("hint: {hint}\n"));
    }
}

/// A reader that has gone is no error of ours.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn shout(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

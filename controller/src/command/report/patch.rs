//! The diff whose lines are asked for: from a file, or from git.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use pulpcov_coverage::patch::{self, Added, PatchCoverage};

use super::output::Output;
use crate::exit::usage;

/// Largest diff that is read.
const MAX_DIFF: u64 = 256 * 1024 * 1024;

pub(super) fn read(output: &Output) -> Result<Option<Added>> {
    let (name, text) = if let Some(path) = &output.diff_file {
        let name = format!("--diff-file {}", path.display());
        let mut bytes = Vec::new();
        let read = if path == Path::new("-") {
            std::io::stdin().lock().take(MAX_DIFF + 1).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(MAX_DIFF + 1).read_to_end(&mut bytes))
        };
        read.map_err(|error| usage(anyhow::anyhow!("{name}: {error}")))?;
        // Its beginning would be judged as if it were all.
        if bytes.len() as u64 > MAX_DIFF {
            return Err(usage(anyhow::anyhow!("{name}: it is larger than {MAX_DIFF} bytes")));
        }
        (name, bytes)
    } else if let Some(range) = &output.diff_range {
        (format!("--diff-range {range}"), of_git(range)?)
    } else {
        return Ok(None);
    };
    let added = patch::parse(&String::from_utf8_lossy(&text))
        .map_err(|error| usage(anyhow::anyhow!("{name}: {error}")))?;
    Ok(Some(added))
}

fn of_git(range: &str) -> Result<Vec<u8>> {
    let failed = |reason: String| usage(anyhow::anyhow!("--diff-range {range}: {reason}"));
    // A range that looks like an option is none.
    if range.starts_with('-') {
        return Err(failed("a range is A..B".to_owned()));
    }
    let output = Command::new("git")
        .args([
            "diff",
            "--unified=0",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--src-prefix=a/",
            "--dst-prefix=b/",
        ])
        .args([range, "--", "*.py"])
        .output()
        .map_err(|error| failed(format!("cannot run git: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failed(words.lines().next().unwrap_or("git failed").to_owned()))
}

pub(super) fn warnings(patch: &PatchCoverage) -> Vec<String> {
    let listed = |names: &[String]| {
        let some: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
        let more = if names.len() > some.len() {
            format!(" and {} more", names.len() - some.len())
        } else {
            String::new()
        };
        format!("{}{more}", some.join(", "))
    };
    let mut warnings = Vec::new();
    if !patch.unknown.is_empty() {
        warnings.push(format!("of the diff, the report does not have {}", listed(&patch.unknown)));
    }
    if !patch.differing.is_empty() {
        warnings.push(format!(
            "other releases than the diff's were measured, so their lines do not count: {}",
            listed(&patch.differing)
        ));
    }
    warnings
}

//! Analyses named sources with the host's own Python.

use std::path::Path;

use pulpcov_protocol::bundle::MAX_SOURCE_BYTES;
use pulpcov_protocol::manifest::Source;
use pulpcov_protocol::op::Analyse;
use pulpcov_protocol::outcome::{AnalyseDetail, Detail, Outcome};

use crate::bundle::{image_sources, source_list};
use crate::failure::Failure;
use crate::host::fs;
use crate::receipt;

pub(super) fn run(args: &Analyse) -> Result<Outcome, Failure> {
    let mut receipt = receipt::required(&args.lib_root)?;
    image_sources::use_present_image(&mut receipt.config, &mut Vec::new())?;
    let python = receipt
        .config
        .interpreters
        .first()
        .ok_or_else(|| Failure::new("the receipt names no interpreter"))?;
    let trusted = source_list::trusted(&receipt.config);
    let mut sources = Vec::new();
    for path in &args.paths {
        let bytes = trusted.read(Path::new(path), MAX_SOURCE_BYTES)?;
        sources.push(Source {
            path: path.clone(),
            module_path: path.clone(),
            sha256: fs::sha256(&bytes),
            size: bytes.len() as u64,
            analysis: String::new(),
            interpreter: python.path.clone(),
        });
    }
    let texts = source_list::analyse(
        &args.lib_root,
        &receipt.config,
        &sources.iter().collect::<Vec<_>>(),
        &std::collections::BTreeMap::new(),
    )?;
    let analyses = texts
        .iter()
        .map(|text| serde_json::from_slice(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::new(format!("the analysis answered no JSON: {error}")))?;
    let msg = format!("analysed {}", super::counted(analyses.len() as u64, "source"));
    Ok(Outcome::ok(false, msg, Detail::Analyse(AnalyseDetail { analyses })))
}

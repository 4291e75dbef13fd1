//! Removes what is safely kept elsewhere, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulpcov_protocol::bundle::is_file_name;
use pulpcov_protocol::manifest::ProcessState;
use pulpcov_protocol::op::{Erase, ErasedFile};
use pulpcov_protocol::outcome::{Detail, EraseDetail, KeptFile, Outcome};

use super::uninstall;
use crate::bundle::maps;
use crate::failure::Failure;
use crate::host::facts::HostLock;
use crate::host::fs;
use crate::receipt;
use crate::recorder::ledger::Ledger;
use crate::recorder::record::Record;
use crate::recorder::{collected, data_dir, ledger, process_map};

pub(super) fn run(args: &Erase) -> Result<Outcome, Failure> {
    if args.check {
        let msg = format!("would erase at most {}", super::counted(args.files.len() as u64, "data file"));
        return Ok(Outcome::ok(!args.files.is_empty(), msg, Detail::None));
    }
    let _lock = HostLock::take(&args.lib_root)?;
    let receipt = receipt::of_data(&args.lib_root)?;
    let root = &receipt.config.data_root;
    // Of a process that ends from here on nobody knows whether its data file has all of it.
    let gone_before: BTreeMap<String, String> = {
        let before = ledger::read_all(root, receipt.config.own_install())?;
        let gone = before.records.into_iter().filter(Record::is_gone);
        gone.map(|record| (record.process.record, record.process.record_sha256)).collect()
    };
    // What is kept elsewhere is what was fetched: a process that has ended since then may have added to it.
    let unwritten = maps::write_data(&args.lib_root, &receipt.config)?;
    // Whosever a process is that lives, it goes on writing.
    let ledger = ledger::read_all(root, receipt.config.own_install())?;
    let is_gone = |record: &Record| record.is_gone() && gone_before.contains_key(&record.process.record);
    let unfinished: BTreeMap<&str, &Record> = ledger
        .records
        .iter()
        .filter(|record| !is_gone(record))
        .filter_map(|record| Some((record.process.data.as_deref()?, record)))
        .collect();
    let mut detail = EraseDetail { erased: Vec::new(), kept: Vec::new() };
    let mut of_unfinished = BTreeMap::new();
    for file in &args.files {
        let result = if !is_file_name(&file.name) {
            Err("not a file name".to_owned())
        } else if let Some(record) = unfinished.get(file.name.as_str()) {
            of_unfinished.insert(file.name.clone(), file.sha256.clone());
            Err(match record.process.state {
                ProcessState::Live => "its process is alive".to_owned(),
                ProcessState::Elsewhere => {
                    format!("its process is elsewhere{}", ledger::on(&record.process))
                }
                ProcessState::Ended | ProcessState::Died => "its process has only just ended".to_owned(),
            })
        } else if let Some(reason) = unwritten.unsaved_data(&file.name) {
            Err(reason.to_owned())
        } else {
            data_dir::erase_if_same(root, &file.name, &file.sha256)
        };
        match result {
            Ok(true) => detail.erased.push(file.name.clone()),
            Ok(false) => {}
            Err(reason) => detail.kept.push(KeptFile { name: file.name.clone(), reason }),
        }
    }
    // Of what is not in a data file nobody can say that it is what was fetched.
    let is_saved = |record: &str| !unwritten.unsaved.contains(record);
    let records: Vec<ErasedFile> =
        args.records.iter().filter(|record| is_saved(&record.name)).cloned().collect();
    erase_records(root, &ledger, &records, &gone_before);
    fs::sync_folder(root);
    collected::note(Path::new(&args.lib_root), root, of_unfinished);
    let warnings = uninstall::finish(&receipt, &args.lib_root)?;
    let msg = format!(
        "erased {}, kept {}",
        super::counted(detail.erased.len() as u64, "data file"),
        detail.kept.len()
    );
    Ok(Outcome::ok(!detail.erased.is_empty(), msg, Detail::Erase(detail)).with_warnings(warnings))
}

/// Records go once the process is gone and its data is too.
fn erase_records(root: &Path, ledger: &Ledger, named: &[ErasedFile], gone_before: &BTreeMap<String, String>) {
    let named: BTreeSet<(&str, &str)> =
        named.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
    // Its record may have been made to say that its map has ended, since it was fetched.
    let of_one = ledger.records.iter().filter(|record| record.is_gone()).filter_map(|record| {
        let process = &record.process;
        let before = gone_before.get(&process.record)?;
        Some((&process.record, [before, &process.record_sha256], &process.data))
    });
    let of_many = ledger.many.iter().map(|many| {
        let compacted = &many.compacted;
        (&compacted.record, [&compacted.record_sha256; 2], &compacted.data)
    });
    for (record, digests, data) in of_one.chain(of_many) {
        let data_is_gone = data.as_ref().is_none_or(|data| !root.join(data).exists());
        let is_named = digests.into_iter().any(|sha256| named.contains(&(record.as_str(), sha256.as_str())));
        if data_is_gone && is_named {
            process_map::remove(root, record);
        }
    }
}

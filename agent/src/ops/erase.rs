//! Removes what is safely kept elsewhere, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use pulpcov_protocol::bundle::is_file_name;
use pulpcov_protocol::op::{Erase, ErasedFile};
use pulpcov_protocol::outcome::{Detail, EraseDetail, KeptFile, Outcome};
use rustix::fs::{CWD, RenameFlags};

use crate::data_dir::LEDGER;
use crate::failure::Failure;
use crate::host::HostLock;
use crate::ledger::Ledger;
use crate::{host, host_fs, ledger, receipt};

pub(super) fn run(args: &Erase) -> Result<Outcome, Failure> {
    if args.check {
        let msg = format!("would erase at most {}", super::counted(args.files.len() as u64, "data file"));
        return Ok(Outcome::ok(!args.files.is_empty(), msg, Detail::None));
    }
    let _lock = HostLock::take(&args.lib_root)?;
    let receipt = receipt::required(&args.lib_root)?;
    let root = &receipt.config.data_root;
    let ledger = ledger::read(root)?;
    let live: BTreeSet<&str> = ledger
        .records
        .iter()
        .filter(|record| record.is_live())
        .filter_map(|record| record.process.data.as_deref())
        .collect();
    let mut detail = EraseDetail { erased: Vec::new(), kept: Vec::new() };
    for file in &args.files {
        let result = if !is_file_name(&file.name) {
            Err("not a file name".to_owned())
        } else if live.contains(file.name.as_str()) {
            Err("its process is alive".to_owned())
        } else {
            erase_if_same(root, file)
        };
        match result {
            Ok(()) => detail.erased.push(file.name.clone()),
            Err(reason) => detail.kept.push(KeptFile { name: file.name.clone(), reason }),
        }
    }
    erase_records(root, &ledger, &args.records);
    host_fs::sync_folder(root);
    let msg = format!(
        "erased {}, kept {}",
        super::counted(detail.erased.len() as u64, "data file"),
        detail.kept.len()
    );
    Ok(Outcome::ok(!detail.erased.is_empty(), msg, Detail::Erase(detail)))
}

const CHANGED: &str = "it changed after it was fetched";

/// Moves the file aside first, so that what is compared is what is erased: a newer version may be
/// renamed to its name at any moment.
fn erase_if_same(root: &Path, file: &ErasedFile) -> Result<(), String> {
    let path = root.join(&file.name);
    let digest = |path: &Path| -> Result<String, String> {
        let regular = host_fs::open_regular(path).map_err(|error| error.to_string())?;
        let mut regular = regular.ok_or("no regular file")?;
        Ok(host_fs::digest_of(&mut regular.file).map_err(|error| error.to_string())?.0)
    };
    if digest(&path)? != file.sha256 {
        return Err(CHANGED.to_owned());
    }
    let word = host::random_word().map_err(|failure| failure.msg)?;
    let aside = root.join(LEDGER).join(format!(".erase.{word}"));
    fs_err::rename(&path, &aside).map_err(|error| error.to_string())?;
    if digest(&aside).is_ok_and(|now| now == file.sha256) {
        return fs_err::remove_file(&aside).map_err(|error| error.to_string());
    }
    // It was replaced between the two looks. Back it goes, unless a still newer one is there: that
    // one holds all that this one held.
    let back = rustix::fs::renameat_with(CWD, &aside, CWD, &path, RenameFlags::NOREPLACE);
    if back.is_err() {
        fs_err::rename(&aside, root.join(format!("{}.{word}", file.name)))
            .map_err(|error| error.to_string())?;
    }
    Err(CHANGED.to_owned())
}

/// Records go once the process is gone and its data is too.
fn erase_records(root: &Path, ledger: &Ledger, named: &[ErasedFile]) {
    let named: BTreeSet<(&str, &str)> =
        named.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
    let of_one = ledger.records.iter().filter(|record| !record.is_live()).map(|record| {
        let process = &record.process;
        (&process.record, &process.record_sha256, &process.data)
    });
    let of_many = ledger.many.iter().map(|many| {
        let compacted = &many.compacted;
        (&compacted.record, &compacted.record_sha256, &compacted.data)
    });
    for (record, sha256, data) in of_one.chain(of_many) {
        let data_is_gone = data.as_ref().is_none_or(|data| !root.join(data).exists());
        if data_is_gone && named.contains(&(record.as_str(), sha256.as_str())) {
            // One that stays is only told of again.
            let _ = fs_err::remove_file(root.join(LEDGER).join(record));
        }
    }
}

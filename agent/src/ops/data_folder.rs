//! What an uninstall leaves of the data folder: what is this install's goes, and what others need stays.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use pulpcov_protocol::text::counted;

use crate::failure::Failure;
use crate::host::removal;
use crate::install::sharing;
use crate::receipt::{Config, TouchedFolder};
use crate::recorder::data_dir::{self, LEDGER};
use crate::recorder::ledger;
use crate::recorder::process_map;
use crate::recorder::record::Record;
use crate::recorder::users::Users;

/// Files that are held at once.
const HELD: usize = 200;

/// The data folder, and who else uses it.
pub(super) struct DataFolder<'a> {
    root: &'a Path,
    /// The word of the install, by which its mark is known, and the one by which it knows its own processes.
    install: &'a str,
    own_install: &'a str,
    /// Hosts of other installs that write here.
    others: Vec<String>,
    /// Processes of which nobody knows whether they live.
    elsewhere: usize,
    /// Data files of others.
    of_others: BTreeSet<String>,
    takes_all: bool,
}

impl<'a> DataFolder<'a> {
    pub(super) fn of(config: &'a Config, takes_all: bool) -> Result<Self, Failure> {
        Self::at(&config.data_root, (&config.install, config.own_install()), takes_all)
    }

    /// With `takes_all`, by a person's own word, nobody else's claim counts.
    pub(super) fn at(root: &'a Path, installs: (&'a str, &'a str), takes_all: bool) -> Result<Self, Failure> {
        let (install, own_install) = installs;
        let mut folder = Self {
            root,
            install,
            own_install,
            others: Vec::new(),
            elsewhere: 0,
            of_others: BTreeSet::new(),
            takes_all,
        };
        folder.look()?;
        Ok(folder)
    }

    /// Looks who else is there now.
    fn look(&mut self) -> Result<(), Failure> {
        if self.takes_all {
            return Ok(());
        }
        self.others = sharing::others(self.root, self.install);
        let ledger = ledger::read_all(self.root, self.own_install)?;
        // A stranger's word keeps no folder.
        let users = Users::known(self.root);
        let is_open = |record: &Record| {
            let is_others = record.is_elsewhere() || record.is_live() && record.process.foreign;
            is_others && users.is_service(record.uid)
        };
        self.elsewhere = ledger.records.iter().filter(|record| is_open(record)).count();
        let one = ledger.records.iter().map(|record| (&record.process, is_open(record)));
        // What ended where nobody is any more is for whoever is left to collect.
        let is_shared = self.is_shared();
        let one = one.filter(|(process, is_open)| *is_open || is_shared && process.foreign);
        let many = ledger.many.iter().filter(|many| is_shared && many.compacted.foreign);
        self.of_others = one
            .filter_map(|(process, _)| process.data.clone())
            .chain(many.filter_map(|many| many.compacted.data.clone()))
            .collect();
        Ok(())
    }

    /// Whether a data file is no other install's.
    pub(super) fn is_own(&self, name: &str) -> bool {
        !self.of_others.contains(name)
    }

    fn is_shared(&self) -> bool {
        !self.others.is_empty() || self.elsewhere > 0
    }

    /// Whether others go on needing a folder.
    pub(super) fn is_others(&self, path: &Path) -> bool {
        self.is_shared() && path.starts_with(self.root)
    }

    /// Number of data files that are no other install's.
    pub(super) fn measure(&self) -> Result<u64, Failure> {
        let mut count = 0;
        data_dir::each(self.root, &mut |name, _| count += u64::from(self.is_own(name)))?;
        Ok(count)
    }

    /// Who keeps the folder, as a warning.
    pub(super) fn words_of_others(&self) -> Option<String> {
        let mut who = Vec::new();
        if self.elsewhere > 0 {
            who.push(format!("{} elsewhere", counted(self.elsewhere as u64, "process")));
        }
        if !self.others.is_empty() {
            who.push(self.others.join(", "));
        }
        let who = who.join(" and ");
        (!who.is_empty()).then(|| {
            format!(
                "{} is left to {who}; uninstall --erase-data --force removes it with what is there",
                self.root.display()
            )
        })
    }

    /// Removes the ledger where no data is left to explain, and the data where that was asked for. Returns how many
    /// data files of ours are left.
    pub(super) fn clear(&mut self, erase: bool, warnings: &mut Vec<String>) -> Result<u64, Failure> {
        if !self.root.is_dir() {
            return Ok(0);
        }
        if erase {
            self.erase()?;
        }
        let left = self.measure()?;
        if self.is_shared() {
            return Ok(left);
        }
        // Data that no record tells of, such as what a person puts there, needs no ledger.
        let mut handed_over = Vec::new();
        if erase || left == 0 || !ledger::has_records(self.root) {
            handed_over = sharing::handed_over(self.root);
            remove_ledger(&self.root.join(LEDGER), warnings);
        }
        if left == 0 {
            for entry in fs_err::read_dir(self.root)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(".tmp.") {
                    // Somebody's folder of that name is theirs to remove.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
        sharing::undo(&handed_over);
        Ok(left)
    }

    /// Erases data files that are there now: somebody may go on making others.
    pub(super) fn erase(&mut self) -> Result<(), Failure> {
        // Who came since then counts, too.
        self.look()?;
        let users = Users::known(self.root);
        let mut failed = None;
        for _ in 0..=self.measure()? / HELD as u64 {
            // A few at a time: each listed file is held open.
            let files = data_dir::list(self.root, None, HELD, &|name| self.is_own(name))?.files;
            if files.is_empty() {
                break;
            }
            for file in files {
                let is_service = users.is_service(file.regular.uid);
                match fs_err::remove_file(self.root.join(&file.name)) {
                    // Somebody else may take his away meanwhile, or put something else there.
                    Err(error) if is_service && error.kind() != ErrorKind::NotFound => failed = Some(error),
                    _ => {}
                }
            }
        }
        self.erase_records()?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Records of our own processes that are gone, and whose data is: nobody has lost what a person has erased.
    fn erase_records(&self) -> Result<(), Failure> {
        let ledger = ledger::read_all(self.root, self.own_install)?;
        let one = ledger.records.iter().filter(|record| record.is_gone() && !record.process.foreign);
        let one = one.map(|record| (&record.process.record, &record.process.data));
        let many = ledger.many.iter().map(|many| &many.compacted).filter(|many| !many.foreign);
        for (record, data) in one.chain(many.map(|many| (&many.record, &many.data))) {
            if data.as_ref().is_none_or(|data| !self.root.join(data).exists()) {
                process_map::remove(self.root, record);
            }
        }
        Ok(())
    }

    /// The last of an install: where others stay, they are told what is to become of the folder.
    pub(super) fn leave(&self, folders: &[TouchedFolder]) -> Result<(), Failure> {
        if self.is_shared() { sharing::hand_over(self.root, self.install, folders) } else { Ok(()) }
    }
}

/// What others keep in it, as by a file system of theirs, keeps nobody from uninstalling.
fn remove_ledger(ledger: &Path, warnings: &mut Vec<String>) {
    let removed = match std::fs::symlink_metadata(ledger) {
        Ok(found) if found.is_dir() => removal::remove_tree(ledger, removal::PATIENCE),
        Ok(_) => std::fs::remove_file(ledger),
        Err(_) => return,
    };
    warnings.extend(removed.err().map(|error| format!("{} is left: {error}", ledger.display())));
}

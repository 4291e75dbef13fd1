//! One verb, one file.

mod analyse;
mod collect;
mod compact;
mod data_folder;
mod doctor;
mod erase;
mod export;
mod flush;
mod install;
mod probe;
mod reset;
mod salvage;
mod services;
mod start;
mod status;
mod uninstall;

use std::io::Write;
use std::path::PathBuf;

use pulpcov_protocol::op::Op;
use pulpcov_protocol::outcome::Outcome;
pub(crate) use pulpcov_protocol::text::counted;
pub(crate) use uninstall::OUTBOX;

use crate::bundle::gather::Gathered;
use crate::failure::Failure;

/// What lasts from op to op of one caller.
pub(crate) struct OpContext<'a> {
    /// Tells whoever watches what is being done.
    pub(crate) progress: &'a dyn Fn(&str),
    /// Wheels that came with the op.
    pub(crate) wheels: Vec<PathBuf>,
    /// What `collect` listed, for `bundle` to send.
    pub(crate) gathered: Option<Gathered>,
}

impl<'a> OpContext<'a> {
    pub(crate) fn new(progress: &'a dyn Fn(&str)) -> Self {
        Self { progress, wheels: Vec::new(), gathered: None }
    }
}

/// Does one op. `stream` takes a bundle; nothing else is written to it.
pub(crate) fn run(op: &Op, session: &mut OpContext<'_>, stream: &mut dyn Write) -> Result<Outcome, Failure> {
    match op {
        Op::Probe(args) => probe::run(args),
        Op::Install(args) => install::run(args, session),
        Op::Status(args) => status::run(args),
        Op::Flush(args) => flush::run(args),
        Op::Collect(args) => collect::list(args, session),
        Op::Bundle(args) => collect::send(args, session, stream),
        Op::Erase(args) => erase::run(args),
        Op::Export(args) => export::run(args, stream),
        Op::Analyse(args) => analyse::run(args),
        Op::Services(args) => services::run(args),
        Op::Reset(args) => reset::run(args),
        Op::Doctor(args) => doctor::run(args),
        Op::Compact(args) => compact::run(args),
        Op::Uninstall(args) => uninstall::run(args, session),
    }
}

/// Removes what an uninstall has left for a collect, once nothing is left to collect. Returns warnings.
pub(crate) fn finish_uninstall(lib_root: &str) -> Result<Vec<String>, Failure> {
    crate::receipt::load(lib_root)?.map_or(Ok(Vec::new()), |receipt| uninstall::finish(&receipt, lib_root))
}

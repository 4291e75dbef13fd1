//! What goes to the controller: data files, sources and their analyses.

mod branches;
pub(crate) mod compact;
mod copies;
pub(crate) mod gather;
pub(crate) mod image_sources;
pub(crate) mod known_branches;
pub(crate) mod maps;
mod package_places;
pub(crate) mod source_list;
mod spool;

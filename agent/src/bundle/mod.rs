//! What goes to the controller: data files, sources and their analyses.

pub(crate) mod compact;
mod copies;
pub(crate) mod gather;
pub(crate) mod image_sources;
mod package_places;
pub(crate) mod source_list;
mod spool;

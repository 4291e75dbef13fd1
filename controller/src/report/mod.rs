//! From verified bundles, or from data files of this machine, to reports.

pub(crate) mod analyser;
mod analyses;
pub(crate) mod from_files;
pub(crate) mod from_runs;
pub(crate) mod html_site;
pub(crate) mod inputs;
pub(crate) mod rcfile;
mod replaced;
mod staged;
pub(crate) mod trend;

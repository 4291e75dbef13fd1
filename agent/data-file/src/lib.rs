//! coverage.py's data files, without Python and SQLite: read, combined and written.
//!
//! The agent and the controller both stand on it. Only [`data_file`] touches the file system.

pub mod combine;
pub mod data;
pub mod data_file;
pub mod lines;
pub mod map;
mod page_writer;
mod pages;

/// What a Python with coverage.py tells of sources. Agents run it on hosts, the controller on its own machine.
pub const ANALYSIS: &str = include_str!("analysis.py");

//! coverage.py's model in Rust: data files, combining, analysis, numbers, reports.
//!
//! Knows nothing of hosts beyond their names, and nothing of SSH, terminals or clocks. Only
//! [`data_file`] touches the file system.

pub mod aliases;
pub mod analysis;
pub mod choice;
pub mod combine;
pub mod config;
pub mod data;
pub mod data_file;
pub mod diff;
pub mod fleet;
pub mod gates;
pub mod glob;
pub mod lines;
pub mod numbers;
pub mod origin;
mod page_writer;
mod pages;
pub mod patch;
pub mod releases;
pub mod render;
pub mod report;
pub mod selection;
pub mod source_text;
pub mod view;

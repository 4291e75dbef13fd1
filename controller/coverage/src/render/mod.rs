//! Reports as bytes. Nothing here opens a file, reads a clock or decides what is in a report.

pub mod html;
pub mod json;
pub mod lcov;
pub mod markdown;
mod names;
pub mod text;
pub mod xml;

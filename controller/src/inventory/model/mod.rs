//! Groups, hosts and their variables, and what is asked of them.

pub(crate) mod groups;
pub(crate) mod list;
mod merge;
pub(crate) mod pattern;

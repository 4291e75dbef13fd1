//! This machine itself, as `ansible_connection: local` has it.

use crate::transport::process::{Ends, Program};

/// The shell that runs the command here, in no folder of anybody's: Pythons look for modules where they are started.
pub(super) fn program() -> Program {
    let words = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
    Program::new(words, Ends::AsItsCommand).in_folder("/")
}

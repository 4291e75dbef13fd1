//! The versions of everything that outlives one program.

/// Version of the framed conversation. The controller ships the agent it was built with, so both
/// sides are equal in practice; an agent that somebody preinstalled may not be.
pub const PROTOCOL: u32 = 2;

/// Version of the bundle: `manifest.json` and the layout of the tar around it.
pub const BUNDLE_FORMAT: u32 = 1;

/// Version of the receipt that the agent keeps on a host.
pub const RECEIPT_FORMAT: u32 = 2;

/// A bundle that this build cannot read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("bundle format {found}, this pulpcov reads {BUNDLE_FORMAT}")]
pub struct UnreadableFormat {
    pub found: u32,
}

/// Whether a bundle of format `found` can be read.
pub fn check_bundle_format(found: u32) -> Result<(), UnreadableFormat> {
    if found == BUNDLE_FORMAT { Ok(()) } else { Err(UnreadableFormat { found }) }
}

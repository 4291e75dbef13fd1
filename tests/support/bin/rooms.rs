//! Prints the rooms of the code and what each imports.

use std::io::Write;

use pulpcov_tests::rooms::{HOUSES, picture};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for house in HOUSES.iter().rev() {
        match writeln!(out, "{}", picture(house)) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            result => result?,
        }
    }
    Ok(())
}

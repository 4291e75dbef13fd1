//! Prints the rooms of the code and what each imports.

use std::io::Write;

use pulpcov_tests::rooms::{HOUSES, picture};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for house in HOUSES.iter().rev() {
        writeln!(out, "{}", picture(house))?;
    }
    Ok(())
}

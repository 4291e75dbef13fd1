//! LCOV tracefiles, as coverage.py writes them: for genhtml, editors and code review.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::names::printable;
use crate::report::{FileReport, Report};

/// `headline`, how complete the report is, goes into a comment; a report without hosts has none.
pub fn render_lcov(
    report: &Report,
    headline: &str,
    skip_empty: bool,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    if !headline.is_empty() {
        writeln!(out, "# {}", printable(headline))?;
    }
    for file in report.files.iter().filter(|file| !skip_empty || file.analysed.numbers.statements > 0) {
        writeln!(out, "SF:{}", printable(&file.name))?;
        write_lines(file, out)?;
        write_functions(file, out)?;
        if report.branches {
            write_branches(file, out)?;
        }
        writeln!(out, "end_of_record")?;
    }
    Ok(())
}

fn write_lines(file: &FileReport, out: &mut dyn io::Write) -> io::Result<()> {
    let analysed = &file.analysed;
    let statements = analysed.statements();
    for line in &statements {
        writeln!(out, "DA:{line},{}", u8::from(!analysed.missing.contains(line)))?;
    }
    if !statements.is_empty() {
        writeln!(out, "LF:{}\nLH:{}", analysed.numbers.statements, analysed.numbers.executed())?;
    }
    Ok(())
}

fn write_functions(file: &FileReport, out: &mut dyn io::Write) -> io::Result<()> {
    // The last one, without a name, is what is outside of all functions.
    let named = file.functions.iter().filter(|region| !region.plain_name.is_empty());
    let mut functions: Vec<_> = named.filter_map(|region| Some((region.extent?, region))).collect();
    if functions.is_empty() {
        return Ok(());
    }
    functions.sort_by_key(|&(extent, _)| extent);
    let (mut found, mut hit) = (0, 0);
    let mut names = BTreeSet::new();
    for ((first, last), region) in functions {
        let numbers = &region.analysed.numbers;
        if numbers.statements == 0 {
            continue;
        }
        let ran = u32::from(numbers.executed() > 0);
        found += 1;
        hit += ran;
        let mut name = printable(&region.plain_name);
        if !names.insert(name.clone()) {
            name = format!("{name}@{first}");
        }
        writeln!(out, "FN:{first},{last},{name}\nFNDA:{ran},{name}")?;
    }
    writeln!(out, "FNF:{found}\nFNH:{hit}")
}

fn write_branches(file: &FileReport, out: &mut dyn io::Write) -> io::Result<()> {
    let analysed = &file.analysed;
    let mut ends: BTreeMap<i32, Vec<(i32, &str)>> = BTreeMap::new();
    let never_left = |line: &i32| analysed.branch_stats.get(line).is_some_and(|&(_, taken)| taken == 0);
    for (from, to) in &analysed.executed_branches {
        if !never_left(from) {
            ends.entry(*from).or_default().push((*to, "1"));
        }
    }
    for (from, to) in &analysed.missing_branches {
        // A line that no branch was ever taken from may always have raised.
        ends.entry(*from).or_default().push((*to, if never_left(from) { "-" } else { "0" }));
    }
    let statements = analysed.statements();
    for line in statements.iter().filter(|line| analysed.branch_stats.contains_key(line)) {
        let mut of_line = ends.remove(line).unwrap_or_default();
        // Exits come last.
        of_line.sort_by_key(|&(to, hit)| (to < 0, to, hit));
        for (to, hit) in of_line {
            let described = file.source.descriptions.get(&(*line, to)).map_or_else(
                || if to < 0 { "jump to the exit".to_owned() } else { format!("jump to line {to}") },
                |text| printable(text),
            );
            writeln!(out, "BRDA:{line},0,{described},{hit}")?;
        }
    }
    let found: i64 = analysed.branch_stats.values().map(|&(total, _)| total).sum();
    let taken: i64 = analysed.branch_stats.values().map(|&(_, taken)| taken).sum();
    if found > 0 {
        writeln!(out, "BRF:{found}\nBRH:{taken}")?;
    }
    Ok(())
}

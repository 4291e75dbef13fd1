//! What a report must meet, and whether it does.

use crate::numbers::{Numbers, display_percent, is_enough, percent};
use crate::patch::PatchCoverage;
use crate::report::Report;

/// A wanted percentage: of all, or of a package.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// `pulpcore`, or `pulpcore.app`; nothing for the whole.
    pub package: Option<String>,
    pub percent: f64,
    pub asked_by: AskedBy,
}

/// Where a gate was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// `--fail-under` of the command line.
    Option,
    /// `fail_under` of coverage.py's configuration.
    Configuration,
}

impl Threshold {
    /// `80`, or `pulpcore.app=75`.
    pub fn parse(word: &str) -> Result<Self, String> {
        let (package, percent) = match word.rsplit_once('=') {
            Some((package, percent)) => (Some(package.trim().to_owned()), percent),
            None => (None, word),
        };
        let percent: f64 =
            percent.trim().parse().map_err(|_| "wanted PERCENT or PACKAGE=PERCENT".to_owned())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err("a percentage is between 0 and 100".to_owned());
        }
        if package.as_ref().is_some_and(String::is_empty) {
            return Err("wanted PACKAGE=PERCENT".to_owned());
        }
        Ok(Self { package, percent, asked_by: AskedBy::Option })
    }
}

/// One gate, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    pub name: String,
    /// Why it is not met; nothing where it is.
    pub failure: Option<String>,
}

/// Whether a file belongs to a package: dots or slashes, and the module of that name itself.
fn is_in(package: &str, module_path: &str) -> bool {
    let folder = package.replace('.', "/");
    let behind = module_path.strip_prefix(folder.trim_end_matches('/'));
    behind.is_some_and(|behind| behind.starts_with('/') || behind == ".py")
}

/// Judges one threshold at the precision that is shown.
pub fn judge(report: &Report, threshold: &Threshold, precision: usize) -> Gate {
    let package = threshold.package.as_deref();
    let of_package =
        report.files.iter().filter(|file| package.is_none_or(|name| is_in(name, file.module_path())));
    let numbers: Vec<Numbers> = of_package.map(|file| file.analysed.numbers).collect();
    let total: Numbers = numbers.iter().copied().sum();
    let what = package.map(|name| format!("of {name} ")).unwrap_or_default();
    let option = match (package, threshold.asked_by) {
        (Some(name), _) => format!("--fail-under {name}={}", threshold.percent),
        (None, AskedBy::Option) => format!("--fail-under {}", threshold.percent),
        (None, AskedBy::Configuration) => format!("fail_under = {}", threshold.percent),
    };
    let failure = if numbers.is_empty() && package.is_some() {
        Some(format!("nothing in the report belongs to package {}", package.unwrap_or_default()))
    } else if total.statements == 0 {
        Some(format!("nothing {what}was measured, so {option} is not met"))
    } else if is_enough(total.percent_covered(), threshold.percent, precision) {
        None
    } else {
        let percent = display_percent(total.percent_covered(), precision.max(2));
        Some(format!("{percent}% {what}is covered, {option} wants {}%", threshold.percent))
    };
    Gate { name: option, failure }
}

/// Judges what a patch adds; one without statements has nothing to miss.
pub fn judge_patch(patch: &PatchCoverage, wanted: f64, precision: usize) -> Gate {
    let (ran, all) = patch.totals();
    let covered = percent(ran, all);
    let name = format!("--fail-under-diff {wanted}");
    if let Some(one) = patch.differing.first() {
        let failure = format!(
            "{name} cannot be judged: other releases than the diff's were measured, such as of {one} ({} in all)",
            patch.differing.len()
        );
        return Gate { name, failure: Some(failure) };
    }
    let failure = (!is_enough(covered, wanted, precision)).then(|| {
        let shown = display_percent(covered, precision.max(2));
        format!("{shown}% of the changed statements is covered ({ran} of {all}), {name} wants {wanted}%")
    });
    Gate { name, failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FileReport;

    fn report() -> Report {
        let file = |name: &str, statements, missing| {
            let mut file = FileReport { name: name.to_owned(), ..FileReport::default() };
            file.analysed.numbers = Numbers { statements, missing, ..Numbers::default() };
            file
        };
        let files = vec![
            file("shop/a.py", 10, 5),
            file("shop/app/b.py", 10, 0),
            file("shopper.py", 10, 10),
            file("one.py", 4, 1),
        ];
        Report { files, ..Report::default() }
    }

    #[test]
    fn a_package_is_judged_by_its_own_files() {
        let failure = |word: &str| judge(&report(), &Threshold::parse(word).expect(word), 0).failure;
        assert_eq!(failure("shop=75"), None);
        assert_eq!(failure("shop.app=100"), None);
        assert_eq!(failure("one=75"), None);
        assert!(failure("shop=76").is_some_and(|words| words.starts_with("75.00% of shop is covered")));
        assert!(failure("80").is_some());
        assert!(
            failure("sho=1")
                .is_some_and(|words| words.contains("nothing in the report belongs to package sho"))
        );
        let asked = Threshold { package: None, percent: 80.0, asked_by: AskedBy::Configuration };
        let words = judge(&report(), &asked, 0).failure.expect("too little");
        assert!(words.ends_with("is covered, fail_under = 80 wants 80%"), "{words}");
        for bad in ["x=", "=5", "a lot", "101", "-1", "x=101", "NaN"] {
            assert!(Threshold::parse(bad).is_err(), "{bad}");
        }
    }
}

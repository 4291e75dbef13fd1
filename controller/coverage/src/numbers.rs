//! The counts behind every percentage, and how coverage.py shows them.

/// Counts of a file, a region or a whole report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    pub files: u64,
    pub statements: u64,
    pub excluded: u64,
    pub missing: u64,
    pub branches: u64,
    pub partial_branches: u64,
    pub missing_branches: u64,
}

impl std::ops::AddAssign for Numbers {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.statements += other.statements;
        self.excluded += other.excluded;
        self.missing += other.missing;
        self.branches += other.branches;
        self.partial_branches += other.partial_branches;
        self.missing_branches += other.missing_branches;
    }
}

impl std::iter::Sum for Numbers {
    fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
        numbers.fold(Self::default(), |mut total, part| {
            total += part;
            total
        })
    }
}

impl Numbers {
    pub const fn executed(&self) -> u64 {
        self.statements - self.missing
    }

    pub const fn executed_branches(&self) -> u64 {
        self.branches - self.missing_branches
    }

    /// Statements and branches together.
    pub fn percent_covered(&self) -> f64 {
        percent(self.executed() + self.executed_branches(), self.statements + self.branches)
    }

    pub fn percent_statements(&self) -> f64 {
        percent(self.executed(), self.statements)
    }

    pub fn percent_branches(&self) -> f64 {
        percent(self.executed_branches(), self.branches)
    }
}

/// Which files a list leaves out: coverage.py's `skip_covered` and `skip_empty`. Totals have them all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skip {
    pub covered: bool,
    pub empty: bool,
}

/// Why a file is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    Covered,
    Empty,
}

impl Skip {
    pub const fn why(self, numbers: &Numbers) -> Option<Skipped> {
        if self.covered && numbers.missing == 0 && numbers.partial_branches == 0 {
            Some(Skipped::Covered)
        } else if self.empty && numbers.statements == 0 {
            Some(Skipped::Empty)
        } else {
            None
        }
    }
}

/// A part as a percentage; of nothing, all is covered.
#[expect(clippy::cast_precision_loss, reason = "counts of lines are far below 2^52")]
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// A percentage as text: never rounds to 0 or to 100 what is neither.
pub fn display_percent(percent: f64, precision: usize) -> String {
    let step = 0.1f64.powi(i32::try_from(precision).unwrap_or(0));
    let shown = if percent > 0.0 && percent < step {
        step
    } else if percent > 100.0 - step && percent < 100.0 {
        100.0 - step
    } else {
        percent
    };
    format!("{shown:.precision$}")
}

/// Whether a percentage meets a threshold, as coverage.py's `fail_under` judges: at the precision shown,
/// or that of the threshold where it is finer; and only all is 100.
pub fn is_enough(percent: f64, wanted: f64, precision: usize) -> bool {
    let is = |a: f64, b: f64| (a - b).abs() < f64::EPSILON;
    if is(wanted, 100.0) {
        return is(percent, 100.0);
    }
    let digits = wanted.to_string().split_once('.').map_or(0, |(_, behind)| behind.len());
    let precision = precision.max(digits);
    format!("{percent:.precision$}").parse::<f64>().is_ok_and(|rounded| rounded >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_judged_at_its_own_precision() {
        for (percent, wanted, precision, enough) in [
            (79.6, 80.0, 0, true),
            (79.4, 80.0, 0, false),
            (79.96, 80.0, 1, true),
            (79.44, 79.45, 0, false),
            (79.446, 79.45, 0, true),
            (99.999, 100.0, 0, false),
            (100.0, 100.0, 0, true),
            (0.0, 0.0, 0, true),
        ] {
            assert_eq!(is_enough(percent, wanted, precision), enough, "{percent} {wanted} {precision}");
        }
    }

    #[test]
    fn only_nothing_is_zero_and_only_all_is_a_hundred() {
        assert_eq!(display_percent(0.0, 0), "0");
        assert_eq!(display_percent(0.2, 0), "1");
        assert_eq!(display_percent(99.9, 0), "99");
        assert_eq!(display_percent(100.0, 0), "100");
        assert_eq!(display_percent(99.999, 2), "99.99");
        // Python rounds half to even.
        assert_eq!(display_percent(62.5, 0), "62");
        assert_eq!(display_percent(63.5, 0), "64");
    }

    #[test]
    fn nothing_to_cover_is_covered() {
        assert!((Numbers::default().percent_covered() - 100.0).abs() < f64::EPSILON);
    }
}

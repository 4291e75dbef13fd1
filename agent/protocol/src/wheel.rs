//! Which wheel fits which interpreter: names only (PEP 427), no wheel is opened here.

use crate::outcome::Interpreter;

/// The parts of a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName<'a> {
    pub distribution: &'a str,
    pub version: &'a str,
    pub python: &'a str,
    pub abi: &'a str,
    pub platform: &'a str,
}

impl<'a> WheelName<'a> {
    pub fn parse(file_name: &'a str) -> Option<Self> {
        if !crate::bundle::is_file_name(file_name) {
            return None;
        }
        let parts: Vec<&str> = file_name.strip_suffix(".whl")?.split('-').collect();
        let (distribution, version, python, abi, platform) = match *parts.as_slice() {
            [distribution, version, python, abi, platform] => (distribution, version, python, abi, platform),
            [distribution, version, _build, python, abi, platform] => {
                (distribution, version, python, abi, platform)
            }
            _ => return None,
        };
        Some(Self { distribution, version, python, abi, platform })
    }

    /// Place of the best of `tags` that this wheel has; lower is better.
    fn rank(&self, tags: &[String]) -> Option<usize> {
        tags.iter().position(|tag| {
            let mut parts = tag.splitn(3, '-');
            let (python, abi, platform) = (parts.next(), parts.next(), parts.next());
            let has = |set: &str, one: Option<&str>| one.is_some_and(|one| set.split('.').any(|x| x == one));
            has(self.python, python) && has(self.abi, abi) && has(self.platform, platform)
        })
    }
}

/// The wheel of coverage.py that `interpreter` wants, out of `names`.
pub fn choose<'n>(names: &'n [String], interpreter: &Interpreter) -> Option<&'n str> {
    names
        .iter()
        .filter_map(|name| {
            let wheel = WheelName::parse(name)?;
            let fits = wheel.distribution == "coverage" && wheel.version == interpreter.coverage;
            Some((wheel.rank(&interpreter.tags)?, name)).filter(|_| fits)
        })
        .min()
        .map(|(_, name)| name.as_str())
}

/// The coverage.py that is pinned for a Python: the last one that supports it.
pub fn pinned_coverage(major: u32, minor: u32) -> Option<&'static str> {
    Some(match (major, minor) {
        (3, 6) => "6.2",
        (3, 7) => "7.2.7",
        (3, 8) => "7.6.1",
        (3, 9) => "7.10.7",
        (3, 10) => "7.16.2",
        (3, 11..) => "7.17.3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(tags: &[&str]) -> Interpreter {
        Interpreter {
            path: "/usr/bin/python3".into(),
            version: "3.11.2".into(),
            cache_tag: "cpython-311".into(),
            purelib: "/usr/lib/python3/dist-packages".into(),
            prefix: "/usr".into(),
            coverage: "7.17.3".into(),
            coverage_present: false,
            tags: tags.iter().map(|&t| t.to_owned()).collect(),
            uid: 0,
            image: None,
        }
    }

    #[test]
    fn the_wheel_of_the_right_python_machine_and_version_is_chosen() {
        let names: Vec<String> = [
            "coverage-7.17.3-cp312-cp312-manylinux1_x86_64.manylinux_2_28_x86_64.whl",
            "coverage-7.17.3-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
            "coverage-7.17.2-cp311-cp311-manylinux1_x86_64.whl",
            "coverage-7.17.3-cp311-cp311-manylinux1_x86_64.manylinux_2_28_x86_64.whl",
            "flask-3.0-py3-none-any.whl",
            "notes.txt",
        ]
        .map(str::to_owned)
        .to_vec();
        let python = interpreter(&["cp311-cp311-manylinux_2_36_x86_64", "cp311-cp311-manylinux_2_28_x86_64"]);
        assert_eq!(choose(&names, &python), Some(names[3].as_str()));
        assert_eq!(choose(&names, &interpreter(&["cp311-cp311-musllinux_1_2_x86_64"])), None);
    }
}

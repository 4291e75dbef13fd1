//! Random inventories: YAML and INI, several sources, variables beside them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A small generator of its own: the same seed makes the same inventory on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).expect("31 bits") % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.below(from.len())]
    }
}

const HOSTS: &[&str] = &[
    "web1",
    "web2",
    "web1",
    "db[1:3]",
    "db2",
    "h[a:c].lan",
    "ha.lan",
    "10.0.0.1",
    "10.0.0.[1:3]",
    "x.example.org:2022",
    "web[01:03]-[1:2]",
    "under_score",
    "lonely",
    "n[1:9:4]",
    "[fe80::2]:2222",
    "fe80::1",
    "web3:22",
    "UPPER",
    "n[:2]",
];

const BAD_HOSTS: &[&str] = &["w[1-3]", "w[1:]", "w[01:100]", "w[a:3]", "w[1"];

/// Parents come before their children, or there would be loops without end.
const GROUPS: &[&str] = &["all", "prod", "canary", "a", "web", "db", "b", "c", "web-servers", "ungrouped"];

/// One that may be a child; now and then any.
fn child(random: &mut Random, parent: &str) -> &'static str {
    if random.one_in(150) {
        return random.pick(GROUPS);
    }
    let place = GROUPS.iter().position(|group| *group == parent).unwrap_or(0);
    // The last but one has none but a new name.
    let later = GROUPS.get(place + 1..GROUPS.len() - 1).filter(|later| !later.is_empty());
    random.pick(later.unwrap_or(&["leaf"]))
}

const NAMES: &[&str] =
    &["x", "y", "who", "ansible_port", "ansible_host", "level", "flag", "data", "ansible_group_priority"];

const YAML_VALUES: &[&str] = &[
    "1",
    "-3",
    "+7",
    "yes",
    "No",
    "on",
    "Off",
    "y",
    "'yes'",
    "\"two words\"",
    "0755",
    "0o755",
    "0x1F",
    "0b101",
    "22:30",
    "1:75",
    "1e3",
    "1.0e+3",
    "3.5",
    ".5",
    "-.5",
    "1_000",
    "~",
    "null",
    "",
    "''",
    "text",
    "10.0.0.1",
    "'{{ x }}'",
    "\"{{ who }}-{{ y }}\"",
    "!unsafe '{{ x }}'",
    "2024-01-31",
    "[1, two, yes]",
    "{k: v, n: 2}",
    "a:b",
    "'#no'",
    "1.2.3",
    "!!str 5",
    "'it''s'",
    "|\n TEXT",
    ">-\n FOLD",
    "0.0",
    "08",
    "0",
    "-0",
    "1.",
    "on fire",
    "é",
    "\"tab\\tend\"",
];

const INI_VALUES: &[&str] = &[
    "1",
    "-3",
    "+7",
    "yes",
    "true",
    "True",
    "False",
    "None",
    "'a b'",
    "\"a b\"",
    "0755",
    "0x1F",
    "0b101",
    "0o17",
    "1e3",
    "3.5",
    ".5",
    "1_000",
    "",
    "''",
    "text",
    "10.0.0.1",
    "\"[1, 'two', True]\"",
    "\"{'k': 'v', 'n': 2}\"",
    "a:b",
    "007",
    "00",
    "\"'quoted'\"",
    "(1,)",
    "\"(1, 2)\"",
    "{{x}}",
    "\"{1,2}\"",
    "b'x'",
    "a=b",
    "\"'a' 'b'\"",
    "5j",
    "1+2",
    "-",
    "...",
];

const LIMITS: &[&str] = &[
    "all",
    "web",
    "web:db",
    "web,db1",
    "web*",
    "*",
    "!web",
    "web:!web1",
    "prod:&web",
    "~web\\d",
    "~(web|db)",
    "web[0]",
    "db[-1]",
    "web[1:]",
    "web[0:1]",
    "*.lan",
    "w?b1",
    "[wd]*",
    "ungrouped",
    "10.0.0.1",
    "nosuch",
    "all:!nosuch",
    "web2,web1",
    "web[!1]",
    "fe80::1",
    "web-servers",
    "db[1:2]",
    "&web",
    "db?[0]",
    "h[a-b].lan",
];

/// A limit, now and then.
pub(crate) fn limit(random: &mut Random) -> Option<&'static str> {
    random.one_in(3).then(|| random.pick(LIMITS))
}

/// Writes an inventory into `folder` and tells its sources.
pub(crate) fn inventory(random: &mut Random, folder: &Path) -> Vec<PathBuf> {
    let sources = match random.below(10) {
        0..=4 => vec![file(random, folder, "hosts", true)],
        5..=6 => vec![file(random, folder, "hosts", false)],
        7 => {
            let second = folder.join("second");
            fs::create_dir(&second).expect("made");
            beside(random, &second);
            vec![file(random, folder, "first", true), file(random, &second, "more", false)]
        }
        _ => {
            let inner = folder.join("inv");
            fs::create_dir(&inner).expect("made");
            for i in 0..=random.below(3) {
                let is_yaml = random.below(3) > 0;
                file(random, &inner, &format!("0{i}"), is_yaml);
            }
            fs::write(inner.join("notes.txt.bak"), "ignored: [").expect("written");
            beside(random, &inner);
            vec![inner]
        }
    };
    beside(random, folder);
    sources
}

fn file(random: &mut Random, folder: &Path, name: &str, is_yaml: bool) -> PathBuf {
    let extension = random.pick(if is_yaml { &[".yml", ".yaml", "", ".yml"] } else { &[".ini", "", ".ini"] });
    let path = folder.join(format!("{name}{extension}"));
    let text = if is_yaml { yaml(random) } else { ini(random) };
    fs::write(&path, text).expect("written");
    path
}

fn host(random: &mut Random) -> &'static str {
    if random.one_in(400) { random.pick(BAD_HOSTS) } else { random.pick(HOSTS) }
}

fn yaml(random: &mut Random) -> String {
    let mut text = String::from("# made\n");
    let mut used = Vec::new();
    for _ in 0..=random.below(4) {
        let group = random.pick(GROUPS);
        if !used.contains(&group) {
            used.push(group);
            yaml_group(random, group, 0, &mut text);
        }
    }
    text
}

/// Keys that a mapping has only once: what stands twice is tested by fixtures.
fn distinct(
    random: &mut Random,
    most: usize,
    mut pick: impl FnMut(&mut Random) -> &'static str,
) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for _ in 0..random.below(most + 1) {
        let key = pick(random);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn yaml_group(random: &mut Random, name: &str, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth * 2);
    if random.one_in(12) {
        let _ = writeln!(text, "{indent}{name}:");
        return;
    }
    let _ = writeln!(text, "{indent}{name}:");
    let mut any = false;
    if random.below(5) > 0 {
        any = true;
        let _ = writeln!(text, "{indent}  hosts:");
        for host in distinct(random, 5, host) {
            let key = if host.starts_with('[') || host.contains(": ") {
                format!("'{host}'")
            } else {
                host.to_owned()
            };
            if random.one_in(2) {
                let _ = writeln!(text, "{indent}    {key}:");
            } else {
                let _ = writeln!(text, "{indent}    {key}:");
                yaml_vars(random, &format!("{indent}      "), text);
            }
        }
    }
    if random.one_in(2) {
        any = true;
        let _ = writeln!(text, "{indent}  vars:");
        yaml_vars(random, &format!("{indent}    "), text);
    }
    if depth < 3 && random.one_in(2) && (name != "ungrouped" || random.one_in(40)) {
        any = true;
        let _ = writeln!(text, "{indent}  children:");
        for child in distinct(random, 3, |random| child(random, name)) {
            yaml_group(random, child, depth + 1, text);
        }
    }
    if !any || random.one_in(40) {
        let _ = writeln!(text, "{indent}  odd: {{}}");
    }
}

fn yaml_vars(random: &mut Random, indent: &str, text: &mut String) {
    for name in distinct(random, 3, |random| random.pick(NAMES)) {
        let value = match name {
            "ansible_group_priority" => random.pick(&["1", "2", "10", "'3'", "-1"]),
            // A type of its own in YAML 1.1, which PyYAML does not read.
            _ if random.one_in(400) => "=",
            _ => random.pick(YAML_VALUES),
        };
        let value = value.replace('\n', &format!("\n{indent}  "));
        let _ = writeln!(text, "{indent}{name}: {value}");
    }
}

fn ini(random: &mut Random) -> String {
    let mut text = String::from("; made\n");
    for _ in 0..random.below(3) {
        ini_host(random, &mut text);
    }
    let groups = distinct(random, 4, |random| random.pick(GROUPS));
    for group in &groups {
        let comment = if random.one_in(8) { " # why" } else { "" };
        let _ = writeln!(text, "\n[{group}]{comment}");
        for _ in 0..random.below(4) {
            ini_host(random, &mut text);
        }
        if random.one_in(2) {
            let _ = writeln!(text, "[{group}:vars]");
            for _ in 0..random.below(4) {
                let name = random.pick(NAMES);
                let value = if name == "ansible_group_priority" { "3" } else { random.pick(INI_VALUES) };
                let comment = if random.one_in(8) { " # why" } else { "" };
                let _ = writeln!(
                    text,
                    "{name} = {value}{}",
                    if name == "ansible_group_priority" { "" } else { comment }
                );
            }
        }
    }
    if random.one_in(2) {
        for parent in distinct(random, 2, |random| random.pick(&GROUPS[..GROUPS.len() - 1])) {
            let _ = writeln!(text, "[{parent}:children]");
            for _ in 0..random.below(3) {
                // Mostly of those that there are.
                let name = child(random, parent);
                if groups.contains(&name) || random.one_in(60) {
                    let _ = writeln!(text, "{name}");
                }
            }
        }
    }
    text
}

fn ini_host(random: &mut Random, text: &mut String) {
    let host = host(random);
    let _ = write!(text, "{host}");
    for _ in 0..random.below(3) {
        let name = random.pick(&["x", "y", "who", "ansible_host", "flag"]);
        let _ = write!(text, " {name}={}", random.pick(INI_VALUES));
    }
    let _ = writeln!(text, "{}", if random.one_in(8) { " # why" } else { "" });
}

/// `group_vars/` and `host_vars/`, in all their forms.
fn beside(random: &mut Random, folder: &Path) {
    for (kind, names) in
        [("group_vars", GROUPS), ("host_vars", &["web1", "web2", "db1", "ha.lan", "fe80::1"])]
    {
        if random.below(3) > 0 {
            continue;
        }
        let folder = folder.join(kind);
        fs::create_dir_all(&folder).expect("made");
        for name in distinct(random, 3, |random| random.pick(names)) {
            if random.one_in(3) {
                let inner = folder.join(name);
                fs::create_dir_all(inner.join("deeper")).expect("made");
                for file in
                    ["20.yml", "10.yaml", "b", "skipped.txt", ".hidden.yml", "old.yml~", "deeper/x.yml"]
                {
                    if random.one_in(2) {
                        vars_file(random, &inner.join(file));
                    }
                }
            }
            let extension = random.pick(&["", ".yml", ".yaml"]);
            let path = folder.join(format!("{name}{extension}"));
            if !path.exists() {
                vars_file(random, &path);
            }
        }
    }
}

fn vars_file(random: &mut Random, path: &Path) {
    let mut text = String::new();
    yaml_vars(random, "", &mut text);
    // What is no YAML is an error of pulpcov's even where no host reads the file.
    let text = text.replace(": =\n", ": equal\n");
    fs::write(path, text).expect("written");
}

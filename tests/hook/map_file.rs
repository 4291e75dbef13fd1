//! A map that is written by plain writes, cut off at each line of the code that writes it: nothing that was told of is
//! lost, and nothing is told of twice under another name.

use std::fs;
use std::process::Command;

use pulpcov_data_file::data::Measured;
use pulpcov_data_file::map;
use pulpcov_tests::programs;

use crate::state::any_python;

/// Appends, is raised into at the Nth line, appends the same again, and goes on.
const SCRIPT: &str = r"
import sys
sys.path.insert(0, sys.argv[1])
for name in ('words', 'system', 'map_file'):
    with open('%s/%s.py' % (sys.argv[2], name)) as f, open('%s/_pulpcov_%s.py' % (sys.argv[1], name), 'w') as out:
        out.write(f.read())
from _pulpcov_map_file import ARCS, LINES, MapFile

class Raised(Exception):
    pass

def raise_at(number):
    left = [number]
    def trace(frame, event, arg):
        if frame.f_code.co_filename.endswith('_pulpcov_map_file.py') and event == 'line':
            left[0] -= 1
            if left[0] == 0:
                raise Raised()
        return trace
    return trace

def raised(number, made, kind, told):
    sys.settrace(raise_at(number))
    try:
        made.append(kind, told)
    except Raised:
        return True
    finally:
        sys.settrace(None)
    return False

VALUES = {LINES: lambda n: n, ARCS: lambda n: (n, -n)}

def told(kind, turn):
    return dict(('/%s.py' % c, [VALUES[kind](10 * turn + n) for n in range(1, 4)]) for c in 'abc'[:turn + 1])

def whole():
    for kind in VALUES:
        number, was_raised = 0, True
        while was_raised:
            number, was_raised = number + 1, False
            made = MapFile('%s/whole.%d.%d' % (sys.argv[1], kind, number), {'pid': 7})
            for turn in range(3):
                if raised(number, made, kind, told(kind, turn)):
                    made.append(kind, told(kind, turn))
                    was_raised = True

def killed():
    'Twice, the second time for good; it had more to tell by then.'
    first = second = 0
    while first == 0 or second > 1:
        first, second, was_raised = first + 1, 0, True
        while was_raised:
            second += 1
            made = MapFile('%s/killed.%d.%d' % (sys.argv[1], first, second), {'pid': 7})
            made.append(LINES, told(LINES, 0))
            was_raised = raised(first, made, LINES, told(LINES, 1)) and raised(
                second, made, LINES, {'/a/longer/name.py': [7], '/a.py': [11, 12, 13, 14], '/b.py': [11, 12, 13]})

def nested():
    'A handler appends in the middle, and has more to tell by then.'
    number, hits = 0, [1]
    while hits:
        number, hits, left = number + 1, [], [number + 1]
        made = MapFile('%s/nested.%d' % (sys.argv[1], number), {'pid': 7})
        made.append(LINES, told(LINES, 0))
        def trace(frame, event, arg):
            if frame.f_code.co_filename.endswith('_pulpcov_map_file.py') and event == 'line':
                left[0] -= 1
                if left[0] == 0:
                    hits.append(1)
                    made.append(LINES, {'/a/longer/name.py': [7], '/a.py': [11, 12, 13, 14], '/b.py': [11, 12, 13]})
            return trace
        sys.settrace(trace)
        made.append(LINES, told(LINES, 1))
        sys.settrace(None)
        made.append(LINES, {'/c.py': [21]})

whole()
killed()
nested()
";

#[test]
fn a_map_that_is_cut_off_anywhere_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(any_python())
        .args(["-B", "-c", SCRIPT])
        .arg(folder.path())
        .arg(programs::workspace().join("agent/hook"))
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let maps = |prefix: &str| {
        let names = fs::read_dir(folder.path()).expect("lists").map(|entry| entry.expect("an entry").path());
        let mut found = Vec::new();
        for path in names
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        {
            let map = map::read(&fs::read(&path).expect("reads")).expect("a map");
            assert_eq!((map.damage.clone(), map.facts.pid), (None, 7), "{}", path.display());
            found.push((path.display().to_string(), map.to_data().expect("one kind")));
        }
        found
    };
    let whole = maps("whole.");
    assert!(whole.len() > 80, "{} maps", whole.len());
    for (name, data) in whole {
        for (first, path) in (0u32..).zip(["/a.py", "/b.py", "/c.py"]) {
            let wanted = (first..3).flat_map(|turn| (1..4).map(move |n| 10 * turn + n));
            let wanted = if name.contains("whole.5.") {
                Measured::Lines(wanted.collect())
            } else {
                Measured::Arcs(wanted.map(|n| (n.cast_signed(), -n.cast_signed())).collect())
            };
            assert_eq!(data.files[path].contexts[""], wanted, "{name}: {path}");
        }
    }
    let nested = maps("nested.");
    assert!(nested.len() > 30, "{} maps", nested.len());
    for (name, data) in nested {
        let told = |path: &str| data.files.get(path).map(|file| file.contexts[""].clone());
        let lines = |lines: &[u32]| Some(Measured::Lines(lines.iter().copied().collect()));
        // Of the last nobody came in the middle.
        let was_told = told("/a/longer/name.py").is_some();
        let of_a = lines(if was_told { &[1, 2, 3, 11, 12, 13, 14] } else { &[1, 2, 3, 11, 12, 13] });
        assert_eq!(
            (told("/a.py"), told("/b.py"), told("/c.py")),
            (of_a, lines(&[11, 12, 13]), lines(&[21])),
            "{name}"
        );
    }
    let killed = maps("killed.");
    assert!(killed.len() > 1000, "{} maps", killed.len());
    for (name, data) in killed {
        let Measured::Lines(found) = &data.files["/a.py"].contexts[""] else { panic!("{name}: no lines") };
        let found: Vec<u32> = found.iter().collect();
        assert!(found.starts_with(&[1, 2, 3]), "{name}: {found:?}");
        let all = [
            ("/a.py", &[1, 2, 3, 11, 12, 13, 14][..]),
            ("/b.py", &[11, 12, 13]),
            ("/a/longer/name.py", &[7]),
        ];
        for (path, file) in &data.files {
            let told =
                all.iter().find(|(told, _)| told == path).unwrap_or_else(|| panic!("{name}: {path}")).1;
            let Measured::Lines(found) = &file.contexts[""] else { panic!("{name}: no lines") };
            assert!(found.iter().all(|line| told.contains(&line)), "{name}: {path}");
        }
    }
}

//! Many data files become few, and nothing of what they said is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::state::place;
use super::{Place, agent};

/// A record rests ten seconds before it is compacted: these have.
pub(crate) fn rested(place: &Place) {
    aged(place, Duration::from_secs(11));
}

fn aged(place: &Place, age: Duration) {
    let folder = place.work.path().join("data/.pulpcov");
    for name in names(place, "data/.pulpcov").iter().filter(|name| name.starts_with("proc.")) {
        let record = fs::File::options().write(true).open(folder.join(name)).expect("a record");
        record.set_modified(SystemTime::now() - age).expect("aged");
    }
}

const CHILDREN: u64 = 30;

/// Each child runs a function of its own.
fn forking() -> String {
    let functions: String = (0..CHILDREN).map(|n| format!("def f{n}():\n    return {n}\n")).collect();
    format!(
        "import os\n{functions}\ndef run(how):\n    for n in range({CHILDREN}):\n        pid = os.fork()\n        if pid == 0:\n            globals()['f%d' % n]()\n            os._exit(0)\n        os.waitpid(pid, 0)\n"
    )
}

fn names(place: &Place, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(place.work.path().join(folder)).expect("lists");
    entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

fn data_files(place: &Place) -> BTreeSet<String> {
    names(place, "data").into_iter().filter(|name| name.starts_with("data.")).collect()
}

/// Lines of all data files together.
fn all_lines(place: &Place) -> BTreeSet<u32> {
    let mut lines = BTreeSet::new();
    for name in data_files(place) {
        let data = pulpcov_data_file::data_file::read_path(&place.work.path().join("data").join(name));
        let Ok(data) = data else { continue };
        for file in data.files.values() {
            for measured in file.contexts.values() {
                if let pulpcov_data_file::data::Measured::Lines(found) = measured {
                    lines.extend(found.iter());
                }
            }
        }
    }
    lines
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_dead_processes_left_is_made_one_and_nothing_of_it_is_lost() {
    let place = place();
    fs::write(place.work.path().join("app/thing/main.py"), forking()).expect("written");
    assert_eq!(place.install(false)["failed"], false);
    assert!(place.run("plain").status.success());
    let words = json!({"lib_root": place.work.path().join("lib"), "at_least": 5});
    let listed = || {
        let words = json!({"lib_root": place.work.path().join("lib"), "flush_timeout": null});
        agent("collect", &words)["pulpcov"]["processes"].as_u64()
    };
    // The data files are made once somebody looks.
    let processes = listed();
    let (before, lines) = (data_files(&place), all_lines(&place));
    assert_eq!((before.len() as u64, processes), (CHILDREN + 1, Some(CHILDREN + 1)));
    aged(&place, Duration::ZERO);
    assert_eq!(agent("compact", &words)["changed"], false, "they have not rested");

    // One that is damaged, and somebody's lie about all of them.
    rested(&place);
    let ledger = place.work.path().join("data/.pulpcov");
    let child = names(&place, "data/.pulpcov")
        .into_iter()
        .filter(|name| name.starts_with("proc."))
        .map(|name| (fs::read_to_string(ledger.join(&name)).expect("a record"), name))
        .find(|(text, _)| text.contains("\"child\""))
        .expect("a child's record");
    let damaged = child.1.replace("proc.", "data.").replace(".json", "");
    let whole = fs::read(place.work.path().join("data").join(&damaged)).expect("data");
    fs::write(place.work.path().join("data").join(&damaged), &whole[..whole.len() / 2]).expect("cut");
    let lie = json!({"data": null, "boot_id": "", "generation": 1, "label": "tests", "role": "child", "unit": null,
        "python": "3", "prefix": "/", "coverage": "7", "branch": false,
        "members": names(&place, "data/.pulpcov").iter().filter(|name| name.starts_with("proc."))
            .map(|name| json!({"record": name, "pid": 1, "start_ticks": 1})).collect::<Vec<_>>()});
    fs::write(ledger.join("many.lie.json"), lie.to_string()).expect("written");
    chown(ledger.join("many.lie.json"), Some(65534), Some(65534)).expect("owned by nobody");

    let outcome = agent("compact", &words);
    assert_eq!(outcome["pulpcov"]["merged"], CHILDREN - 1, "{outcome}");
    fs::write(place.work.path().join("data").join(&damaged), &whole).expect("whole again");
    assert_eq!(data_files(&place).len(), 3, "the server's, the damaged one, and one for all the others");
    assert_eq!((all_lines(&place), listed()), (lines.clone(), processes));

    // The damaged one is whole again, and goes where the others are.
    fs::remove_file(ledger.join("many.lie.json")).expect("removed");
    let one = json!({"lib_root": place.work.path().join("lib"), "at_least": 1});
    rested(&place);
    assert_eq!(agent("compact", &one)["failed"], false);
    assert_eq!((data_files(&place).len(), all_lines(&place), listed()), (2, lines.clone(), processes));

    // A compaction that was killed before it could erase: told of once, and swept by the next.
    fs::write(ledger.join(&child.1), &child.0).expect("written");
    fs::write(place.work.path().join("data").join(&damaged), &whole).expect("written");
    assert_eq!(listed(), processes);
    agent("compact", &words);
    assert_eq!((data_files(&place).len(), all_lines(&place), listed()), (2, lines.clone(), processes));

    // The name of a compacted record is known to everybody: with it, nobody leads root to others' data.
    let victim = data_files(&place).into_iter().next().expect("data");
    let forged = child.0.replace(&damaged, &victim);
    assert_ne!(forged, child.0);
    fs::write(ledger.join(&child.1), forged).expect("written");
    chown(ledger.join(&child.1), Some(65534), Some(65534)).expect("owned by nobody");
    agent("compact", &one);
    assert!(data_files(&place).contains(&victim));
    assert_eq!(all_lines(&place), lines);
}

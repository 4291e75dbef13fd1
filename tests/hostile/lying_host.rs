//! A host of the fleet answers what it likes: it fails, or is named, and the others' numbers are what they are.

use std::fs;
use std::time::Instant;

use pulpcov_tests::lab::Lab;
use serde_json::Value;

/// Two hosts that have run alike, the first of which lies from now on.
fn lab(mode: &str) -> Lab {
    let lab = Lab::with_shop(2);
    for i in 1..=2 {
        lab.get(i, "/price/tea").expect("answers");
    }
    lies(&lab, mode);
    lab
}

/// Has the first host's sshd run a program of the host's own instead of any command.
fn lies(lab: &Lab, mode: &str) {
    let proxy = include_str!("proxy.py");
    lab.shell(
        1,
        &format!(
            "mkdir -p /opt/liar; cat > /opt/liar/proxy.py <<'END'\n{proxy}\nEND\n\
             printf 'ForceCommand /usr/bin/python3 /opt/liar/proxy.py {mode}\\n' > /etc/ssh/sshd_config.d/liar.conf; \
             systemctl restart ssh"
        ),
    );
}

fn honest(lab: &Lab) {
    lab.shell(1, "rm -f /etc/ssh/sshd_config.d/liar.conf; systemctl restart ssh");
}

/// Statements and covered lines of a run's report.
fn totals(lab: &Lab, run: &str) -> (u64, u64) {
    let text = lab.pulpcov_ends(0, &["report", run, "--json", "-"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let number = |name: &str| report["totals"][name].as_u64().expect("a number");
    (number("num_statements"), number("covered_lines"))
}

/// What the hosts really have, whoever tells it.
fn truth(lab: &Lab) -> (u64, u64) {
    honest(lab);
    lab.fleet(0, "collect", &["-o", "truth", "--keep"]);
    totals(lab, "truth")
}

/// Collects one host after the other: the liar is the first, and is believed first.
fn collect(lab: &Lab, code: i32, words: &[&str]) -> String {
    let all = [&["-o", "run", "--keep", "--forks", "1"], words].concat();
    let (ended, said) = lab.fleet_says("collect", &all);
    assert_eq!(ended, Some(code), "{said}");
    said
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_host_that_does_not_bring_what_it_promised_fails_and_stops_nobody() {
    let lab = lab("drop");
    let said = collect(&lab, 4, &[]);
    assert!(said.contains("h1  failed") && said.contains("lacks analysis/"), "{said}");
    assert!(said.contains("h2  changed"), "{said}");
    let (statements, covered) = totals(&lab, "run");
    assert_eq!((statements, covered), truth(&lab), "both ran the same");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn signs_of_life_are_no_end_of_an_op() {
    let lab = lab("heartbeat");
    let begin = Instant::now();
    let said = collect(&lab, 4, &["--op-timeout", "5"]);
    assert!(said.contains("it has not done within 5 s what it was asked (--op-timeout)"), "{said}");
    assert!(said.contains("h2  changed"), "{said}");
    assert!(begin.elapsed().as_secs() < 100, "it ended");
    lies(&lab, "flood");
    let said = collect(&lab, 4, &[]);
    assert!(said.contains("the agent floods us") && said.contains("h2  changed"), "{said}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_analysis_that_is_false_is_found_out_by_a_host_that_has_the_same_source() {
    let lab = lab("false");
    collect(&lab, 0, &[]);
    let table = lab.pulpcov(&["report", "run", "--require-complete"]);
    let said = String::from_utf8_lossy(&table.stderr);
    assert_eq!(table.status.code(), Some(3), "{said}");
    assert!(said.contains("h2 and h1 say different things of 6 files, such as shop/__init__.py"), "{said}");
    assert!(String::from_utf8_lossy(&table.stdout).contains("hosts disagree about 6 sources"));
    assert_eq!(totals(&lab, "run"), truth(&lab), "the one that finds most to run");
}

/// Lines as they are, and no branches: of the same analyses, and of those of a Python that nobody else has.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn branches_that_a_host_denies_are_found_out() {
    for mode in ["exits", "python"] {
        let lab = lab(mode);
        collect(&lab, 0, &[]);
        let table = lab.pulpcov(&["report", "run", "--require-complete"]);
        let said = String::from_utf8_lossy(&table.stderr);
        assert_eq!(table.status.code(), Some(3), "{mode}: {said}");
        assert!(said.contains("say different things of"), "{mode}: {said}");
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_coverage_that_nobody_has_is_not_believed() {
    let lab = lab("newer");
    collect(&lab, 0, &[]);
    let table = lab.pulpcov(&["report", "run", "--require-complete"]);
    assert_eq!(table.status.code(), Some(0), "{}", String::from_utf8_lossy(&table.stderr));
    assert_eq!(totals(&lab, "run"), truth(&lab));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_analysis_goes_under_no_other_name() {
    let lab = lab("relabel");
    let said = collect(&lab, 4, &[]);
    assert!(said.contains("h1  failed") && said.contains("says of several sources that"), "{said}");
    let (statements, covered) = totals(&lab, "run");
    assert_eq!((statements, covered), truth(&lab));
}

/// Six sources that nobody lists, of 17 MiB and of 500: three megabytes on the wire.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn sources_that_nobody_lists_are_not_taken_nor_held() {
    let lab = lab("sources");
    let said = collect(&lab, 4, &[]);
    assert!(said.contains("h1  failed") && said.contains("the limit is 16777216"), "{said}");
    // The same in a bundle that somebody brings.
    honest(&lab);
    lab.fleet(0, "collect", &["-o", "whole", "--keep"]);
    let bundle = lab.path("whole/hosts/h1/bundle-0001.tar.gz");
    let make = "import sys; sys.argv[1:] = ['huge']; source = open(sys.stdin.readline().strip()).read()\n\
                exec(source.rsplit('\\nmain()', 1)[0])\n\
                name = sys.stdin.readline().strip(); data = open(name, 'rb').read(); open(name, 'wb').write(change_bundle(data))";
    let proxy = concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/proxy.py");
    let work = lab.path("names");
    fs::write(&work, format!("{proxy}\n{}\n", bundle.display())).expect("written");
    let made = std::process::Command::new("python3")
        .args(["-c", make])
        .stdin(fs::File::open(&work).expect("opens"))
        .output()
        .expect("python runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let html = lab.path("html").to_string_lossy().into_owned();
    let program = pulpcov_tests::programs::pulpcov().to_string_lossy().into_owned();
    let output = lab
        .command("prlimit")
        .args(["--as=2147483648", "--", &program, "report", "whole", "--html", &html])
        .current_dir(lab.path(""))
        .output()
        .expect("prlimit runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("host h1:") && said.contains("the limit is 16777216"), "{said}");
}

//! A user of a host without any rights, who can write where data lies, as everybody can: nothing of it changes a number
//! unseen, or keeps a host's data from being fetched.

use pulpcov_tests::lab::Lab;
use serde_json::Value;

/// Runs a Python program on the first host as a user who has no rights there. It knows the records and the files of
/// the data directory.
fn as_stranger(lab: &Lab, program: &str) -> String {
    let head = "import glob, json, os, sqlite3\nos.chdir('/srv/pulp_coverage')\n\
        records = {name: json.load(open(name)) for name in glob.glob('.pulpcov/proc.*.json')}\n\
        def forge(suffix, **words):\n\
        \x20   record = dict(list(records.values())[0], continues=None, proof=None, error=None, packages={}, folders={})\n\
        \x20   record.update(words)\n\
        \x20   json.dump(record, open('.pulpcov/proc.%s.json' % suffix, 'w'))\n";
    lab.shell(1, &format!("runuser -u plain -- python3 - <<'END'\n{head}{program}\nEND"))
}

fn report(lab: &Lab, run: &str) -> Value {
    serde_json::from_str(&lab.pulpcov_ends(0, &["report", run, "--json", "-"])).expect("JSON")
}

/// How a gate of completeness ends, and the headline.
fn gate(lab: &Lab, run: &str, words: &[&str]) -> (Option<i32>, String) {
    let all = [&["report", run, "--require-complete"], words].concat();
    let output = lab.pulpcov(&all);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_flood_of_files_costs_nobody_but_its_owner() {
    let lab = Lab::with_shop(1);
    lab.get(1, "/price/tea").expect("answers");
    lab.fleet(0, "collect", &["-o", "before", "--keep"]);
    as_stranger(
        &lab,
        "record = list(records.values())[0]\n\
         forge('flood', pid=1, argv=['x' * 900000], ended='exit', data=None)\n\
         for n in range(300): os.link('.pulpcov/proc.flood.json', '.pulpcov/proc.flood%d.json' % n)\n\
         for n in range(2000): forge('many%d' % n, pid=n + 100000, ended='exit', data=None, argv=['y' * 5000])\n\
         with open('data.sparse', 'wb') as f:\n\
         \x20   f.write(b'SQLite format 3\\0'); f.truncate(500 << 20)\n\
         for n in range(34): os.link('data.sparse', 'data.sparse%d' % n)\n\
         for n in range(40000): open('name%d' % n, 'w').close()\n",
    );
    let (code, said) = lab.fleet_says("collect", &["-o", "after", "--keep"]);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "data.sparse, data.sparse0, data.sparse1 and 32 more are left alone: it has several names (hard links)",
        "38000 files of user 1002 are left alone: beyond that user's share",
        "1000 files of user 1002 are no process records: beyond that user's share",
        "user 1002 is none of the service's, and tells of 1000 processes",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.len() < 20_000, "warnings are counted: {} bytes", said.len());
    assert_eq!(report(&lab, "after")["totals"], report(&lab, "before")["totals"]);
    lab.fleet(0, "status", &[]);
    lab.fleet(0, "collect", &["-o", "after"]);
    lab.fleet(0, "uninstall", &["--restart"]);
}

#[test]
fn a_strangers_record_ends_nobody_takes_no_data_and_vouches_for_none() {
    let mut lab = Lab::with_shop(1);
    lab.get(1, "/price/tea").expect("answers");
    lab.post(1, "/order/wait/1").expect("orders are taken");
    lab.wait("the job's child", |lab| lab.shell(1, "pgrep -cf '[s]hop-worker' || true").trim() == "2");
    lab.fleet(0, "collect", &["-o", "first", "--keep"]);
    lab.shell(1, "kill -KILL $(pgrep -f '[s]hop-worker')");
    // In the name of a process that died, of a live one, and of whoever wrote some data.
    as_stranger(
        &lab,
        "for n, (name, record) in enumerate(sorted(records.items())):\n\
         \x20   forge('forged.%d.aa%d' % (record['pid'], n), pid=record['pid'], start_ticks=record['start_ticks'],\n\
         \x20         ended='exit', data=record['data'], label='mine', role='mine', continues=os.path.basename(name), proof='x')\n\
         live = 1\n\
         ticks = int(open('/proc/%d/stat' % live).read().rpartition(')')[2].split()[19])\n\
         forge('vouch', pid=live, start_ticks=ticks, data=None, ended=None)\n",
    );
    let (_, said) = lab.fleet_says("collect", &["-o", "run", "--keep"]);
    assert!(said.contains("it names a data file that is not its own"), "{said}");
    assert!(said.contains("whose process that is not"), "{said}");
    let made = report(&lab, "run");
    let processes = made["hosts"]["h1"]["processes"].as_array().expect("processes").clone();
    assert!(processes.iter().all(|process| process["role"] != "mine"), "{processes:?}");
    assert_eq!(processes.iter().filter(|process| process["state"] == "died").count(), 2, "{processes:?}");
    assert!(made["labels"]["mine"].is_null() && made["roles"]["mine"].is_null(), "{}", made["labels"]);
    let (code, said) = gate(&lab, "run", &[]);
    assert!(code == Some(3) && said.contains("2 died unsaved"), "{said}");
}

#[test]
fn data_that_no_process_wrote_is_taken_and_named_and_not_complete() {
    let lab = Lab::with_shop(1);
    lab.get(1, "/price/tea").expect("answers");
    lab.fleet(0, "collect", &["-o", "before", "--keep"]);
    assert_eq!(gate(&lab, "before", &[]).0, Some(0));
    let made = as_stranger(
        &lab,
        "import subprocess\n\
         name = glob.glob('data.*')[0]\n\
         open('data.friend.1.aa', 'wb').write(open(name, 'rb').read())\n\
         db = sqlite3.connect('data.friend.1.aa')\n\
         db.execute('insert or ignore into arc select file.id, context.id, -1, n from file, context, (with recursive c(n) as (select 1 union all select n + 1 from c where n < 60) select n from c)')\n\
         db.commit()\n\
         print(db.execute('select count(*) from arc').fetchone()[0])\n\
         forge('stranger', pid=9, ended='exit', data='data.stranger')\n\
         open('data.stranger', 'wb').write(open('data.friend.1.aa', 'rb').read())\n",
    );
    assert!(made.trim().parse::<u32>().expect("a number") > 60);
    lab.fleet(0, "collect", &["-o", "run", "--keep"]);
    let (code, said) = gate(&lab, "run", &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("with 2 data files of no process of the service"), "{said}");
    assert!(said.contains("host h1: no process of the service tells of 2 data files of user"), "{said}");
    assert_eq!(gate(&lab, "run", &["--trust-extra"]).0, Some(0), "people put files there");
    // It can be told apart, and left out.
    let without = lab.pulpcov_ends(0, &["report", "run", "--select", "!role:extra", "--json", "-"]);
    let without: Value = serde_json::from_str(&without).expect("JSON");
    let before = report(&lab, "before");
    assert_eq!(without["totals"]["covered_lines"], before["totals"]["covered_lines"]);
    assert!(
        report(&lab, "run")["totals"]["covered_lines"].as_u64() > before["totals"]["covered_lines"].as_u64()
    );
}

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
pub(crate) fn gate(lab: &Lab, run: &str, words: &[&str]) -> (Option<i32>, String) {
    let all = [&["report", run, "--require-complete"], words].concat();
    let output = lab.pulpcov(&all);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
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
#[ignore = "needs root and Debian: hosts in namespaces"]
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
#[ignore = "needs root and Debian: hosts in namespaces"]
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

/// A process of his own that says that it cannot write, and a folder where the service's users are noted.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_strangers_process_is_waited_for_by_nobody_and_his_folder_is_in_nobodys_way() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    // As in the middle of an install: the folder is there, and nothing of root's in it.
    lab.shell(
        1,
        "D=/srv/pulp_coverage/.pulpcov; install -d -m 1777 /srv/pulp_coverage $D; \
         runuser -u plain -- mkdir -p $D/users/x $D/session/x $D/flush/x",
    );
    lab.install();
    lab.wait_for_shop();
    lab.shell(1, "systemd-run --quiet --unit strange --uid plain /bin/sleep 1000000");
    let pid = lab.shell(1, "systemctl show -p MainPID --value strange").trim().to_owned();
    as_stranger(
        &lab,
        &format!(
            "ticks = int(open('/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[19])\n\
             forge('h1.{pid}.aa', pid={pid}, start_ticks=ticks, ended=None, data=None, unit='shop-web.service',\n\
             \x20     error='No space left on device')\n\
             forge('elsewhere', pid=7, start_ticks=7, ended=None, data=None, boot_id='x', hostname='nowhere', pid_ns='pid:[1]')\n"
        ),
    );
    let status = lab.fleet(0, "status", &[]);
    assert!(!status.contains("cannot write"), "{status}");
    lab.get(1, "/price/tea").expect("answers");
    let (code, said) = lab.fleet_says("collect", &["-o", "run"]);
    let words = "user 1002 is none of the service's, and tells of 2 processes";
    assert!(code == Some(0) && said.contains(words), "{said}");
    let (code, said) = gate(&lab, "run", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("could not record"), "{said}");
    // Nor does who says that he runs elsewhere keep the folder.
    let said = lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    assert!(!said.contains("is left to"), "{said}");
    assert_eq!(lab.shell(1, "ls -A /srv/pulp_coverage"), "");
}

/// A record tells under which name its process is going to write.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn who_sits_on_the_name_of_a_processs_data_keeps_nothing_from_being_written() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.install();
    lab.wait_for_shop();
    lab.fleet(0, "reset", &["--label", "squat"]);
    let squat = "for name in records:\n\
        \x20   data = 'data.' + os.path.basename(name)[5:-5]\n\
        \x20   if not os.path.exists(data):\n\
        \x20       open(data, 'w').write('mine')\n\
        \x20       print(data)\n";
    assert!(as_stranger(&lab, squat).lines().count() > 2);
    lab.get(1, "/cheapest").expect("answers");
    lab.post(1, "/order/ship/1").expect("orders are taken");
    lab.wait("the order to be done", |lab| lab.get(1, "/done").is_some_and(|text| text.contains('1')));
    lab.fleet(0, "collect", &["-o", "run"]);
    let (code, said) = gate(&lab, "run", &[]);
    assert_eq!(code, Some(0), "{said}");
    let ran = report(&lab, "run")["files"]["shop/jobs.py"]["summary"]["covered_lines"].as_u64();
    assert!(ran.is_some_and(|lines| lines > 8), "{ran:?}");
}

/// Code that somebody else brings to a host than root and the service's users.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn code_of_a_user_who_deploys_is_read_once_he_is_named() {
    let mut lab = Lab::start(1);
    lab.shell(1, "chown -R plain: /opt/shop");
    lab.inventory("");
    let doctor = lab.fleet_command("doctor", &[]).output().expect("pulpcov runs");
    let said = String::from_utf8_lossy(&[doctor.stdout, doctor.stderr].concat()).into_owned();
    let words = "the code in /opt/shop/shop will not be read: user 1002 can change it";
    assert!(said.contains(words) && said.contains("pulpcov_users"), "{said}");
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    lab.inventory("    pulpcov_users: [plain]\n");
    let (_, said) = lab.fleet_says("install", &["--wheelhouse", &wheels, "--check"]);
    assert!(!said.contains("will not be read"), "nothing is noted yet: {said}");
    lab.inventory("");
    let install = |lab: &Lab| lab.fleet_says("install", &["--wheelhouse", &wheels, "--restart"]).1;
    let said = install(&lab);
    assert!(said.contains(words), "{said}");
    lab.inventory("    pulpcov_users: [plain, nobody-here]\n");
    let doctor = lab.fleet_command("doctor", &[]).output().expect("pulpcov runs");
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("does not know: nobody-here"));
    let said = install(&lab);
    assert!(!said.contains(words) && said.contains("does not know: nobody-here"), "{said}");
    lab.wait_for_shop();
    lab.get(1, "/price/tea").expect("answers");
    lab.fleet(0, "collect", &["-o", "run"]);
    let (code, said) = gate(&lab, "run", &[]);
    assert_eq!(code, Some(0), "{said}");
}

/// What he has analysed in the service's place would be the whole fleet's, and what he has read would be root's.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn code_that_a_stranger_can_write_is_not_read_and_not_analysed() {
    let mut lab = Lab::start(1);
    // No units and no users: nobody is a stranger by what the inventory says.
    let profile = std::fs::read_to_string(pulpcov_tests::shop::profile()).expect("a profile");
    let profile = profile.lines().filter(|line| !line.starts_with("units:")).collect::<Vec<_>>().join("\n");
    let path = lab.path("profile.yml");
    std::fs::write(&path, profile).expect("written");
    lab.inventory_of(&path, "    pulpcov_interpreters: [/usr/bin/python3]\n");
    let wheels = pulpcov_tests::python::wheelhouse();
    lab.fleet(0, "install", &["--wheelhouse", &wheels.to_string_lossy()]);
    lab.shell(1, "systemctl restart shop-web shop-worker");
    lab.wait_for_shop();
    lab.get(1, "/price/tea").expect("answers");
    lab.fleet(0, "collect", &["-o", "before", "--keep"]);
    lab.shell(1, "mkdir -p -m 700 /srv/hidden/shop; echo 'secret = 1' > /srv/hidden/shop/secret.py");
    as_stranger(
        &lab,
        "os.makedirs('/home/plain/shop', exist_ok=True)\n\
         for name in ('__init__', 'catalogue', 'jobs', 'queue', 'web', 'worker'):\n\
         \x20   open('/home/plain/shop/%s.py' % name, 'w').write('pass\\n')\n\
         os.symlink('/srv/hidden', '/home/plain/app')\n\
         data = glob.glob('data.*')[0]\n\
         open('data.place', 'wb').write(open(data, 'rb').read())\n\
         db = sqlite3.connect('data.place')\n\
         db.execute('update file set path = (case id when 1 then \"/home/plain/app/shop/secret.py\" else \"/home/plain/shop/web.py\" end) where id in (1, 2)')\n\
         db.commit()\n\
         for prefix in {record['prefix'] for record in records.values()}:\n\
         \x20   forge('place', pid=9, ended='exit', data='data.place', prefix=prefix,\n\
         \x20         packages={'shop': '/home/plain/shop/__init__.py'}, folders={'shop': ['/home/plain/shop']})\n",
    );
    lab.fleet(0, "collect", &["-o", "run", "--keep"]);
    let bundle = lab.path("run/hosts/h1/bundle-0001.tar.gz");
    let unpacked = std::process::Command::new("tar").arg("-xzOf").arg(&bundle).output().expect("tar runs");
    let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(!text.contains("secret = 1"), "only root may read it");
    let (before, now) = (report(&lab, "before"), report(&lab, "run"));
    assert_eq!(now["totals"]["num_statements"], before["totals"]["num_statements"], "the service's own code");
    let (code, said) = gate(&lab, "run", &["--trust-extra"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("user 1002 can change it, who is none of the service's"), "{said}");
}

/// A virtual environment of the service's user, whose start runs what he has put there: before Python's own modules, too.
/// It says of itself what `/tmp/lie` has.
pub(crate) const ENVIRONMENT: &str = r#"
install -d -m 1777 /tmp/ran
python3 -m venv --system-site-packages --without-pip /opt/venv
S=$(echo /opt/venv/lib/python3*/site-packages)
cat > $S/mark.py <<'EOF'
import os
def ran(name):
    try:
        open("/tmp/ran/%s-%d" % (name, os.getuid()), "a").close()
    except OSError:
        pass
EOF
cat > $S/sitecustomize.py <<'EOF'
import mark
mark.ran("sitecustomize")
EOF
cat > $S/json.py <<'EOF'
import sys
import mark
mark.ran("json")
ours = sys.path.pop(0)
del sys.modules["json"]
import json as real
sys.path.insert(0, ours)
sys.modules["json"] = real
EOF
cat > $S/evil.py <<'EOF'
import os, sys, sysconfig
sys.path.insert(0, os.path.dirname(__file__))
import mark
mark.ran("pth")
if os.path.exists("/tmp/lie"):
    exec(open("/tmp/lie").read())
EOF
echo 'import evil' > $S/evil.pth
chown -R shop:shop /opt/venv
mkdir -p /etc/systemd/system/shop-web.service.d
printf '[Service]\nExecStart=\nExecStart=/opt/venv/bin/python3 /usr/bin/gunicorn --workers 2 --bind 0.0.0.0:8000 shop.web:app\n' \
    > /etc/systemd/system/shop-web.service.d/venv.conf
systemctl daemon-reload
systemctl restart shop-web
"#;

/// What root writes, it writes where the service's user could have written himself.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn what_a_users_python_says_of_itself_leads_root_nowhere() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.shell(1, ENVIRONMENT);
    lab.wait("the shop to start", |lab| lab.get(1, "/cheapest").is_some());
    lab.shell(1, "install -d -m 700 /srv/victim; echo kept > /srv/victim/file");
    let roots = |lab: &Lab| {
        lab.shell(1, "find /srv/victim /usr/local/lib/python3* /usr/lib/python3/dist-packages -newer /tmp/lie; cat /srv/victim/file")
    };
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    for (lie, words) in [
        (
            "sysconfig.get_path = lambda *a, **k: '/usr/local/lib/python%d.%d/dist-packages' % sys.version_info[:2]",
            "is not for user",
        ),
        ("sysconfig.get_path = lambda *a, **k: '/usr/lib/python3/dist-packages'", "is not for user"),
        ("sys.implementation.cache_tag += '/../../../../srv/victim'", "which no Python does"),
        ("sys.prefix += chr(10)", "which no Python does"),
    ] {
        lab.shell(1, &format!("cat > /tmp/lie <<'END'\n{lie}\nEND"));
        for verb in ["doctor", "install"] {
            let more = ["--wheelhouse", &wheels];
            let more: &[&str] = if verb == "install" { &more } else { &[] };
            let output = lab.fleet_command(verb, more).output().expect("pulpcov runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.code() == Some(4) && said.contains(words), "{lie}: {verb}: {said}");
            assert_eq!(roots(&lab), "kept\n", "{lie}: {verb}");
        }
    }
    lab.shell(1, "rm -f /tmp/lie /tmp/ran/*; python3 -c pass");
    assert_eq!(lab.shell(1, "ls /tmp/ran"), "", "root's Python runs nothing of it");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn root_runs_nothing_that_the_services_user_can_write() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.shell(1, ENVIRONMENT);
    let ran = |lab: &Lab| {
        lab.shell(1, "ls /tmp/ran; rm -f /tmp/ran/*").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let is_shops = |ran: &str, uid: &str| ran.split(' ').all(|mark| mark.ends_with(&format!("-{uid}")));
    let shop = lab.shell(1, "id -u shop").trim().to_owned();
    lab.wait("the shop to start", |lab| lab.get(1, "/cheapest").is_some());
    let all = format!("json-{shop} pth-{shop} sitecustomize-{shop}");
    assert_eq!(ran(&lab), all, "its own start");
    lab.fleet(0, "doctor", &[]);
    assert_eq!(ran(&lab), all, "doctor asks the interpreter, as its owner");
    lab.install();
    lab.wait_for_shop();
    assert_eq!(ran(&lab), all);
    // Two owners' code lies apart: byte code of the one is nothing for the other.
    let code =
        lab.shell(1, "ls -d /usr/local/lib/pulpcov/coverage-* /usr/local/lib/pulpcov/user-*/coverage-*");
    assert_eq!(code.lines().count(), 2, "{code}");
    lab.get(1, "/price/tea").expect("answers");
    for (verb, words) in [
        ("status", &[][..]),
        ("collect", &["-o", "run"]),
        ("reset", &["--label", "tests2"]),
        ("install", &[]),
    ] {
        lab.fleet(0, verb, words);
    }
    lab.get(1, "/price/tea").expect("answers");
    lab.post(1, "/order/ship/1").expect("orders are taken");
    lab.wait("the order to be done", |lab| lab.get(1, "/done").is_some_and(|text| text.contains('1')));
    lab.fleet(0, "collect", &["-o", "run"]);
    assert_eq!(ran(&lab), all);
    let (code, said) = gate(&lab, "run", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        report(&lab, "run")["hosts"]["h1"]["files"]["shop/web.py"].is_object(),
        "the environment is recorded"
    );
    lab.fleet(0, "uninstall", &["--restart"]);
    lab.fleet(0, "collect", &["-o", "run"]);
    let seen = ran(&lab);
    assert!(seen.is_empty() || is_shops(&seen, &shop), "{seen}");
    // Where anybody could have put anything, it is run as nobody.
    lab.shell(1, "chmod 777 /opt/venv/lib/python3*/site-packages");
    let wheels = pulpcov_tests::python::wheelhouse();
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels.to_string_lossy()]);
    assert!(code == Some(4) && said.contains("everybody can write to"), "{said}");
}

/// The folder of the environment's packages, and a link into root's own in its place, in turn.
const SWAPPED: &str = r#"
mkdir -p /srv/roots/own
cd /opt/venv/lib/python3*
ln -s /srv/roots/own other
chown -h shop:shop other
cat > /opt/swap.py <<'EOF'
import ctypes, random, time
libc = ctypes.CDLL(None, use_errno=True)
EXCHANGE = 2
while True:
    if libc.renameat2(-100, b"site-packages", -100, b"other", EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")
    time.sleep(random.random() / 4)
EOF
systemd-run --quiet --unit swap --uid shop --working-directory "$PWD" /usr/bin/python3 /opt/swap.py
"#;

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn who_swaps_folders_while_root_writes_has_nothing_written_elsewhere() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.shell(1, ENVIRONMENT);
    lab.wait("the shop to start", |lab| lab.get(1, "/cheapest").is_some());
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    lab.shell(1, SWAPPED);
    let roots = |lab: &Lab| lab.shell(1, "stat -c '%n %U %a %Y %Z' /srv/roots/own; ls -A /srv/roots/own");
    let before = roots(&lab);
    let mut said = Vec::new();
    for _ in 0..8 {
        said.push(lab.fleet_says("install", &["--wheelhouse", &wheels]));
        said.push(lab.fleet_says("uninstall", &[]));
        assert_eq!(roots(&lab), before, "{said:?}");
    }
    assert_eq!(lab.shell(1, "systemctl is-active swap").trim(), "active", "it went on all the time");
    let was_in_the_way = |said: &str| said.contains("link of user") || said.contains("is not for user");
    assert!(said.iter().any(|(_, said)| was_in_the_way(said)), "{said:?}");
    // Nothing of that stays in the way of an honest install.
    lab.shell(
        1,
        "systemctl stop swap; cd /opt/venv/lib/python3*; \
         if [ -L site-packages ]; then rm site-packages; mv other site-packages; else rm other; fi",
    );
    lab.fleet(0, "uninstall", &[]);
    lab.install();
    lab.wait_for_shop();
    lab.get(1, "/price/tea").expect("answers");
    lab.fleet(0, "collect", &["-o", "run"]);
    assert_eq!(gate(&lab, "run", &[]).0, Some(0));
    lab.fleet(0, "uninstall", &["--restart"]);
    assert_eq!(roots(&lab), before);
}

//! Two fleets with one host in common: the second is refused by the name of the first.

use std::io::Write;

use pulpcov_tests::lab::Lab;
use pulpcov_tests::python;

/// One host, and inventories of it.
struct Shared {
    lab: Lab,
    wheels: String,
}

impl Shared {
    fn start() -> Self {
        Self { lab: Lab::start(1), wheels: python::wheelhouse().to_string_lossy().into_owned() }
    }

    /// An inventory of the shop, or of one of its units by the profile `generic`.
    fn fleet(&self, file: &str, name: &str, profile: &str) -> String {
        let vars = if name.is_empty() { String::new() } else { format!("    pulpcov_fleet: {name}\n") };
        let packages = if profile == "generic" {
            "    pulpcov_packages: [shop]\n    pulpcov_units: [shop-web.service]\n"
        } else {
            ""
        };
        let path = match profile {
            "generic" => std::path::Path::new("generic").to_owned(),
            _ => pulpcov_tests::shop::profile(),
        };
        let written = self.lab.inventory_of(&path, &format!("{vars}{packages}"));
        let own = self.lab.path(file);
        std::fs::rename(written, &own).expect("moved");
        own.to_string_lossy().into_owned()
    }

    fn says(&self, inventory: &str, verb: &str, words: &[&str]) -> (Option<i32>, String) {
        let known = self.lab.path("known_hosts").to_string_lossy().into_owned();
        let wheels: &[&str] = if verb == "install" { &["--wheelhouse", &self.wheels] } else { &[] };
        let all = [&["fleet", verb, inventory, "--known-hosts", &known], wheels, words].concat();
        let output = self.lab.pulpcov(&all);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn services(&self, action: &str, inventory: &str) -> (Option<i32>, String) {
        let known = self.lab.path("known_hosts").to_string_lossy().into_owned();
        let output =
            self.lab.pulpcov(&["fleet", "services", action, inventory, "--known-hosts", &known, "--check"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Each op that a host of another fleet refuses, with the words of the refusal.
    fn refuses(&self, inventory: &str, words: &str) {
        for verb in ["install", "collect", "reset", "uninstall"] {
            let (code, said) = self.says(inventory, verb, &[]);
            assert!(code == Some(4) && said.contains(words), "{verb}: {said}");
        }
        for action in ["start", "stop", "restart"] {
            let (code, said) = self.services(action, inventory);
            assert!(code == Some(4) && said.contains(words), "{action}: {said}");
        }
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn without_a_name_it_is_the_inventory_that_counts() {
    let shared = Shared::start();
    let first = shared.fleet("first.yml", "", "shop");
    assert_eq!(shared.says(&first, "install", &[]).0, Some(0));
    let other = shared.fleet("other.yml", "", "generic");
    shared.refuses(&other, "this host records shop for the fleet of /");
    // Also with the same service.
    let second = shared.fleet("second.yml", "", "shop");
    let edit = |path: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("there");
        file.write_all(b"# of today\n").expect("written");
    };
    shared.refuses(&second, "first.yml, and this is another inventory");
    // What is edited where it is, is the same.
    edit(&first);
    assert_eq!(shared.says(&first, "reset", &[]).0, Some(0));
    // Its own fleet may give it a name, which others then need.
    let own = std::fs::read_to_string(&first).expect("read");
    std::fs::write(&first, own.replacen("vars:\n", "vars:\n    pulpcov_fleet: mill\n", 1)).expect("written");
    let (code, said) = shared.says(&first, "install", &["--check"]);
    assert!(
        code == Some(0) && said.contains("h1  changed      would make the host the fleet mill's"),
        "{said}"
    );
    let (code, said) = shared.says(&first, "install", &[]);
    assert!(
        code == Some(0) && said.contains("already installed, and the fleet mill's from now on"),
        "{said}"
    );
    std::fs::write(&first, own).expect("written");
    shared.refuses(&first, "this host belongs to the fleet mill (/");
    assert_eq!(shared.says(&first, "install", &["--take-over"]).0, Some(0));
    // A name is no right to the host of those who have none.
    let named = shared.fleet("named.yml", "bakery", "shop");
    shared.refuses(&named, "first.yml, and this is another inventory");
    let (code, said) = shared.says(&named, "install", &["--take-over", "--check"]);
    assert!(code == Some(0) && said.contains("h1  changed      would make the host this fleet's"), "{said}");
    shared.refuses(&named, "first.yml, and this is another inventory");
    let (code, said) = shared.says(&named, "install", &["--take-over"]);
    assert!(code == Some(0) && said.contains("already installed, and this fleet's from now on"), "{said}");
    let (code, said) = shared.says(&named, "install", &["--take-over"]);
    assert!(code == Some(0) && said.contains("ok in ") && !said.contains("from now on"), "{said}");
    shared.refuses(&first, "this host belongs to the fleet bakery (/");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_name_protects() {
    let shared = Shared::start();
    let named = shared.fleet("named.yml", "bakery", "shop");
    assert_eq!(shared.says(&named, "install", &[]).0, Some(0));
    assert!(!shared.says(&named, "reset", &[]).1.contains("warning"));
    let first = shared.fleet("first.yml", "", "shop");
    let thief = shared.fleet("thief.yml", "burglars", "shop");
    for inventory in [&first, &thief] {
        shared.refuses(inventory, "this host belongs to the fleet bakery (/");
    }
    // Also where it changes what is recorded.
    let vars = std::fs::read_to_string(&thief).expect("read");
    let name = "    pulpcov_fleet: burglars\n";
    std::fs::write(&thief, vars.replace(name, &format!("{name}    pulpcov_interval: 7\n"))).expect("written");
    let (code, said) = shared.says(&thief, "install", &["--take-over"]);
    let told = said.contains("installed for 1 interpreter, and this fleet's from now on");
    assert!(code == Some(0) && told, "{said}");
    let (code, said) = shared.says(&named, "uninstall", &[]);
    assert!(code == Some(4) && said.contains("belongs to the fleet burglars"), "{said}");
    // What an uninstall leaves is still its fleet's, until it is collected.
    let (code, said) = shared.says(&thief, "install", &["--restart"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = shared.says(&thief, "uninstall", &["--restart"]);
    assert!(code == Some(0) && said.contains("still to be collected"), "{said}");
    let (code, said) = shared.says(&first, "install", &[]);
    assert!(code == Some(4) && said.contains("belongs to the fleet burglars"), "{said}");
    assert_eq!(shared.says(&thief, "collect", &["-o", "loot"]).0, Some(0));
    assert_eq!(shared.says(&first, "install", &[]).0, Some(0));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn what_was_taken_over_is_not_passed_over() {
    let shared = Shared::start();
    let first = shared.fleet("first.yml", "", "shop");
    let other = shared.fleet("other.yml", "", "generic");
    assert_eq!(shared.says(&first, "install", &["--restart"]).0, Some(0));
    // The first's services are not this one's to restart.
    let (code, said) = shared.says(&other, "install", &["--take-over", "--restart"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = shared.says(&other, "uninstall", &["--restart"]);
    assert!(
        code == Some(0)
            && said
                .contains("1 process keeps the hook in memory until somebody restarts shop-worker.service"),
        "{said}"
    );
    // Nothing is recorded any more: there is only data, and who may fetch it.
    let (code, said) = shared.says(&first, "install", &[]);
    assert!(
        code == Some(4)
            && said.contains("/srv/pulp_coverage holds data of generic that ")
            && said.contains("still to collect"),
        "{said}"
    );
    assert_eq!(shared.says(&other, "uninstall", &["--erase-data"]).0, Some(0));
}

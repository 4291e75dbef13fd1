//! One host to act on: how to reach it, how to become root, what to measure.

use std::path::PathBuf;
use std::sync::Arc;

use pulpcov_protocol::fleet::Fleet;
use pulpcov_protocol::op::DEFAULT_LIB_ROOT;
use pulpcov_protocol::profile::{ProcessRule, RecorderChoice};
use pulpcov_protocol::ready::Ready;
use serde_json::Value;

use crate::inventory::model::groups::Inventory;
use crate::inventory::vars::getter::{Getter, HostVarError};
use crate::inventory::vars::sought::Sought;
use crate::inventory::{BecomeMethod, Connection};

/// A host with everything that the inventory says of it.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// By which way it is reached, where the inventory says so.
    pub(crate) connection: Option<Connection>,
    /// What it stands for, where that is more than itself.
    pub(crate) sought: Option<Box<Sought>>,
    /// Name or address to connect to.
    pub(crate) address: String,
    /// The inventory's; ssh_config may know another.
    pub(crate) port: Option<u16>,
    pub(crate) user: Option<String>,
    pub(crate) private_key: Option<PathBuf>,
    pub(crate) password: Option<String>,
    /// Arguments of ssh.
    pub(crate) ssh_args: Vec<String>,
    pub(crate) r#become: Become,
    pub(crate) pulpcov: PulpcovVars,
}

impl Host {
    /// Where pulpcov's own files live there.
    pub(crate) fn lib_root(&self) -> String {
        self.pulpcov.lib_root.clone().unwrap_or_else(|| DEFAULT_LIB_ROOT.to_owned())
    }
}

/// Whether to become root, and how.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Become {
    pub(crate) wanted: bool,
    pub(crate) method: Option<BecomeMethod>,
    /// The program, where it is not the method's own name.
    pub(crate) exe: Option<String>,
    pub(crate) password: Option<String>,
}

/// `pulpcov_*` variables.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PulpcovVars {
    pub(crate) fleet: Option<String>,
    /// The inventory's place, where hosts know the fleet by another one; none where they do not.
    pub(crate) fleet_of: Vec<String>,
    pub(crate) profile: Option<String>,
    pub(crate) data_root: Option<String>,
    pub(crate) lib_root: Option<String>,
    pub(crate) host_label: Option<String>,
    pub(crate) interpreters: Vec<String>,
    pub(crate) packages: Vec<String>,
    pub(crate) units: Vec<String>,
    pub(crate) users: Vec<String>,
    pub(crate) processes: Vec<ProcessRule>,
    pub(crate) ready: Vec<Ready>,
    pub(crate) stop_command: Option<String>,
    pub(crate) start_command: Option<String>,
    pub(crate) branch: Option<bool>,
    pub(crate) interval: Option<f64>,
    pub(crate) recorder: Option<RecorderChoice>,
}

impl Inventory {
    /// What the variables of `name` come to. A variable that would change how the host is reached and
    /// that is not understood is refused: going to the wrong host, or as the wrong user, is worse.
    pub(crate) fn host(self: &Arc<Self>, name: &str) -> Result<Host, HostVarError> {
        let vars = self.vars_of(name);
        let get = Getter { inventory: self, host: name, vars: &vars };
        get.refuse_what_is_not_understood()?;
        let address = get.text(&["ansible_host", "ansible_ssh_host"])?.unwrap_or_else(|| name.to_owned());
        let port = get.port(&["ansible_port", "ansible_ssh_port"])?;
        let mut interpreters = get.list("pulpcov_interpreters")?;
        if interpreters.is_empty() {
            let named = get.text(&["ansible_python_interpreter"])?;
            interpreters.extend(named.filter(|python| python.starts_with('/')));
        }
        let sought = get.sought()?;
        Ok(Host {
            name: name.to_owned(),
            connection: if sought.is_some() { None } else { get.connection()? },
            sought: sought.map(Box::new),
            address,
            port,
            user: get.text(&["ansible_user", "ansible_ssh_user"])?,
            private_key: get
                .text(&["ansible_private_key_file", "ansible_ssh_private_key_file"])?
                .map(expand_home),
            password: get.text(&["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"])?,
            ssh_args: get.ssh_args()?,
            r#become: get.r#become()?,
            pulpcov: PulpcovVars {
                fleet: get.fleet()?,
                fleet_of: get.fleet_of()?,
                profile: get.text(&["pulpcov_profile"])?,
                data_root: get.text(&["pulpcov_data_root"])?,
                lib_root: get.text(&["pulpcov_lib_root"])?,
                host_label: get.text(&["pulpcov_host_label"])?,
                interpreters,
                packages: get.list("pulpcov_packages")?,
                units: get.list("pulpcov_units")?,
                users: get.list("pulpcov_users")?,
                processes: get.items("pulpcov_processes", "list of process rules")?,
                ready: get.items("pulpcov_ready", "list of what is there once the service is ready")?,
                stop_command: get.text(&["pulpcov_stop_command"])?,
                start_command: get.text(&["pulpcov_start_command"])?,
                branch: get.flag(&["pulpcov_branch"])?,
                interval: get.number("pulpcov_interval")?,
                recorder: get.recorder()?,
            },
        })
    }
}

pub(crate) fn expand_home(path: String) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

impl Getter<'_> {
    fn fleet(&self) -> Result<Option<String>, HostVarError> {
        const NAME: &str = "pulpcov_fleet";
        match self.text(&[NAME])? {
            Some(name) if !Fleet::is_name(&name) => {
                Err(self.wrong(NAME.to_owned(), &Value::String(name), "name of at most 64 letters"))
            }
            name => Ok(name),
        }
    }

    fn fleet_of(&self) -> Result<Vec<String>, HostVarError> {
        const NAME: &str = "pulpcov_fleet_of";
        let places = self.list(NAME)?;
        // By the folder that somebody happens to be in, it would be another one each time.
        match places.iter().find(|place| !place.starts_with('/') && !place.contains(',')) {
            Some(place) => Err(self.wrong(NAME.to_owned(), &Value::String(place.clone()), "absolute path")),
            None => Ok(places),
        }
    }

    fn refuse_what_is_not_understood(&self) -> Result<(), HostVarError> {
        for name in ["ansible_host_key_checking", "ansible_ssh_host_key_checking"] {
            if self.flag(&[name])? == Some(false) {
                return Err(self.unsupported(name, "off: host keys are always checked"));
            }
        }
        for name in ["ansible_private_key", "ansible_ssh_private_key"] {
            if let Some(value) = self.text(&[name])?.filter(|value| !value.trim().is_empty()) {
                return Err(self.unsupported(name, &format!("{value:?}")));
            }
        }
        Ok(())
    }

    /// In the order in which Ansible gives them to ssh.
    fn ssh_args(&self) -> Result<Vec<String>, HostVarError> {
        let mut all = Vec::new();
        for name in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            all.extend(self.text(&[name])?.filter(|args| !args.trim().is_empty()));
        }
        Ok(all)
    }

    fn r#become(&self) -> Result<Become, HostVarError> {
        let named = self.text(&["ansible_become_method"])?;
        let method = match named.as_deref().map(|name| name.rsplit('.').next().unwrap_or(name)) {
            None => None,
            Some(name) => {
                let known = BecomeMethod::of_name(name);
                Some(known.ok_or_else(|| self.unsupported("ansible_become_method", name))?)
            }
        };
        // The variables that each plugin of Ansible has of its own, behind those of all.
        let own = method.unwrap_or(BecomeMethod::Sudo).name();
        let [user, exe, flags, pass] =
            ["user", "exe", "flags", "pass"].map(|what| format!("ansible_{own}_{what}"));
        if let Some(user) = self.text(&["ansible_become_user", &user])?.filter(|user| user != "root") {
            return Err(self.unsupported("ansible_become_user", &user));
        }
        // These are Ansible's own, and change nothing here.
        let known = |flags: &str| flags.split_whitespace().all(|flag| matches!(flag, "-H" | "-S" | "-n"));
        if let Some(flags) = self.text(&["ansible_become_flags", &flags])?.filter(|flags| !known(flags)) {
            return Err(self.unsupported("ansible_become_flags", &format!("{flags:?}")));
        }
        let exe = self.text(&["ansible_become_exe", &exe])?;
        let plain = |exe: &str| exe.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
        if let Some(exe) = exe.as_deref().filter(|exe| !plain(exe) || exe.starts_with('-') || exe.is_empty())
        {
            return Err(self.unsupported("ansible_become_exe", &format!("{exe:?}")));
        }
        Ok(Become {
            wanted: self.flag(&["ansible_become"])?.unwrap_or(false),
            method,
            exe,
            password: self.text(&["ansible_become_password", "ansible_become_pass", &pass])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn host(vars: &str) -> Result<Host, HostVarError> {
        let text = format!("all:\n  hosts:\n    h1: {{{vars}}}\n");
        Arc::new(crate::inventory::from_yaml(&text).expect("inventory")).host("h1")
    }

    #[test]
    fn the_last_alias_wins_and_texts_count_as_numbers() {
        let host = host("ansible_host: a, ansible_ssh_host: b, ansible_port: '2200', ansible_become: 'yes', ansible_user: u").expect("fine");
        assert_eq!((host.address.as_str(), host.port, host.user.as_deref()), ("b", Some(2200), Some("u")));
        assert!(host.r#become.wanted);
    }

    #[test]
    fn what_would_lead_elsewhere_is_refused_by_name() {
        for vars in [
            "ansible_connection: lxc",
            "ansible_become_method: runas",
            "ansible_become_exe: 'sudo; reboot'",
            "ansible_become_flags: '-i'",
            "ansible_become_user: pulp",
            "ansible_host_key_checking: no",
            "ansible_host: '{{ other }}'",
            "ansible_host: '{{ ansible_host }}'",
            "ansible_user: '{{ lookup(\"file\", \"x\") }}'",
            "ansible_port: 99999",
            "ansible_host: [a]",
            "ansible_become_password: !vault abc",
        ] {
            let error = host(vars).err().unwrap_or_else(|| panic!("{vars} was taken"));
            let variable = vars.split(':').next().expect("a name");
            assert!(error.to_string().contains(variable) && error.to_string().contains("h1"), "{error}");
        }
    }

    #[test]
    fn templates_are_rendered_as_ansible_does() {
        let host = host("ansible_host: '{{ inventory_hostname }}.{{ domain | upper }}', domain: '{{ zone }}.lan', zone: a, ansible_port: '{{ base + 22 }}', base: 2000, ansible_become: '{{ zone == \"a\" }}', ansible_user: '{{ nobody | default(\"u\") }}'").expect("renders");
        assert_eq!(
            (host.address.as_str(), host.port, host.user.as_deref()),
            ("h1.A.LAN", Some(2022), Some("u"))
        );
        assert!(host.r#become.wanted);
    }

    #[test]
    fn rules_and_what_is_waited_for_are_read_as_profiles_have_them() {
        let vars = "pulpcov_processes: [{role: api, program: devpi-server}], pulpcov_ready: {port: '{{ 3000 + 141 }}'}";
        let host = host(vars).expect("fine").pulpcov;
        assert_eq!(
            (host.processes[0].role.as_str(), host.processes[0].program.as_slice()),
            ("api", ["devpi-server".to_owned()].as_slice())
        );
        assert_eq!(host.ready[0].port.as_deref(), Some("3141"));
        for (vars, words) in [
            ("pulpcov_processes: [{role: api}]", "missing field `program`"),
            ("pulpcov_processes: gunicorn", "no list of process rules"),
            ("pulpcov_ready: [{prot: 1}]", "unknown field `prot`"),
        ] {
            let error = super::tests::host(vars).err().expect("refused").to_string();
            assert!(error.contains(words) && error.contains("h1"), "{error}");
        }
    }

    #[test]
    fn an_unsafe_text_is_taken_as_it_is() {
        assert_eq!(
            host("ansible_become_password: !unsafe '{{x}}', ansible_become: true")
                .expect("fine")
                .r#become
                .password
                .as_deref(),
            Some("{{x}}")
        );
    }
}

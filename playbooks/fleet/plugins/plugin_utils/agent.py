# SPDX-License-Identifier: MIT OR Apache-2.0
"""Speaks to pulpcov-agent on a host: one round trip where it is there already."""

from __future__ import annotations

import hashlib
import json
import os
import shlex

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_native
from ansible.plugins.action import ActionBase
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.profile import COLLECTION

# What `uname -m` says, and whose agent runs there.
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# How a command ends that finds no agent.
ABSENT = 97

# Ops that a host of another fleet refuses.
OWNED = ("install", "collect", "reset", "services", "uninstall")

COMMON = {
    "lib_root": {"type": "str"},
    "agent_root": {"type": "str", "default": "/usr/local/lib/pulpcov-agent"},
    "agent_dir": {"type": "path"},
}


def place_of(source):
    """The place of an inventory, as `pulpcov fleet` knows it."""
    return os.path.realpath(source) if os.path.exists(source) else place_told(source)


def place_told(place):
    """The place of an inventory that hosts know already, as they tell it. The order of a list of hosts says nothing."""
    if place.startswith("/") or "," not in place:
        return place
    return ",".join(sorted(host.strip() for host in place.split(",") if host.strip()))


class AgentAction(ActionBase):
    """An action that asks the agent for one op."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    # The agent's verb, and the options that it takes as they are.
    OP = ""
    SPEC: dict = {}

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp
        self.host = (task_vars or {}).get("inventory_hostname", "")
        self.fleet = self.fleet_of(task_vars or {})
        _validation, args = self.validate_argument_spec(dict(COMMON, **self.SPEC))
        self.args = args
        self.brought = False
        try:
            result.update(self.act(args))
        finally:
            if self._task.check_mode and self.brought:
                self.execute(f"rm -rf {shlex.quote(self.folder())}; rmdir {shlex.quote(self.root())} 2>/dev/null; :")
        return result

    def fleet_of(self, task_vars):
        """Who asks: the inventory's own name for it, and the inventory's place, or that by which hosts know it."""
        name, known = (self._templar.template(task_vars.get(f"pulpcov_{word}")) for word in ("fleet", "fleet_of"))
        known = [known] if isinstance(known, str) else known or []
        for place in map(str, known):
            if not place.startswith("/") and "," not in place:
                raise AnsibleActionFail(f"{self.host}: pulpcov_fleet_of: {place!r} is no absolute path")
        sources = [str(source) for source in task_vars.get("ansible_inventory_sources") or []]
        for source in filter(os.path.exists, sources):
            if not (name or known or os.path.isfile(source) or os.path.isdir(source)):
                raise AnsibleActionFail(
                    f"the inventory {source} is neither a file nor a folder, and has no place by which hosts could know"
                    " it (name the fleet in it: pulpcov_fleet: NAME)"
                )
        places = [place_told(str(one)) for one in known] or [place_of(source) for source in sources]
        return {"name": str(name) if name else None, "inventory": " and ".join(places)}

    def act(self, args):
        """What the action does; most ask once."""
        return self.ask(self.OP, self.words(args))

    def words(self, args):
        """The op's own words: all options that were given, but for those about the agent itself."""
        return {
            name: value
            for name, value in args.items()
            if value is not None and name not in ("agent_root", "agent_dir")
        }

    def ask(self, op, words):
        """Asks the agent; brings it where it is absent."""
        check, diff = bool(self._task.check_mode), bool(self._task.diff)
        request = dict(words, op=op, _ansible_check_mode=check, _ansible_diff=diff)
        if op in OWNED:
            request["fleet"] = self.fleet
        program = shlex.quote(self.program())
        script = f"if [ -x {program} ]; then exec {program} ansible -; fi; uname -m; exit {ABSENT}"
        data = json.dumps(request).encode()
        ended = self.execute(script, data)
        if ended["rc"] == ABSENT:
            self.bring(ended["stdout"].split()[-1:])
            ended = self.execute(script, data)
        return self.outcome(op, ended)

    def outcome(self, op, ended):
        """What the agent said, as a task's result."""
        for line in ended["stdout"].splitlines():
            # Login shells may say something first.
            if line.startswith("{"):
                outcome = json.loads(line)
                break
        else:
            words = (ended["stderr"].strip() or ended["stdout"].strip()).splitlines()
            raise AnsibleActionFail(f"{op}: the agent gave no answer (rc {ended['rc']}): {' '.join(words[-1:])}")
        hint = outcome.pop("hint", None)
        if ended["rc"] != 0:
            outcome["failed"] = True
        if outcome.get("failed") and hint:
            outcome["msg"] = f"{outcome['msg']} ({hint})"
        outcome.pop("schema", None)
        return outcome

    def execute(self, script, data=None):
        """Runs a shell script on the host, with `data` as its stdin."""
        return self._low_level_execute_command(script, in_data=data, executable="/bin/sh")

    # Where the agent lies: a folder of root's, with a digest in its name, so that another version is
    # another place.

    def root(self):
        return self.args["agent_root"].rstrip("/")

    def folder(self):
        digest = hashlib.sha256()
        for name in sorted(set(MACHINES.values())):
            digest.update(self.binary(name) or b"")
        return f"{self.root()}/{digest.hexdigest()[:16]}"

    def program(self):
        return f"{self.folder()}/pulpcov-agent"

    def binary(self, machine):
        """The agent for a kind of machine; nothing where this control node has none."""
        folder = self.args["agent_dir"] or os.environ.get("PULPCOV_AGENT_DIR")
        folder = folder or os.path.join(COLLECTION, "files", "bin")
        try:
            with open(os.path.join(folder, f"pulpcov-agent-{machine}"), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnsibleActionFail(f"cannot read the agent: {to_native(error)}") from error

    def bring(self, words):
        """Puts the agent onto the host, whole or not at all."""
        found = words[0] if words else "?"
        machine = MACHINES.get(found)
        binary = self.binary(machine) if machine else None
        if binary is None:
            raise AnsibleActionFail(f"there is no agent for {found}: build it, or name its folder with agent_dir")
        self.put(binary, self.folder(), "pulpcov-agent", "755")
        self.brought = True

    def put(self, data, folder, name, mode):
        """Writes a file into a folder that is the acting user's own."""
        here, new, end = (shlex.quote(path) for path in (folder, f"{folder}/.new", f"{folder}/{name}"))
        script = (
            f'umask 022 && mkdir -p {here} && [ -O {here} ] && [ ! -L {here} ] && cat > {new}.$$ && '
            f'[ "$(wc -c < {new}.$$)" -eq {len(data)} ] && chmod {mode} {new}.$$ && mv -f {new}.$$ {end} || '
            f'{{ rc=$?; rm -f {new}.$$; echo "cannot write {name} into {folder}" >&2; exit $rc; }}'
        )
        ended = self.execute(script, data)
        if ended["rc"] != 0:
            words = (ended["stderr"] or ended["stdout"]).strip().splitlines()
            raise AnsibleActionFail(f"{'; '.join(words[-2:])} (become: true makes one root)")

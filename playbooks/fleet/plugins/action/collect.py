# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fetches a host's data, and erases there what is safely here."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.bundles import place


class ActionModule(AgentAction):
    OP = "collect"
    SPEC = {
        "run": {"type": "path", "required": True},
        "flush_timeout": {"type": "float"},
        "keep": {"type": "bool", "default": False},
    }

    def act(self, args):
        if "/" in self.host or self.host in (".", ".."):
            raise AnsibleActionFail(f"host {self.host!r} cannot be a folder's name")
        words = self.words(args)
        keep = words.pop("keep")
        # Relative to where ansible-playbook was started, not to the playbook.
        folder = os.path.join(os.path.abspath(words.pop("run")), "hosts", self.host)
        outcome = self.ask(self.OP, dict(words, host=self.host))
        detail = outcome["pulpcov"]
        if outcome.get("failed") or "bundle" not in detail:
            return outcome
        self.make_readable(detail["bundle"])
        path = self.fetch(detail["bundle"], detail["bundle_sha256"], folder)
        outcome["msg"] = f"{detail['data_files']} data files of {detail['processes']} processes in {path}"
        outcome["changed"] = detail["data_files"] > 0
        lib_root = {name: words[name] for name in ("lib_root",) if name in words}
        if keep:
            self.execute(f"rm -f {shlex.quote(detail['bundle'])}")
        else:
            erased = self.ask("erase", dict(lib_root, bundle=detail["bundle"]))
            if erased.get("failed"):
                return erased
            outcome["pulpcov"]["erased"] = len(erased["pulpcov"]["erased"])
        outcome["pulpcov"]["bundle"] = path
        return outcome

    def make_readable(self, bundle):
        """sudo tells the agent who fetches; other ways to become root do not."""
        become = self._connection.become
        user = self._connection.get_option("remote_user") if become else None
        if become and become.name.rpartition(".")[2] != "sudo" and user:
            self.execute(f"chown {shlex.quote(user)} {shlex.quote(bundle)}")

    def fetch(self, bundle, sha256, folder):
        """The bundle under a name of its own, once all of it is here."""
        try:
            os.makedirs(folder, exist_ok=True)
            handle, new = tempfile.mkstemp(prefix=".fetch-", dir=folder)
            os.close(handle)
            try:
                self._connection.fetch_file(bundle, new)
                with open(new, "rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                    os.fsync(file.fileno())
                if found != sha256:
                    raise AnsibleActionFail(f"the bundle of {self.host} arrived damaged: nothing was erased there")
                os.chmod(new, 0o644)
                return place(new, folder)
            finally:
                os.unlink(new)
        except OSError as error:
            raise AnsibleActionFail(f"cannot keep the bundle of {self.host}: {to_native(error)}") from error

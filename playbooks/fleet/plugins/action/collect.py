# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fetches a host's data, and erases there what is safely here."""

from __future__ import annotations

import os
import shlex
import tempfile

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.bundles import place, sha256_of


# Most bundles that one collect takes of a host, as `pulpcov fleet collect` has it.
MAX_ROUNDS = 100


class ActionModule(AgentAction):
    OP = "collect"
    SPEC = {
        "run": {"type": "path", "required": True},
        "flush_timeout": {"type": "float"},
        "keep": {"type": "bool", "default": False},
        "run_id": {"type": "str"},
        "finish": {"type": "bool", "default": False},
    }

    def words(self, args):
        words = super().words(args)
        run_id = words.pop("run_id", None)
        return dict(words, part={"run": run_id}) if run_id else words

    def act(self, args):
        if "/" in self.host or self.host in (".", ".."):
            raise AnsibleActionFail(f"host {self.host!r} cannot be a folder's name")
        words = self.words(args)
        keep = words.pop("keep")
        # Relative to where ansible-playbook was started, not to the playbook.
        folder = os.path.join(os.path.abspath(words.pop("run")), "hosts", self.host)
        files, erased, after = 0, 0, {}
        for _round in range(MAX_ROUNDS):
            outcome = self.ask(self.OP, dict(words, host=self.host, **after))
            detail = outcome["pulpcov"]
            if outcome.get("failed") or "bundle" not in detail:
                return outcome
            gone = self.take(detail, folder, keep, words.get("lib_root"))
            files, erased = files + detail["data_files"], erased + gone
            if not detail["remaining"] or "last" not in detail:
                break
            # Only the first round flushes: the later ones fetch what one bundle does not hold.
            after = {"after": detail["last"]}
            words["flush_timeout"] = None
        else:
            raise AnsibleActionFail(f"the list of data files has no end after {MAX_ROUNDS} rounds")
        outcome["msg"] = f"{files} data files of {detail['processes']} processes in {folder}"
        outcome["changed"] = files > 0
        detail.update(data_files=files, erased=erased)
        return outcome

    def take(self, detail, folder, keep, lib_root):
        """Brings a bundle here and erases on the host what it holds; how many files that were."""
        there = detail["bundle"]
        self.make_readable(there)
        detail["bundle"] = self.fetch(there, detail["bundle_sha256"], folder)
        if keep:
            self.execute(f"rm -f {shlex.quote(there)}")
            return 0
        erased = self.ask("erase", dict({"lib_root": lib_root} if lib_root else {}, bundle=there))
        if erased.get("failed"):
            raise AnsibleActionFail(f"{erased['msg']} (what it was is in {detail['bundle']})")
        return len(erased["pulpcov"]["erased"])

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
                    found = sha256_of(file)
                    os.fsync(file.fileno())
                if found != sha256:
                    raise AnsibleActionFail(f"the bundle of {self.host} arrived damaged: nothing was erased there")
                os.chmod(new, 0o644)
                return place(new, folder)
            finally:
                os.unlink(new)
        except OSError as error:
            raise AnsibleActionFail(f"cannot keep the bundle of {self.host}: {to_native(error)}") from error

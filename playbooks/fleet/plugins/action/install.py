# SPDX-License-Identifier: MIT OR Apache-2.0
"""Puts agent and hook on the host."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.profile import SPEC, with_commands, with_profile


class ActionModule(AgentAction):
    OP = "install"
    SPEC = dict(
        SPEC,
        host_label={"type": "str"},
        wheelhouse={"type": "path"},
        restart={"type": "bool", "default": False},
        label={"type": "str"},
        run_id={"type": "str"},
        stop_command={"type": "str"},
        start_command={"type": "str"},
        force={"type": "bool", "default": False},
        take_over={"type": "bool", "default": False},
    )

    def words(self, args):
        words = with_commands(super().words(args))
        run_id = words.pop("run_id", None)
        if run_id:
            words["run"] = run_id
        return with_profile(words, lambda name: self._find_needle("files", name))

    def act(self, args):
        words = self.words(args)
        wheelhouse = words.pop("wheelhouse", None)
        if wheelhouse is None:
            return self.ask(self.OP, words)
        # Wheels go to the host only where the agent has looked and wants them.
        words.update(offered=self.offered(wheelhouse), wheelhouse=f"{self.folder()}/wheels")
        outcome = self.ask(self.OP, words)
        wanted = outcome["pulpcov"].get("wanted") if outcome["pulpcov"].get("kind") == "wheels" else None
        if not wanted:
            return outcome
        for name in wanted:
            if name not in words["offered"]:
                raise AnsibleActionFail(f"the agent wants {name!r}, which was not offered")
            with open(os.path.join(wheelhouse, name), "rb") as file:
                self.put(file.read(), words["wheelhouse"], name, "644")
        return self.ask(self.OP, dict(words, offered=[]))

    @staticmethod
    def offered(wheelhouse):
        try:
            names = sorted(os.listdir(wheelhouse))
        except OSError as error:
            raise AnsibleActionFail(f"wheelhouse: {to_native(error)}") from error
        wheels = [name for name in names if name.startswith("coverage-") and name.endswith(".whl")]
        if not wheels:
            raise AnsibleActionFail(f"{wheelhouse} has no wheel of coverage")
        return wheels

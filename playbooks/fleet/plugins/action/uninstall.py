# SPDX-License-Identifier: MIT OR Apache-2.0
"""Puts the host back as it was, and takes the agent away."""

from __future__ import annotations

import shlex

from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.profile import with_commands


# Our folders alone, of this version and of others: whatever else lies beside them is not ours.
REMOVE = """
for file in "$1"/*/pulpcov-agent; do
    folder=${file%/pulpcov-agent}
    case ${folder##*/} in
        *[!0-9a-f]*) ;;
        ????????????????) rm -rf "$folder" ;;
    esac
done
rmdir "$1" 2>/dev/null || :
"""


class ActionModule(AgentAction):
    OP = "uninstall"
    SPEC = {
        "force": {"type": "bool", "default": False},
        "erase_data": {"type": "bool", "default": False},
        "restart": {"type": "bool", "default": False},
        "stop_command": {"type": "str"},
        "start_command": {"type": "str"},
    }

    def words(self, args):
        return with_commands(super().words(args))

    def act(self, args):
        outcome = super().act(args)
        if not outcome.get("failed") and not self._task.check_mode:
            self.execute(f"set -- {shlex.quote(self.root())}; {REMOVE}")
        return outcome

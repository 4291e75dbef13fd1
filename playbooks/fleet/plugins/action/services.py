# SPDX-License-Identifier: MIT OR Apache-2.0
"""Starts, stops or restarts the service."""

from __future__ import annotations

from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.profile import with_commands


class ActionModule(AgentAction):
    OP = "services"
    SPEC = {
        "action": {"type": "str", "required": True, "choices": ["start", "stop", "restart"]},
        "units": {"type": "list", "elements": "str"},
        "stop_command": {"type": "str"},
        "start_command": {"type": "str"},
    }

    def words(self, args):
        return with_commands(super().words(args))

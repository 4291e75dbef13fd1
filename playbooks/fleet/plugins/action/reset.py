# SPDX-License-Identifier: MIT OR Apache-2.0
"""Begins anew under a label."""

from __future__ import annotations

from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction


class ActionModule(AgentAction):
    OP = "reset"
    SPEC = {"label": {"type": "str"}, "timeout": {"type": "float"}}

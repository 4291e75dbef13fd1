# SPDX-License-Identifier: MIT OR Apache-2.0
"""Lets every recorded process write what it has."""

from __future__ import annotations

from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction


class ActionModule(AgentAction):
    OP = "flush"
    SPEC = {"timeout": {"type": "float"}}

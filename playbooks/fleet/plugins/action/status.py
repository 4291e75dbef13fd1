# SPDX-License-Identifier: MIT OR Apache-2.0
"""Asks who records."""

from __future__ import annotations

from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction


class ActionModule(AgentAction):
    OP = "status"
    SPEC = {}

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tells what would keep services from being measured."""

from __future__ import annotations

from ansible_collections.pulpcov.fleet.plugins.plugin_utils.agent import AgentAction
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.profile import SPEC, with_profile


class ActionModule(AgentAction):
    OP = "doctor"
    SPEC = SPEC

    def words(self, args):
        return with_profile(super().words(args), lambda name: self._find_needle("files", name))

    def act(self, args):
        outcome = super().act(args)
        bad = [finding for finding in outcome["pulpcov"].get("findings", []) if finding["grade"] == "bad"]
        if bad and not outcome.get("failed"):
            words = "; ".join(f"{finding['subject']}: {finding['msg']}" for finding in bad)
            outcome.update(failed=True, msg=words)
        return outcome

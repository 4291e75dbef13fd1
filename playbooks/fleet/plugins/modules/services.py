#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: services
short_description: Start, stop or restart the recorded service
version_added: 0.1.0
description:
  - Acts on the units of the installed profile, in their order, and waits until what was started is recorded.
options:
  action:
    description: What to do.
    type: str
    required: true
    choices: [start, stop, restart]
  units:
    description: Units to act on, instead of those of the installed profile.
    type: list
    elements: str
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.commands
  - pulpcov.fleet.agent.changes
"""

EXAMPLES = r"""
- name: Restart what is measured
  pulpcov.fleet.services:
    action: restart
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: 2 units restarted
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

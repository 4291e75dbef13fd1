#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor
short_description: Tell what would keep services from being measured
version_added: 0.1.0
description:
  - Changes nothing. Fails where something would keep the service from being recorded.
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.profile
  - pulpcov.fleet.agent.looks
"""

EXAMPLES = r"""
- name: Look before the night
  pulpcov.fleet.doctor:
    profile: pulp3
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: nothing is in the way
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

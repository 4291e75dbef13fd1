#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reset
short_description: Begin anew, under a new label
version_added: 0.1.0
description:
  - Every process counts from zero; what was recorded before keeps its label.
options:
  label:
    description: Name of what follows; the present one otherwise.
    type: str
  timeout:
    description: Seconds to wait for live processes to begin anew.
    type: float
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.changes
"""

EXAMPLES = r"""
- name: The second tier of tests
  pulpcov.fleet.reset:
    label: tier2
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: generation 3, label tier2, 4 processes counted from zero
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

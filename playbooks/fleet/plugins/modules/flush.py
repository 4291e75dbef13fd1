#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flush
short_description: Let every recorded process write what it has
version_added: 0.1.0
description:
  - Stops nothing.
options:
  timeout:
    description: Seconds to wait for the processes.
    type: float
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.changes
"""

EXAMPLES = r"""
- name: Flush
  pulpcov.fleet.flush:
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: 4 processes flushed, 0 silent
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

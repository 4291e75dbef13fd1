#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Tell who records, who does not, and why
version_added: 0.1.0
description:
  - Changes nothing.
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.looks
"""

EXAMPLES = r"""
- name: See who records
  pulpcov.fleet.status:
  become: true
  register: recorded

- name: Insist on all of them
  ansible.builtin.assert:
    that: recorded.pulpcov.unrecorded | length == 0
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: 4 processes recorded now, 0 not recorded, 9 data files, label tests
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

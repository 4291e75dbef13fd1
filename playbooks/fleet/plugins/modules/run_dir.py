#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_dir
short_description: Note in a run directory how the hosts went, or bring several together
version_added: 0.1.0
description:
  - Runs on the control node. C(pulpcov report) then knows whom it lacks, and the groups of the inventory.
options:
  run:
    description: Run directory.
    type: path
    required: true
  hosts:
    description: Host to what is wrong with it; nothing where its data is there.
    type: dict
    default: {}
  groups:
    description: Groups of the inventory to their hosts.
    type: dict
    default: {}
  merge:
    description: Further run directories; their bundles and notes are taken over, and they stay as they are.
    type: list
    elements: path
    default: []
author:
  - The pulpcov developers (@pulpcov)
extends_documentation_fragment:
  - pulpcov.fleet.agent.changes
"""

EXAMPLES = r"""
- name: Note how the hosts went
  pulpcov.fleet.run_dir:
    run: runs/tonight
    hosts: {web1: null, web2: "unreachable: no route to host"}
    groups: {web: [web1, web2]}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: 2 hosts, 1 without data
missing:
  description: Hosts whose data is not there.
  type: list
  elements: str
  returned: success
"""

#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: install
short_description: Record a Python service with coverage.py
version_added: 0.1.0
description:
  - Puts agent and hook on the host, all of it, proven to work, or nothing.
  - A second run with the same words changes nothing.
options:
  host_label:
    description: What data files carry as host name.
    type: str
  wheelhouse:
    description: Folder on the control node with wheels of coverage, for hosts without a package index.
    type: path
  restart:
    description: Restart the services where that is needed, and wait for the proof that each of their processes is recorded.
    type: bool
    default: false
  label:
    description: Name of what is recorded from then on.
    type: str
  run_id:
    description: Name of a run. A generation of its own begins under it, whatever was recorded before.
    type: str
  force:
    description: Replace files of others where ours go; O(force) of M(pulpcov.fleet.uninstall) is not needed to put them back.
    type: bool
    default: false
  take_over:
    description: Install on a host that belongs to another fleet (C(pulpcov_fleet)), and make it this one's.
    type: bool
    default: false
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.profile
  - pulpcov.fleet.agent.commands
  - pulpcov.fleet.agent.files
"""

EXAMPLES = r"""
- name: Record Pulp, with wheels from here
  pulpcov.fleet.install:
    wheelhouse: wheels
    restart: true
    label: nightly
  become: true

- name: Record a Django site
  pulpcov.fleet.install:
    profile: generic
    packages: [mysite]
    units: [mysite-web.service, mysite-worker.service]
    restart: true
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: installed, restarted, 4 processes recorded
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collect
short_description: Fetch the data of a host
version_added: 0.1.0
description:
  - Lets every recorded process write what it has, stopping nothing, and fetches all of the host's data.
  - What was fetched whole is erased on the host, but for files of processes that live.
options:
  run:
    description: Run directory on the control node; a bundle goes to C(hosts/HOST/) in it.
    type: path
    required: true
  flush_timeout:
    description: Seconds to wait for live processes to flush.
    type: float
  keep:
    description: Leave the data on the host.
    type: bool
    default: false
  run_id:
    description: Fetch only what was recorded in the run of this name, as O(run_id) of M(pulpcov.fleet.install) named it; all of it otherwise.
    type: str
  finish:
    description: End the recording; each process writes what it has, and then records no more.
    type: bool
    default: false
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.changes
"""

EXAMPLES = r"""
- name: Fetch the data of the night
  pulpcov.fleet.collect:
    run: runs/tonight
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: 7 data files of 6 processes in runs/tonight/hosts/h1
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

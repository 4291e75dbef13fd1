#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Documentation of the action plugin of this name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall
short_description: Put a host back as it was
version_added: 0.1.0
description:
  - Puts back every byte, mode and owner that M(pulpcov.fleet.install) touched, and removes the agent.
options:
  force:
    description: Remove our files even where somebody changed them, and restart processes that cannot write what they hold.
    type: bool
    default: false
  erase_data:
    description: Remove data files too, collected or not.
    type: bool
    default: false
  restart:
    description: Restart the services, so that no process keeps the hook.
    type: bool
    default: false
extends_documentation_fragment:
  - pulpcov.fleet.agent
  - pulpcov.fleet.agent.commands
  - pulpcov.fleet.agent.files
"""

EXAMPLES = r"""
- name: Put the host back
  pulpcov.fleet.uninstall:
    restart: true
  become: true
"""

RETURN = r"""
msg:
  description: What was done, or what was found.
  type: str
  returned: always
  sample: uninstalled
pulpcov:
  description: Details of the agent's answer.
  type: dict
  returned: success
"""

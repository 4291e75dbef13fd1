# SPDX-License-Identifier: MIT OR Apache-2.0
"""What all modules of this collection have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  lib_root:
    description:
      - Where pulpcov's own files live on the host.
      - The agent's own default is V(/usr/local/lib/pulpcov).
    type: str
  agent_root:
    description: Folder of the agent on the host; below it, each version has a folder of its own.
    type: str
    default: /usr/local/lib/pulpcov-agent
  agent_dir:
    description:
      - Folder of the agents on the control node.
      - E(PULPCOV_AGENT_DIR) where it is not set, and the agents that came with the collection otherwise.
    type: path
requirements:
  - Linux on x86-64 or aarch64; the host needs no Python.
author:
  - The pulpcov developers (@pulpcov)
"""

    PROFILE = r"""
options:
  profile:
    description: What the service is, as the name of a built-in profile (V(pulp3), V(generic)) or the path of a YAML file.
    type: str
    default: pulp3
  packages:
    description: Packages to measure, instead of the profile's.
    type: list
    elements: str
  units:
    description: Units of the service, instead of the profile's.
    type: list
    elements: str
  users:
    description: Users that the service runs as, besides those of its units.
    type: list
    elements: str
  processes:
    description: Process rules before those of the profile, each with C(role) and C(program), as profiles have them.
    type: list
    elements: dict
  ready:
    description:
      - What holds once a started service takes requests, instead of the profile's; waited for after every start.
      - Each entry has one of C(port), C(socket), C(url) (with C(status)) and C(command), and maybe a C(timeout) in seconds.
    type: list
    elements: dict
  branch:
    description: Record branches, not only lines.
    type: bool
  interval:
    description: Seconds between two flushes of a process.
    type: float
  recorder:
    description: What records, a live map where an interpreter has proven one, or always the same.
    type: str
    choices: [auto, live-map, coverage]
  data_root:
    description: Where data files go on the host.
    type: str
  interpreters:
    description: Interpreters besides those of the units.
    type: list
    elements: str
"""

    COMMANDS = r"""
options:
  stop_command:
    description: Shell command that stops the services of a host without systemd.
    type: str
  start_command:
    description: Shell command that starts them.
    type: str
"""

    CHANGES = r"""
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the host.
    support: full
  diff_mode:
    description: Returns what has changed, or would change, of each file.
    support: none
  async:
    description: Supports being used with the C(async) keyword.
    support: none
"""

    LOOKS = r"""
attributes:
  check_mode:
    description: It changes nothing.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
  async:
    description: Supports being used with the C(async) keyword.
    support: none
"""

    FILES = r"""
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the host.
    support: full
  diff_mode:
    description: Returns what has changed, or would change, of each file.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
"""

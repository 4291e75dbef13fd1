# SPDX-License-Identifier: MIT OR Apache-2.0
"""Profiles, and the words of the inventory that go into them."""

from __future__ import annotations

import os

import yaml

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_native

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROFILES = os.path.join(COLLECTION, "files", "profiles")

# Options that go into the profile.
OVERRIDES = ("packages", "units", "users", "ready", "branch", "interval", "recorder")

SPEC = {
    "profile": {"type": "str", "default": "pulp3"},
    "packages": {"type": "list", "elements": "str"},
    "units": {"type": "list", "elements": "str"},
    "users": {"type": "list", "elements": "str"},
    "processes": {"type": "list", "elements": "dict"},
    "ready": {"type": "list", "elements": "dict"},
    "branch": {"type": "bool"},
    "interval": {"type": "float"},
    "recorder": {"type": "str", "choices": ["auto", "live-map", "coverage"]},
    "data_root": {"type": "str"},
    "interpreters": {"type": "list", "elements": "str"},
}


def load(name, find):
    """The profile of that name: one that is built in, or a YAML file, which `find` looks for."""
    path = os.path.join(PROFILES, f"{name}.yml")
    if "/" in name or name.endswith((".yml", ".yaml")):
        path = find(name)
    try:
        with open(path, encoding="utf-8") as file:
            profile = yaml.safe_load(file)
    except FileNotFoundError as error:
        raise AnsibleActionFail(f"{name!r} is no built-in profile and no path of a YAML file") from error
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise AnsibleActionFail(f"profile {name}: {to_native(error)}") from error
    if not isinstance(profile, dict):
        raise AnsibleActionFail(f"profile {name} is no mapping")
    return profile


def with_profile(words, find):
    """The op's words with the profile as the agent wants it."""
    profile = load(words.pop("profile"), find)
    for name in OVERRIDES:
        value = words.pop(name, None)
        # An empty list says nothing, as in `pulpcov fleet`.
        if value is not None and value != []:
            profile[name] = value
    # Rules of the inventory come first: they are there because the profile's do not say it.
    profile["processes"] = (words.pop("processes", None) or []) + (profile.get("processes") or [])
    return dict(words, profile=profile)


def with_commands(words):
    """The op's words with the commands of a host without systemd where the agent wants them."""
    commands = {verb: words.pop(f"{verb}_command", None) for verb in ("stop", "start")}
    commands = {verb: command for verb, command in commands.items() if command}
    return dict(words, commands=commands) if commands else words

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Notes in a run directory how the hosts went, so that a report knows whom it lacks; brings several together."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import tempfile

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_native
from ansible.plugins.action import ActionBase
from ansible_collections.pulpcov.fleet.plugins.plugin_utils.bundles import place, sha256_of

FORMAT = 1


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp
        spec = {
            "run": {"type": "path", "required": True},
            "hosts": {"type": "dict", "default": {}},
            "groups": {"type": "dict", "default": {}},
            "merge": {"type": "list", "elements": "path", "default": []},
        }
        _validation, args = self.validate_argument_spec(spec)
        path = os.path.join(os.path.abspath(args["run"]), "run.json")
        try:
            before = read(path)
            after = dict(before or new())
            for other in args["merge"]:
                part = read(os.path.join(os.path.abspath(other), "run.json"))
                if part is None:
                    raise AnsibleActionFail(f"{other} is no run directory")
                if not self._task.check_mode:
                    take_bundles(os.path.abspath(other), os.path.dirname(path))
                merge(after, part["hosts"], part.get("groups", {}))
            merge(after, args["hosts"], args["groups"])
            changed = before != after
            if changed and not self._task.check_mode:
                write(path, after)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AnsibleActionFail(f"{path}: {to_native(error)}") from error
        missing = sorted(host for host, trouble in after["hosts"].items() if trouble)
        result.update(changed=changed, msg=f"{len(after['hosts'])} hosts, {len(missing)} without data", missing=missing)
        return result


def new():
    now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    return {"format": FORMAT, "pulpcov": "0.1.0", "created": now, "hosts": {}, "groups": {}}


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    if found.get("format") != FORMAT:
        raise ValueError(f"it has format {found.get('format')}, this collection knows {FORMAT}")
    return found


def merge(run, hosts, groups):
    """Hosts that were asked again are in the groups that they have now; all others stay as they were."""
    run["hosts"] = dict(sorted({**run["hosts"], **hosts}.items()))
    kept = {name: set(members) - set(hosts) for name, members in run.get("groups", {}).items()}
    for name, members in groups.items():
        kept.setdefault(name, set()).update(set(members) & set(hosts))
    run["groups"] = {name: sorted(members) for name, members in sorted(kept.items())}


def take_bundles(other, run):
    """Bundles of another run directory, under the next free names; one that is here already is not taken again."""
    for host in sorted(os.listdir(os.path.join(other, "hosts"))):
        if not os.path.isdir(os.path.join(other, "hosts", host)):
            continue
        folder = os.path.join(run, "hosts", host)
        os.makedirs(folder, exist_ok=True)
        have = {digest(os.path.join(folder, name)) for name in bundles(folder)}
        for name in bundles(os.path.join(other, "hosts", host)):
            source = os.path.join(other, "hosts", host, name)
            if digest(source) in have:
                continue
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".merge-") as copy:
                with open(source, "rb") as file:
                    shutil.copyfileobj(file, copy)
                copy.flush()
                os.fsync(copy.fileno())
                os.chmod(copy.name, 0o644)
                place(copy.name, folder)


def bundles(folder):
    names = sorted(os.listdir(folder))
    return [name for name in names if name.endswith(".tar.gz") and not name.startswith(".")]


def digest(path):
    with open(path, "rb") as file:
        return sha256_of(file)


def write(path, run):
    """Whole or not at all."""
    folder = os.path.dirname(path)
    os.makedirs(os.path.join(folder, "hosts"), exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".run-", delete=False, encoding="utf-8") as file:
        json.dump(run, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
    os.replace(file.name, path)

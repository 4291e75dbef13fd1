"""Answers as `ansible-inventory --list` does, case after case: each in a fork of a process that has it loaded.

A line on stdin is a JSON list of words; a line on stdout is {"code": N, "out": TEXT, "err": TEXT}.
"""

import gc
import json
import os
import sys
import tempfile

os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "1"
os.environ["ANSIBLE_NOCOLOR"] = "1"

import ansible.cli.inventory  # noqa: E402
import ansible.plugins.loader as loader  # noqa: E402

# What every case would load anew.
for name in ("host_list", "script", "auto", "yaml", "ini", "toml"):
    loader.inventory_loader.get(name)
loader.vars_loader.get("host_group_vars")
# Its own collection's list of plugins, which takes six times as long as a case.
list(loader.connection_loader.all(path_only=True))
# What is there for all cases is looked through by none of them.
gc.freeze()


def answer(words):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                sys.argv = ["ansible-inventory"] + words
                ansible.cli.inventory.main(sys.argv)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        out.seek(0)
        err.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read(), "err": err.read()}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)

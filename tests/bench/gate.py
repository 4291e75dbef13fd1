"""What the gate costs a Python that is nobody's service: CPU of the `.pth` line, median of 50 fresh processes.

    gate.py PYTHON      an interpreter with the hook installed (a throw-away environment)
"""
import statistics
import subprocess
import sys

SCRIPT = """
import os, sys, time
line = open([os.path.join(p, "pulpcov.pth") for p in sys.path if os.path.exists(os.path.join(p, "pulpcov.pth"))][0]).read()
assert "_pulpcov_gate" in sys.modules and "coverage" not in sys.modules
del sys.modules["_pulpcov_gate"]
begun = time.process_time_ns()
exec(line)
print(time.process_time_ns() - begun)
assert "_pulpcov_gate" in sys.modules and "coverage" not in sys.modules
"""

costs = [int(subprocess.check_output([sys.argv[1], "-c", SCRIPT])) / 1e6 for _ in range(50)]
print("gate: median %.3f ms, largest of 50 %.3f ms" % (statistics.median(costs), max(costs)))

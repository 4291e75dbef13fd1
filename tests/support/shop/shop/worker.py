"""The shop's worker: a forked child for each order, ended by os._exit, as Pulp's tasks are."""
import os
import signal
import sys
import time

from shop import jobs, queue

running = True


def stop(signum, frame):
    global running
    running = False


def work(name):
    kind, n, _ = name.split("-")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = jobs.run(kind, int(n))
        finally:
            os._exit(code)
    queue.finish(name)
    if kind != "wait":
        os.waitpid(pid, 0)
    return pid


def main():
    signal.signal(signal.SIGTERM, stop)
    while running:
        name = queue.take()
        if name is None:
            time.sleep(0.05)
        else:
            work(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Orders, each worked on in a forked child that leaves by os._exit."""
import os


def brew(count):
    cups = []
    for n in range(count):
        cups.append("cup %d" % n)
    return cups


def bake(count):
    trays = count // 6
    if count % 6:
        trays += 1
    return trays


def fulfil(kind, count):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            {"brew": brew, "bake": bake}[kind](count)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0

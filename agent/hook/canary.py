"""Known lines for the self-test: which of them run is written down in selftest.py."""


def parent(n):
    if n:
        return "yes"
    return "no"


def child():
    total = 0
    for n in range(3):
        total += n
    return total


def never():
    return "nobody calls this"


def killed(n):
    n += 1
    return n

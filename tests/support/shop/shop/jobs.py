"""What the worker's children do."""
import time


def bake(n):
    total = 0
    for i in range(n + 3):
        if i % 2:
            total += i
        else:
            total -= 1
    return total


def ship(n):
    label = "to whom it may concern"
    if n > 100:
        label = "a pallet"
    return label


def wait(n):
    """Works until it is killed."""
    begun = time.time()
    while time.time() - begun < 600:
        time.sleep(0.05)
    return n


JOBS = {"bake": bake, "ship": ship, "wait": wait}


def run(kind, n):
    job = JOBS.get(kind)
    if job is None:
        return 3
    job(n)
    return 0

#!/usr/bin/env python3
"""What coverage.py's tracer costs a Django request, as it is and as pulpcov's recorder sets it up.

    python tests/bench/tracer.py        # a Python with coverage 7.17.3 and django

Blocks of requests in turn, in one process: without a tracer, with coverage.py's own, and with `lock_data` and
`unlock_data` replaced by a C function, as the recorder does it. Once with Django itself measured, and once
with only a small application measured, as it is with Pulp: then nearly all calls are of code that is not
measured, and both cost the same.
"""
import os
import statistics
import sys
import tempfile
import time

import coverage
import coverage.collector

APPLICATION = """
from django.http import JsonResponse
from django.urls import path

def shape(n):
    return {"name": "row %d" % n, "size": n * n}

def status(request):
    return JsonResponse({"rows": [shape(n) for n in range(20)]})

urlpatterns = [path("status/", status)]
"""
ROUNDS, REQUESTS = 15, 60


def main():
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "tracerbench_app.py"), "w") as f:
        f.write(APPLICATION)
    sys.path.insert(0, folder)
    from django.conf import settings
    settings.configure(ROOT_URLCONF="tracerbench_app", ALLOWED_HOSTS=["*"], SECRET_KEY="bench",
                       MIDDLEWARE=["django.middleware.common.CommonMiddleware"], INSTALLED_APPS=[])
    import django
    django.setup()
    from django.test import Client
    client = Client()
    collector = coverage.collector.Collector
    own = collector.lock_data, collector.unlock_data

    def block():
        for _ in range(5):
            client.get("/status/")
        begin = time.process_time()
        for _ in range(REQUESTS):
            client.get("/status/")
        return (time.process_time() - begin) * 1000 / REQUESTS

    for packages in (["django", "tracerbench_app"], ["tracerbench_app"]):
        cov = coverage.Coverage(data_file=None, config_file=False, source_pkgs=packages, messages=False)
        cov.set_option("run:core", "ctrace")
        rounds = []
        for _ in range(ROUNDS):
            figures = [block()]
            for locks in (own, (int, int)):
                collector.lock_data, collector.unlock_data = locks
                cov.start()
                figures.append(block())
                cov.stop()
            rounds.append(figures)
        nothing, plain, ours = (statistics.median(column) for column in zip(*rounds))
        saved = statistics.median(100 * (1 - r[2] / r[1]) for r in rounds)
        print("%-28s nothing %.2f  coverage.py %.2f  pulpcov's %.2f ms a request; %.0f %% less"
              % (" + ".join(packages), nothing, plain, ours, saved))


main()

#!/usr/bin/env python3
"""CPU a request of a Django service under gunicorn, by what records it: nothing, pulpcov's recorders, coverage.py's.

    overhead.py AGENT WHEELHOUSE PYTHON [--rounds N] [--requests N]

All are paired in one run: each round starts every one of them once, in an order of its own, warms it up, and takes the
worker's CPU time of so many requests (an admin list, a change form, a search) from the kernel. Printed are medians, and
each against nothing. Makes a throw-away environment; needs a package index.
"""
import argparse
import glob
import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
WARM_UP = 40
PATHS = ["/admin/auth/user/", "/admin/auth/user/1/change/", "/admin/auth/user/?q=a", "/admin/"]

SITE = '''
import os
import django
from django.conf import settings
settings.configure(
    DEBUG=False, SECRET_KEY="x", ROOT_URLCONF="site_urls", ALLOWED_HOSTS=["*"], USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SITE_DB"]}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
                    "django.contrib.messages", "django.contrib.admin"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
        "context_processors": ["django.template.context_processors.request",
                               "django.contrib.auth.context_processors.auth",
                               "django.contrib.messages.context_processors.messages"]}}])
django.setup()
if not os.path.exists(os.environ["SITE_DB"]):
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    User.objects.create_superuser("a", "a@b.c", "pw")
from django.core.wsgi import get_wsgi_application
from django.test import Client
client = Client()
client.force_login(__import__("django.contrib.auth.models", fromlist=["User"]).User.objects.get(pk=1))
COOKIE = client.cookies["sessionid"].value
inner = get_wsgi_application()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/cookie":
        start_response("200 OK", [])
        return [COOKIE.encode()]
    return inner(environ, start_response)
'''
URLS = "from django.contrib import admin\nfrom django.urls import path\nurlpatterns = [path('admin/', admin.site.urls)]\n"
COVERAGE = '''
import coverage
cov = coverage.Coverage(data_file=None, source_pkgs=["django"], branch=BRANCH, config_file=False, messages=False)
cov.set_option("run:core", CORE)
cov.start()
'''


class Site:
    def __init__(self, agent, wheelhouse, python):
        self.agent = agent
        self.work = tempfile.mkdtemp(prefix="pulpcov-overhead.")
        self.venv = os.path.join(self.work, "venv")
        self.python = os.path.join(self.venv, "bin", "python")
        self.wheelhouse = wheelhouse
        subprocess.run([python, "-m", "venv", self.venv], check=True)
        subprocess.run([self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "django==5.2.9", "gunicorn==23.0.0",
                        "coverage==7.17.3"], check=True)
        for name, text in (("site_app.py", SITE), ("site_urls.py", URLS)):
            with open(os.path.join(self.work, name), "w") as f:
                f.write(text)

    def ask(self, verb, **words):
        words = dict(words, lib_root=os.path.join(self.work, "lib"))
        output = subprocess.run([self.agent, verb, "--json", "--args", "-"], input=json.dumps(words), capture_output=True, text=True).stdout
        answer = json.loads(output)
        if answer["failed"]:
            raise SystemExit("%s: %s" % (verb, answer["msg"]))
        return answer["pulpcov"]

    def install(self, recorder, branch):
        self.ask("install", data_root=os.path.join(self.work, "data"), interpreters=[self.python], wheelhouse=self.wheelhouse, profile={
            "name": "site", "packages": ["django"], "interval": 5, "recorder": recorder, "branch": branch,
            "processes": [{"role": "web", "program": ["gunicorn"]}]})

    def run(self, how, requests):
        """CPU milliseconds a request, and those of the start."""
        name, recorder, core, branch = how
        if recorder:
            self.install(recorder, branch)
        app = "site_app:app"
        if core:
            with open(os.path.join(self.work, "covered.py"), "w") as f:
                f.write(COVERAGE.replace("BRANCH", repr(branch)).replace("CORE", repr(core)) + "from site_app import app\n")
            app = "covered:app"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        env = dict(os.environ, SITE_DB=os.path.join(self.work, "db"))
        service = subprocess.Popen([os.path.join(self.venv, "bin", "gunicorn"), "--bind", "127.0.0.1:%d" % port, "--workers", "1", app],
                                   cwd=self.work, env=env, stderr=subprocess.DEVNULL)
        try:
            return self.measure(service, port, requests)
        finally:
            service.terminate()
            service.wait()
            if recorder:
                self.ask("uninstall", erase_data=True)

    def measure(self, service, port, requests):
        cookie = None
        for _ in range(300):
            try:
                cookie = get(port, "/cookie", None)
                break
            except OSError:
                time.sleep(0.1)
        worker = int(subprocess.run(["pgrep", "-P", str(service.pid)], capture_output=True, text=True).stdout.split()[0])
        begun = cpu(worker)
        for n in range(WARM_UP):
            get(port, PATHS[n % len(PATHS)], cookie)
        before = cpu(worker)
        for n in range(requests):
            get(port, PATHS[n % len(PATHS)], cookie)
        return (cpu(worker) - before) * 1000 / requests, begun * 1000


def get(port, path, cookie):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Cookie": "sessionid=" + cookie.decode()} if cookie else {})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit("%s: %d" % (path, answer.status))
    connection.close()
    return body


def cpu(pid):
    """Seconds of CPU that a process had."""
    with open("/proc/%d/stat" % pid) as f:
        words = f.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent")
    parser.add_argument("wheelhouse")
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400)
    args = parser.parse_args()
    site = Site(os.path.abspath(args.agent), os.path.abspath(args.wheelhouse), args.python)
    ways = [("nothing", None, None, False), ("live map, lines", "live-map", None, False), ("live map, branches", "live-map", None, True),
            ("pulpcov's tracer, lines", "coverage", None, False), ("coverage.py ctrace, lines", None, "ctrace", False),
            ("coverage.py ctrace, branches", None, "ctrace", True), ("coverage.py sysmon, lines", None, "sysmon", False)]
    if sys.version_info >= (3, 14):
        ways.append(("coverage.py sysmon, branches", None, "sysmon", True))
    found = dict((way[0], []) for way in ways)
    try:
        site.run(ways[0], 10)       # the database comes to be
        for number in range(args.rounds):
            order = ways[:]
            random.Random(number).shuffle(order)
            for way in order:
                found[way[0]].append(site.run(way, args.requests))
                print("round %d, %s: %.2f ms a request, %.0f ms at start" % ((number + 1, way[0]) + found[way[0]][-1]), file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(site.work, ignore_errors=True)
    nothing = statistics.median(request for request, _ in found["nothing"])
    start = statistics.median(begun for _, begun in found["nothing"])
    print("| what records | CPU ms a request | against nothing | start of a worker, CPU ms |\n|---|---|---|---|")
    for name, _, _, _ in ways:
        request = statistics.median(request for request, _ in found[name])
        begun = statistics.median(begun for _, begun in found[name])
        print("| %s | %.2f | %+.0f %% | %.0f (%+.0f) |" % (name, request, (request / nothing - 1) * 100, begun, begun - start))


if __name__ == "__main__":
    main()

"""Orders as files: one folder for those that wait, one for those that are done."""
import os
import uuid

ROOT = os.environ.get("SHOP_QUEUE", "/var/lib/shop")


def put(kind, n):
    name = "%s-%d-%s" % (kind, n, uuid.uuid4().hex[:8])
    path = os.path.join(ROOT, "wait", name)
    with open(path + ".new", "w") as f:
        f.write(kind)
    os.rename(path + ".new", path)
    return name


def take():
    for name in sorted(os.listdir(os.path.join(ROOT, "wait"))):
        if not name.endswith(".new"):
            return name
    return None


def finish(name):
    os.rename(os.path.join(ROOT, "wait", name), os.path.join(ROOT, "done", name))


def done():
    return len(os.listdir(os.path.join(ROOT, "done")))

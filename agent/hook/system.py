"""What the recorder asks of the system, and how it writes files that others may be after."""
import binascii
import fcntl
import os

from _pulpcov_words import dumps

FIRST_FD = 200              # a descriptor that no program takes for one of its own
MAP_MAGIC, MAP_FACTS = b"pcovmap1", 1


def word(size):
    """Letters of so many random bytes."""
    return binascii.hexlify(os.urandom(size)).decode()


def start_ticks():
    """Clock ticks between boot and the start of this process."""
    with open("/proc/self/stat", "rb") as f:
        return int(f.read().rpartition(b")")[2].split()[19])


def boot_id():
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            return f.read().strip()
    except (OSError, IOError):      # ProcSubset=pid hides it: the agent then judges by the start alone
        return ""


def pid_ns():
    """The PID namespace in which this process has its number."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def program():
    """The name of the program that this process executes, whatever it calls itself."""
    try:
        return os.path.basename(os.readlink("/proc/self/exe"))
    except OSError:
        return ""


def read_small(path):
    """A small file of whoever made its folder, the agent, or of this process's own user, who may be one; never waits,
    whatever stands at that path."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid not in (0, os.geteuid(), os.stat(os.path.dirname(path)).st_uid):
            raise ValueError("somebody else's")
        return os.read(fd, 4096).decode("utf-8", "replace")
    finally:
        os.close(fd)


def identity_of(info):
    """What tells a file from every other one that there is."""
    return info.st_dev, info.st_ino


def is_same(fd, identity):
    """Whether a descriptor is still of that file: the service may have closed it, and have another one there."""
    try:
        return identity_of(os.fstat(fd)) == identity
    except OSError:
        return False


def high(fd):
    """The same file under a number that is out of the service's way, where there are so many."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
    except OSError:
        return fd
    os.close(fd)
    return moved


def map_record(kind, payload):
    """A record of a map, as `agent/data-file/src/map.rs` describes it."""
    size = (8 + len(payload) + 7) & ~7
    head = size.to_bytes(4, "little") + kind.to_bytes(2, "little") + b"\0\0"
    return (head + payload).ljust(size, b"\0")


def map_head(facts):
    """What a map begins with."""
    text = dumps(facts).encode("utf-8", "backslashreplace")
    return MAP_MAGIC + map_record(MAP_FACTS, len(text).to_bytes(4, "little") + bytes(4) + text)


def write_file(folder, name, data, durable):
    """Writes a file whole or not at all; durable means that it outlives a power loss."""
    tmp = temporary(folder)
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        try:
            os.fchmod(fd, 0o644)    # whatever the service's umask is, the agent must be able to read
            while data:
                data = data[os.write(fd, data):]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(tmp, os.path.join(folder, name))
    except BaseException:
        remove(tmp)
        raise
    if durable:
        sync_folder(folder)


def sync_folder(folder):
    """Makes a rename outlive a power loss, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError:
        pass


def temporary(folder):
    """A name that nobody can guess: others may write to the folder, and would put a link there."""
    return os.path.join(folder, ".tmp." + word(12))


def remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass

"""What the recorder asks of the system, and how it writes files that others may be after."""
import binascii
import os


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


def owner(path):
    """Whose a file is; None where there is none."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def put(tmp, folder, name, other):
    """Gives a file its name, or the other one where a stranger sits on it: in a sticky folder nobody replaces what is
    another's. Returns which."""
    try:
        os.rename(tmp, os.path.join(folder, name))
        return name
    except OSError:
        os.rename(tmp, os.path.join(folder, other))
        return other


def close_and_put(tmp, folder, name, other):
    """Gives a file that is written its name, once it outlives a power loss; returns the name, and whose it is."""
    fd = os.open(tmp, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchmod(fd, 0o644)
        os.fsync(fd)
        user = os.fstat(fd).st_uid
    finally:
        os.close(fd)
    return put(tmp, folder, name, other), user


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

"""What really ran: each function says so itself, by one system call that no recorder has a part in."""
import os
import time

_fd = os.open(os.environ["LOSS_TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def say(name):
    os.write(_fd, ("%s %.3f\n" % (name, time.time())).encode())

"""The kiosk's web server: a master and two forked workers that share one socket."""
import http.server
import os
import signal
import socket
import sys

from kiosk import menu, orders


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "price":
            cost = menu.price(parts[1], members=len(parts) > 2)
            self.answer(404 if cost is None else 200, str(cost))
        elif parts[0] == "recommend":
            self.answer(200, menu.recommend(int(parts[1])))
        elif parts[0] == "order":
            self.answer(200 if orders.fulfil(parts[1], int(parts[2])) else 500, "done")
        else:
            self.answer(404, "?")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def work(listener):
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    server = http.server.HTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()


def main(port_file):
    listener = socket.create_server(("127.0.0.1", 0))
    workers = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            work(listener)
        workers.append(pid)
    with open(port_file + ".new", "w") as f:
        f.write(str(listener.getsockname()[1]))
    os.rename(port_file + ".new", port_file)

    def stop(signum, frame):
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for pid in workers:
        os.waitpid(pid, 0)
    return 0

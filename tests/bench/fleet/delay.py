"""A TCP proxy that makes a line long: `delay.py PORT HOST HOST_PORT SECONDS`, the seconds being those of one way."""
import asyncio
import socket
import sys


async def one_way(reader, source, writer, seconds):
    """Hands on what comes from `source`, each piece `seconds` after it came."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    async def deliver():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    while True:
        # A line has one ACK, that of its far end, and the client there does not delay it; nor must we here.
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            data = await reader.read(1 << 20)
        except OSError:
            data = b""
        queue.put_nowait((loop.time() + seconds, data))
        if not data:
            await delivering
            return


async def main():
    port, host, host_port, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

    async def connected(reader, writer):
        # The handshake of TCP is a round trip, too.
        await asyncio.sleep(2 * seconds)
        far_reader, far_writer = await asyncio.open_connection(host, host_port, limit=1 << 24)
        near, far = (one.get_extra_info("socket") for one in (writer, far_writer))
        await asyncio.gather(one_way(reader, near, far_writer, seconds), one_way(far_reader, far, writer, seconds))

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 24)
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())

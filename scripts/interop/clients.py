"""Many clients at the same time, in a process of its own: two ends of so many connections would be
more files than one process may open.

usage: clients.py PORT COUNT

Each sends `GET /wait` and reads its answer. Prints how many answers ended in "done".
"""

import asyncio
import resource
import sys

PORT, COUNT = int(sys.argv[1]), int(sys.argv[2])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def call(connecting):
    async with connecting:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"GET /wait HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.endswith(b"done")


async def main():
    # The backlog of a listener is short.
    connecting = asyncio.Semaphore(200)
    print(sum(await asyncio.gather(*(call(connecting) for _ in range(COUNT)))))


asyncio.run(main())

"""Try to leave the sandbox: ``connect:HOST:PORT``, ``read:FILE``, ``write:FILE`` or ``signal:PID``."""

import os
import pathlib
import socket
import sys

way, what = sys.argv[1].split(":", 1)
match way:
    case "connect":
        host, port = what.split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    case "read":
        print(pathlib.Path(what).read_text())
    case "write":
        pathlib.Path(what).write_text("toyspy was here\n")
    case "signal":
        os.kill(int(what), 0)

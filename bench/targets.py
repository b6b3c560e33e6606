"""What is probed while measuring: a real nginx on loopback."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.exporter import free_port

CONF = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""


@contextmanager
def nginx(core: int | None = None) -> Iterator[int]:
    """A web server with a body of 200 bytes; yields its port."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=port, body="x" * 200))
        pin = [] if core is None else ["taskset", "-c", str(core)]
        process = subprocess.Popen([*pin, program, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
        try:
            yield port
        finally:
            process.terminate()
            process.wait(10)

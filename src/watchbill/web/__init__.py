"""The HTTP surface and the server under it.

``create_app`` makes the ASGI application, ``bind`` takes the addresses, ``serve_web`` answers on them.
"""

from watchbill.web.addresses import bind
from watchbill.web.app import create_app
from watchbill.web.server import serve_web
from watchbill.web.tally import HttpTally

__all__ = ["HttpTally", "bind", "create_app", "serve_web"]

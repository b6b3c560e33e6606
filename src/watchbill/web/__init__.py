"""The HTTP surface and the server under it.

``create_app`` makes the ASGI application, ``bind`` takes the addresses, ``serve_web`` answers on them.
"""

from watchbill.web.addresses import adopt, bind
from watchbill.web.app import create_app
from watchbill.web.backseat import Backseat
from watchbill.web.live import Live, opened
from watchbill.web.passwords import Passwords
from watchbill.web.server import serve_web
from watchbill.web.tally import HttpTally

__all__ = ["Backseat", "HttpTally", "Live", "Passwords", "adopt", "bind", "create_app", "opened", "serve_web"]

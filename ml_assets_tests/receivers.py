"""A mail server and a webhook on loopback, which keep what they are sent."""

import email
import email.policy
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from ml_assets_tests.e2e.served import free_port


@dataclass
class Received:
    """What arrived at one receiver.

    Attributes:
        address: its URL.
        messages: mails, or JSON documents with their headers.
        answers: HTTP statuses that are answered first; then 200.
    """

    address: str = ""
    messages: list[Any] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[Received]:
    received = Received()

    class Keeps:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(mail, EmailMessage)
            received.messages.append(mail)
            return "250 taken"

    port = free_port()
    controller = Controller(Keeps(), hostname="127.0.0.1", port=port)
    controller.start()
    received.address = f"smtp://127.0.0.1:{port}"
    try:
        yield received
    finally:
        controller.stop()


@contextmanager
def webhook() -> Iterator[Received]:
    received = Received()

    class Keeps(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = received.answers.pop(0) if received.answers else 200
            if status == 200:
                received.messages.append({**json.loads(body), "headers": dict(self.headers)})
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeps)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    received.address = f"http://127.0.0.1:{server.server_port}/hook/very-secret"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()

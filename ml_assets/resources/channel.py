"""Channels: how a message leaves: by mail, to a Slack webhook, to any webhook.

Where mail goes through and where webhooks are is known only from environment variables; neither
an address with its secret nor a password is ever in a message, an error or a log.  The standard
library speaks both protocols; what is ours is an id in each message that stays when it is repeated.
"""

import json
import os
import smtplib
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from ml_assets.errors import AlertFailed
from ml_assets.resources.outbox import Message

SMTP, SENDER = "ML_ASSETS_SMTP", "ML_ASSETS_SMTP_FROM"
_LIKE = {SMTP: "smtp://user:password@host:587"}
TIMEOUT = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def send(message: Message, environment: Mapping[str, str] = os.environ) -> None:
    """It sends a message.

    Args:
        message: the message.
        environment: where secrets are.

    Raises:
        AlertFailed: it was not delivered; the reason holds no secret.
    """
    if message.channel == "email":
        _mail(message, environment)
        return
    url = _given(message.target, environment, f"alerts.{message.channel}")
    body: Any = dict(message.document)
    if message.channel == "slack":
        body = {"text": f"*{body['subject']}*\n{body['text']}"}
    _post(url, body, message)


def _given(name: str, environment: Mapping[str, str], where: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise AlertFailed(
            f"`{where}` needs the environment variable {name}, and it is not set where this runs: "
            f"`export {name}={_LIKE.get(name, 'https://…')}`."
        )
    return value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """It follows nobody: what is sent is for the receiver that was named."""


def _post(url: str, body: Any, message: Message) -> None:
    where = f"the address in ${message.target}"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AlertFailed(f"{where} is no http or https URL.")
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        url,
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Idempotency-Key": message.id,
            "User-Agent": "ml_assets",
        },
        method="POST",
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        raise AlertFailed(f"{where} answered {error.code}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AlertFailed(f"{where} cannot be reached ({type(reason).__name__}).") from None


def _mail(message: Message, environment: Mapping[str, str]) -> None:
    server = urllib.parse.urlsplit(_given(SMTP, environment, "alerts.email"))
    host = server.hostname
    if server.scheme not in ("smtp", "smtps") or not host:
        raise AlertFailed(f"${SMTP} is not like smtp://user:password@host:587 or smtps://….")
    mail = EmailMessage()
    mail["Subject"] = " ".join(str(message.document["subject"]).split())
    mail["From"] = environment.get(SENDER, "").strip() or f"ml_assets@{host}"
    mail["To"] = message.target
    mail["Message-ID"] = f"<{message.id}@ml_assets>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-ML-Assets-Event"] = str(message.document["event"])
    mail.set_content(str(message.document["text"]))
    secure = ssl.create_default_context()
    try:
        port = server.port or (465 if server.scheme == "smtps" else 587 if server.username else 25)
        with (
            smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=secure)
            if server.scheme == "smtps"
            else smtplib.SMTP(host, port, timeout=TIMEOUT)
        ) as smtp:
            if server.scheme == "smtp" and smtp.has_extn("starttls"):
                smtp.starttls(context=secure)
                smtp.ehlo()
            elif server.scheme == "smtp" and server.username and host not in LOOPBACK:
                raise AlertFailed(f"The mail server in ${SMTP} offers no TLS: no password is sent.")
            if server.username:
                name, password = server.username, server.password or ""
                smtp.login(urllib.parse.unquote(name), urllib.parse.unquote(password))
            smtp.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise AlertFailed(f"The mail server refused {', '.join(error.recipients)}.") from None
    except smtplib.SMTPResponseException as error:
        raise AlertFailed(f"The mail server in ${SMTP} answered {error.smtp_code}.") from None
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise AlertFailed(
            f"The mail server in ${SMTP} did not take the message ({type(error).__name__})."
        ) from None

"""Mail by the operator's SMTP server."""

import contextlib
import smtplib
import ssl
from email.message import EmailMessage

from tasks.channels import message
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Outcome, Sent
from tasks.settings import settings


def compose(claim: Claim, sender: str) -> EmailMessage:
    """The mail. Its Message-ID is the same whenever it is sent again. Pure."""
    notice = claim.notice or {}
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, claim.target
    mail["Subject"] = message.title(notice)
    name = claim.key.replace("/", ".")
    mail["Message-ID"] = f"<{name}.{claim.channel}@{sender.rpartition('@')[2].strip('> ')}>"
    mail["Idempotency-Key"] = claim.key
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text(claim.template, notice))
    return mail


def send(claim: Claim) -> Outcome:
    """Hands the mail to the server. Raises `OSError` and `smtplib.SMTPException`."""
    chosen = settings()
    if chosen.smtp_host is None or chosen.smtp_from is None:
        return Later("SMTP_HOST and SMTP_FROM are not set")
    try:
        mail = compose(claim, chosen.smtp_from)
    except ValueError:
        return Never("its target is not a mail address")
    server = _connect(chosen.smtp_host, chosen.smtp_port, chosen.channel_timeout_seconds)
    try:
        if chosen.smtp_security == "starttls":
            server.starttls(context=_context())
        if chosen.smtp_username is not None and chosen.smtp_password is not None:
            server.login(chosen.smtp_username, chosen.smtp_password.get_secret_value())
        return _hand_over(server, mail, claim.target)
    finally:
        # However the server says goodbye: the mail is taken, or it is not.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            server.quit()
        server.close()


def _hand_over(server: smtplib.SMTP, mail: EmailMessage, target: str) -> Outcome:
    try:
        server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        (code, _), *_ = refused.recipients.values()
        return _judge(code, "refused the address")
    except smtplib.SMTPSenderRefused as error:
        # That is SMTP_FROM, which the operator mends.
        return Later(f"the mail server refused the sender ({error.smtp_code})")
    except smtplib.SMTPResponseException as error:
        return _judge(error.smtp_code, "refused the mail")
    except smtplib.SMTPNotSupportedError:
        if target.isascii():
            raise
        return Never("the mail server takes no address that is not ASCII")
    return Sent()


def _judge(code: int, what: str) -> Outcome:
    why = f"the mail server {what} ({code})"
    # 5xx is for ever, but for a login that the operator may have forgotten.
    return Never(why) if 500 <= code < 600 and code not in {530, 535} else Later(why)


def _connect(host: str, port: int, seconds: float) -> smtplib.SMTP:
    if settings().smtp_security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=seconds, context=_context())
    return smtplib.SMTP(host, port, timeout=seconds)


def _context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings().tls_ca_file)

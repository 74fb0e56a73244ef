"""Shows a certificate in the place of a server."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration import tls_servers
from tests.integration.tls_servers import Authority


@contextmanager
def imposter(made: Authority, folder: Path, server: str, host: str, *, expired: bool) -> Iterator[int]:
    """Something that shows a certificate where the server should be, and says no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_servers.write_certificate(made, folder, "imposter", host, expired=expired))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_show, args=(listener, context, server), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _show(listener: socket.socket, context: ssl.SSLContext, server: str) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(5)
            try:
                if server == "postgres":
                    connection.recv(8)  # SSLRequest
                    connection.sendall(b"S")
                with context.wrap_socket(connection, server_side=True) as shown:
                    shown.recv(1)
            except OSError:
                continue

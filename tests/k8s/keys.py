"""The node's keys and certificates, by openssl, for as long as the node runs."""

from pathlib import Path

from tests.docker.command import run
from tests.k8s.config import API_SERVICE, NAME, NODE

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "2")
_LEAVES = {
    # The API server and the kubelet answer by the same one.
    "node": (
        f"/CN={NAME}",
        f"subjectAltName=IP:{NODE},IP:{API_SERVICE},IP:127.0.0.1,DNS:{NAME},DNS:kubernetes.default.svc",
    ),
    # The group of those who may do everything.
    "admin": ("/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth"),
}


def make(folder: Path) -> None:
    """An authority, the node's certificate and the administrator's, and the key of the service accounts."""
    folder.mkdir(mode=0o700)

    def openssl(*arguments: str) -> None:
        run(["openssl", *arguments], seconds=30, folder=folder)

    openssl("req", "-x509", *_CURVE, *_DAYS, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority")
    for name, (subject, extension) in _LEAVES.items():
        openssl(
            *("req", "-x509", *_CURVE, *_DAYS, "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", subject),
            *("-addext", extension, "-addext", "basicConstraints=critical,CA:FALSE"),
        )
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "accounts.key")

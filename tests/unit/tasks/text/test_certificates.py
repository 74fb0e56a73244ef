"""The end of a certificate is what `cryptography` finds in it, and nonsense is refused."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.certificates import InvalidCertificate, ends_at

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime(1960, 1, 1, tzinfo=UTC)


def certificate(end: datetime, name: str, serial: int) -> bytes:
    """A certificate with this end, in DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), serial, BEGIN, end)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@given(
    st.integers(1, 253_402_300_799 - int(BEGIN.timestamp())).map(
        lambda seconds: BEGIN + timedelta(0, seconds)
    ),
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=60),
    st.integers(1, 2**158),
)
def test_the_end_is_read_whatever_stands_before_it(end: datetime, name: str, serial: int) -> None:
    """Years before and after 2050 are written differently, and names and numbers have any length."""
    assert ends_at(certificate(end, name, serial)) == end.timestamp()


def test_the_end_of_a_certificate_with_extensions() -> None:
    """Certificates of an authority as our tests and `openssl` make them."""
    issued = trustme.CA().issue_cert("emqx", not_after=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    der = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(
        serialization.Encoding.DER
    )
    assert ends_at(der) == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


WHOLE = certificate(BEGIN + timedelta(days=30_000), "emqx", 1)


@given(st.binary(max_size=400) | st.integers(0, len(WHOLE) - 1).map(lambda size: WHOLE[:size]))
def test_anything_else_is_refused(data: bytes) -> None:
    """Bytes of chance and pieces of a certificate raise this one error."""
    with pytest.raises(InvalidCertificate):
        ends_at(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_an_end_or_refused(place: int, byte: int) -> None:
    """No other error escapes."""
    data = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    with suppress(InvalidCertificate):
        assert isinstance(ends_at(data), float)

"""Passwords: made, checked, and the hash that both brokers verify."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.accounts import passwords
from ingest.admin.accounts.passwords import InvalidPassword

# Computed by the command line: openssl kdf -keylen 64 -kdfopt digest:SHA512 -kdfopt iter:100 … PBKDF2
KNOWN_PASSWORD, KNOWN_SALT = "correct horse battery staple", "NaCl-NaCl-12"
KNOWN_HEX = (
    "f58ca20c4170ef9c9de78dc76069510d4d7f1f05b8654a0e522ae8b37f88c6f2"
    "bad1640f25c2995a1a0ac4cf892ba80c1d8b7cf3b6156f553b128bcab20e647b"
)
KNOWN_MOSQUITTO = (
    "$7$100$TmFDbC1OYUNsLTEy$9YyiDEFw75yd543HYGlRDU1/HwW4ZUoOUiro"
    "s3+IxvK60WQPJcKZWhoKxM+JK6gMHYt887YVb1U7EovKsg5kew=="
)


def test_hash_matches_a_vector_of_another_implementation() -> None:
    """EMQX gets PBKDF2-HMAC-SHA512 of 100 iterations in hexadecimal, over the salt's characters."""
    assert passwords.ITERATIONS == 100
    assert passwords.hash_password(KNOWN_PASSWORD, KNOWN_SALT) == KNOWN_HEX


def test_mosquitto_gets_the_same_hash_in_its_own_form() -> None:
    """Mosquitto gets `$7$iterations$salt$hash`, both in base64, of the hash that EMQX gets."""
    assert passwords.mosquitto_hash(KNOWN_HEX, KNOWN_SALT, 100) == KNOWN_MOSQUITTO


@given(password=st.text(min_size=1, max_size=64), iterations=st.integers(1, 200))
def test_both_forms_hold_the_same_hash(password: str, iterations: int) -> None:
    """Whatever the password, what Mosquitto decodes is what EMQX compares."""
    salt = passwords.generate_salt()
    in_hex = passwords.hash_password(password, salt, iterations)
    _, kind, count, encoded_salt, encoded_hash = passwords.mosquitto_hash(in_hex, salt, iterations).split("$")
    assert (kind, count) == ("7", str(iterations))
    expected = hashlib.pbkdf2_hmac(
        "sha512", password.encode(), base64.b64decode(encoded_salt), iterations, 64
    )
    assert base64.b64decode(encoded_hash) == expected == bytes.fromhex(in_hex)


def test_salts_are_of_the_length_that_mosquitto_takes() -> None:
    """A salt is 12 bytes, without which Mosquitto drops the account, and no two are alike."""
    salts = {passwords.generate_salt() for _ in range(1000)}
    assert len(salts) == 1000
    assert {len(salt.encode()) for salt in salts} == {12}


def test_passwords_are_long_url_safe_and_unlike() -> None:
    """A generated password has 43 characters that need no quoting, and none comes twice."""
    made = {passwords.generate_password() for _ in range(1000)}
    assert len(made) == 1000
    for password in made:
        assert len(password) == 43
        assert password.replace("-", "").replace("_", "").isalnum()
        assert passwords.check_password(password) == password


@pytest.mark.parametrize("password", ["", "fifteen-letters", "a" * 20 + "\n", "a" * 20 + "\udcff"])
def test_weak_or_unprintable_passwords_are_refused(password: str) -> None:
    """A password that the fast hash would not protect, or that nobody could type, is refused."""
    with pytest.raises(InvalidPassword):
        passwords.check_password(password)

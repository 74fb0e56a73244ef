"""Passwords of the MQTT broker's accounts: made, checked, and hashed as the brokers read them."""

import base64
import hashlib
import secrets

from ingest.admin.errors import OperatorError

# A slow hash protects passwords that can be guessed. Ours are 256 random bits, beyond guessing at any speed.
# The broker's one thread pays for the hash at every login, and Mosquitto again for all who are connected when
# an account changes: at 100 iterations (65 µs) ten thousand devices cost it 0.7 s; at the 210,000 that are
# advised for passwords of people, 23 minutes. EMQX has this number in its configuration.
ITERATIONS = 100
HASH_BYTES = 64
MIN_PASSWORD_CHARACTERS = 16


class InvalidPassword(OperatorError):
    """A password that the fast hash does not protect, or that cannot be typed."""


def generate_password() -> str:
    """43 characters that need no quoting anywhere: 256 random bits."""
    return secrets.token_urlsafe(32)


def check_password(password: str) -> str:
    """The password, when it is long enough for a fast hash. Raises `InvalidPassword`."""
    if not password.isprintable():
        raise InvalidPassword("The password must be printable characters in UTF-8.")
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise InvalidPassword(f"The password must have at least {MIN_PASSWORD_CHARACTERS} characters.")
    return password


def generate_salt() -> str:
    """12 characters: Mosquitto takes no salt of another length."""
    return secrets.token_urlsafe(9)


def hash_password(password: str, salt: str, iterations: int = ITERATIONS) -> str:
    """PBKDF2-HMAC-SHA512 in hexadecimal, as EMQX reads it; the salt's bytes are its characters."""
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt.encode(), iterations, HASH_BYTES).hex()


def mosquitto_hash(password_hash: str, salt: str, iterations: int) -> str:
    """The same hash as Mosquitto reads it from its password file."""
    encoded_salt = base64.b64encode(salt.encode()).decode()
    encoded_hash = base64.b64encode(bytes.fromhex(password_hash)).decode()
    return f"$7${iterations}${encoded_salt}${encoded_hash}"

"""Multibase: bytes as text, the first letter naming the alphabet (multiformats/multibase)."""

from __future__ import annotations

import base64
import binascii

from bucketfs.errors import InvalidArgument

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58_DIGITS = {letter: value for value, letter in enumerate(_BASE58)}
_BASE36_DIGITS = {letter: value for value, letter in enumerate(_BASE36)}

BIG_NUMBER_CHARACTERS_MAX = 4096
"""Texts of the big-number bases take quadratic time; nothing that we name is anywhere near this long."""


def multibase_encode(data: bytes, base: str = "b") -> str:
    """``data`` as text with its base's letter before it. Raises InvalidArgument for a base we do not write.

    Written: ``b`` base32, ``k`` base36, ``z`` base58btc, ``f`` base16, ``m`` base64, ``u`` base64url and the upper-case
    twins ``B`` ``K`` ``F``; none of them padded.
    """
    match base:
        case "b":
            return "b" + base64.b32encode(data).decode().rstrip("=").lower()
        case "k":
            return "k" + _big_encode(data, _BASE36)
        case "z":
            return "z" + base58_encode(data)
        case "f":
            return "f" + data.hex()
        case "m":
            return "m" + base64.b64encode(data).decode().rstrip("=")
        case "u":
            return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")
        case "B" | "K" | "F":
            return multibase_encode(data, base.lower()).upper()
        case _:
            raise InvalidArgument(f"no such multibase: {base!r}")


def multibase_decode(text: str) -> bytes:
    """The bytes of a multibase text. Raises InvalidArgument for an unknown base, a letter outside it, or bits left over."""
    if not text or not text.isascii():
        raise InvalidArgument("not a multibase text: it is empty or not ASCII")
    base, digits = text[0], text[1:]
    match base:
        case "z":
            return base58_decode(digits)
        case "k":
            return _big_decode(digits, _BASE36_DIGITS)
        case "b" | "f" | "m" | "u":
            return _bits_decode(base, digits)
        case "B" | "K" | "F":
            if digits != digits.upper():
                raise InvalidArgument(f"not a multibase text: lower-case letters in base {base!r}")
            return multibase_decode(text.lower())
        case _:
            raise InvalidArgument(f"not a multibase text: unknown base {base!r}")


def base58_encode(data: bytes) -> str:
    """``data`` in base58btc, without a multibase letter (peer IDs, CIDv0)."""
    return _big_encode(data, _BASE58)


def base58_decode(text: str) -> bytes:
    """The bytes of a base58btc text without a multibase letter. Raises InvalidArgument."""
    return _big_decode(text, _BASE58_DIGITS)


def _bits_decode(base: str, digits: str) -> bytes:
    """The bases whose letters stand for whole bits. The answer must encode to the same text, or two texts name one CID."""
    try:
        if base == "f":
            data = bytes.fromhex(digits)
        elif base == "b":
            data = base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
        else:
            altchars = b"-_" if base == "u" else b"+/"
            data = base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=altchars, validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidArgument(f"not a text of multibase {base!r}") from error
    if multibase_encode(data, base) != base + digits:
        raise InvalidArgument(f"not a canonical text of multibase {base!r}")
    return data


def _big_encode(data: bytes, alphabet: str) -> str:
    number = int.from_bytes(data, "big")
    base = len(alphabet)
    letters: list[str] = []
    while number:
        number, digit = divmod(number, base)
        letters.append(alphabet[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + "".join(reversed(letters))


def _big_decode(text: str, digits: dict[str, int]) -> bytes:
    if len(text) > BIG_NUMBER_CHARACTERS_MAX:
        raise InvalidArgument(f"a text of {len(text)} characters is too long for base {len(digits)}")
    base = len(digits)
    number = zeros = 0
    leading = True
    for letter in text:
        digit = digits.get(letter)
        if digit is None:
            raise InvalidArgument(f"not a text of base {base}: {letter!r}")
        leading = leading and digit == 0
        zeros += leading
        number = number * base + digit
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")

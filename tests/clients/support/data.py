"""Test data: bytes that can be made again from a seed, and the sums of them."""

import base64
import hashlib
import random
import uuid

KIB = 1024
MIB = 1024 * 1024


def random_bytes(size, seed=0):
    """`size` bytes that are the same for the same seed and do not compress."""
    return random.Random(f"{seed}/{size}").randbytes(size)


def unique(prefix="t"):
    """A valid bucket name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:16]}"


def md5_hex(data):
    return hashlib.md5(data).hexdigest()


def md5_base64(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def multipart_etag(parts):
    """AWS's rule: the MD5 of the parts' MD5s, a dash and the number of parts, in quotes."""
    sums = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(sums).hexdigest()}-{len(parts)}"'

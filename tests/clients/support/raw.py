"""S3 without a client library: SigV4 by hand over http.client, for what boto3 would never send.

Covers header signing, presigned URLs and the three chunked payload forms; every step can be
told to lie (wrong host, tampered chunk, old date), which is what the tests want it for.
Source: the AWS documentation "Signature Version 4" and "Transferring payload in chunks".
"""

import datetime
import hashlib
import hmac
import http.client
import re
import urllib.parse

from support.cluster import ACCESS_KEY, SECRET_KEY
from support.s3 import REGION

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"


class Answer:
    """Status, headers (lower-case names) and body of one HTTP answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = response.read()

    @property
    def code(self):
        """The S3 error code of an XML body, or None."""
        found = re.search(rb"<Code>([^<]+)</Code>", self.body)
        return found.group(1).decode() if found else None

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:400]!r}"


def send(endpoint, method, path, headers=None, body=None, timeout=30):
    """One request exactly as given: the path goes out byte for byte."""
    host, port = endpoint.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    headers = {"Host": f"{host}:{port}", **(headers or {})}
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body is not None and not {"Content-Length", "Transfer-Encoding"} & set(headers):
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def quote(text, safe="/"):
    return urllib.parse.quote(text, safe=safe + "-_.~")


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def amz(moment):
    return moment.strftime("%Y%m%dT%H%M%SZ")


class Signer:
    """Keys, time and scope of one signature."""

    def __init__(self, access_key=ACCESS_KEY, secret_key=SECRET_KEY, moment=None, region=REGION):
        self.access_key, self.secret_key = access_key, secret_key
        self.date = amz(moment or now())
        self.scope = f"{self.date[:8]}/{region}/s3/aws4_request"

    def key(self):
        key = ("AWS4" + self.secret_key).encode()
        for step in self.scope.split("/"):
            key = hmac.new(key, step.encode(), hashlib.sha256).digest()
        return key

    def sign(self, text):
        return hmac.new(self.key(), text.encode(), hashlib.sha256).hexdigest()

    def signature(self, method, path, query, headers, payload_hash):
        """The signature over a request; `query` is a list of pairs, `headers` what is signed."""
        pairs = sorted((quote(k, ""), quote(v, "")) for k, v in query)
        lines = {k.lower(): v.strip() for k, v in headers.items()}
        names = sorted(lines)
        canonical = "\n".join(
            [
                method,
                path,
                "&".join(f"{k}={v}" for k, v in pairs),
                *(f"{name}:{lines[name]}" for name in names),
                "",
                ";".join(names),
                payload_hash,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return self.sign("\n".join([ALGORITHM, self.date, self.scope, digest])), ";".join(names)


def request(
    endpoint,
    method,
    path,
    query=(),
    headers=None,
    body=None,
    signer=None,
    payload_hash=None,
    host=None,
    tamper=False,
):
    """A request signed in its headers. `path` is the decoded path; it is sent percent-encoded."""
    signer = signer or Signer()
    path = quote(path)
    body = body if body is not None or method in ("GET", "HEAD", "DELETE", "OPTIONS") else b""
    payload_hash = payload_hash or hashlib.sha256(body or b"").hexdigest()
    headers = {
        "Host": host or endpoint.removeprefix("http://"),
        "X-Amz-Date": signer.date,
        "X-Amz-Content-Sha256": payload_hash,
        **(headers or {}),
    }
    signature, names = signer.signature(method, path, query, headers, payload_hash)
    if tamper:
        signature = ("0" if signature[0] != "0" else "1") + signature[1:]
    headers["Authorization"] = (
        f"{ALGORITHM} Credential={signer.access_key}/{signer.scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    return send(endpoint, method, path + query_text(query), headers, body)


def query_text(query):
    return "?" + "&".join(f"{quote(k, '')}={quote(v, '')}" for k, v in query) if query else ""


def presign(endpoint, method, path, seconds=60, query=(), signer=None, host=None):
    """The path and query of a presigned URL, to be handed to `send`."""
    signer = signer or Signer()
    query = [
        *query,
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{signer.access_key}/{signer.scope}"),
        ("X-Amz-Date", signer.date),
        ("X-Amz-Expires", str(seconds)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    headers = {"Host": host or endpoint.removeprefix("http://")}
    signature, _ = signer.signature(method, quote(path), query, headers, "UNSIGNED-PAYLOAD")
    return quote(path) + query_text([*query, ("X-Amz-Signature", signature)])


def put_framed(
    endpoint, path, frames, declared, signed=False, trailer="x-amz-checksum-crc32", transfer=None
):
    """PUT of `aws-chunked` frames exactly as given, under a right signature of the head.

    declared: the decoded length that the head names. transfer: "chunked" to send the body without
    a Content-Length.
    """
    signer = Signer()
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" if signed else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = {
        "Host": endpoint.removeprefix("http://"),
        "X-Amz-Date": signer.date,
        "X-Amz-Content-Sha256": kind,
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(declared),
        **({"X-Amz-Trailer": trailer} if trailer else {}),
    }
    signature, names = signer.signature("PUT", quote(path), (), headers, kind)
    headers["Authorization"] = (
        f"{ALGORITHM} Credential={signer.access_key}/{signer.scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    if transfer:
        headers["Transfer-Encoding"] = transfer
        frames = b"%x\r\n%b\r\n0\r\n\r\n" % (len(frames), frames)
    return send(endpoint, "PUT", quote(path), headers, frames)


def put_chunked(
    endpoint,
    path,
    data,
    chunk=64 * 1024,
    trailer=None,
    signed=True,
    tamper_at=None,
    cut=False,
    headers=None,
):
    """PUT with `aws-chunked` framing; gives the answer.

    trailer: (name, value) sent after the last chunk. signed: each chunk carries a signature,
    else STREAMING-UNSIGNED-PAYLOAD-TRAILER. tamper_at: number of the chunk whose data are changed
    after signing. cut: the last, empty chunk is left out.
    """
    signer = Signer()
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" if signed else "STREAMING-UNSIGNED-PAYLOAD"
    kind += "-TRAILER" if trailer else ""
    headers = {
        "Host": endpoint.removeprefix("http://"),
        "X-Amz-Date": signer.date,
        "X-Amz-Content-Sha256": kind,
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(len(data)),
        **({"X-Amz-Trailer": trailer[0]} if trailer else {}),
        **(headers or {}),
    }
    seed, names = signer.signature("PUT", quote(path), (), headers, kind)
    headers["Authorization"] = (
        f"{ALGORITHM} Credential={signer.access_key}/{signer.scope},"
        f"SignedHeaders={names},Signature={seed}"
    )
    body, previous = b"", seed
    pieces = [data[i : i + chunk] for i in range(0, len(data), chunk)] + ([] if cut else [b""])
    for number, piece in enumerate(pieces):
        frame = f"{len(piece):x}"
        if signed:
            previous = chunk_signature(signer, previous, piece)
            frame += f";chunk-signature={previous}"
        if number == tamper_at:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        end = b"" if not piece and trailer else b"\r\n"
        body += frame.encode() + b"\r\n" + piece + end
    if trailer and not cut:
        body += trailer_frame(signer, previous, trailer, signed)
    return send(endpoint, "PUT", quote(path), headers, body)


def chunk_signature(signer, previous, piece):
    digest = hashlib.sha256(piece).hexdigest()
    return signer.sign(
        "\n".join(
            [f"{ALGORITHM}-PAYLOAD", signer.date, signer.scope, previous, EMPTY_SHA256, digest]
        )
    )


def trailer_frame(signer, previous, trailer, signed):
    lines = f"{trailer[0]}:{trailer[1]}\r\n"
    if signed:
        digest = hashlib.sha256(f"{trailer[0]}:{trailer[1]}\n".encode()).hexdigest()
        text = [f"{ALGORITHM}-TRAILER", signer.date, signer.scope, previous, digest]
        lines += f"x-amz-trailer-signature:{signer.sign(chr(10).join(text))}\r\n"
    return lines.encode() + b"\r\n"

"""Steps b and e. What a hostile or a careless client sends, and what must not come of it."""

import base64
import datetime
import hashlib
import hmac
import http.client
import re
import zlib

import pytest

from support import raw
from support.cluster import ACCESS_KEY, SECRET_KEY
from support.data import unique
from support.s3 import body, client, refused

CRC = base64.b64encode(zlib.crc32(b"abc").to_bytes(4, "big"))
END = b"0\r\nx-amz-checksum-crc32:" + CRC + b"\r\n\r\n"


@pytest.fixture
def stored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    return bucket


# -- the framing of chunked uploads --------------------------------------------------------


@pytest.mark.parametrize("transfer", [None, "chunked"])
@pytest.mark.parametrize(
    ("frames", "declared", "code"),
    [
        (b"3\r\nabc\r\n", 3, "IncompleteBody"),
        (b"3\r\nabc\r\n0", 3, "IncompleteBody"),
        (b"3\r\nab", 3, "IncompleteBody"),
        (b"", 0, "IncompleteBody"),
        (b"3\r\nabc\r\n" + END, 4, "IncompleteBody"),
        (b"3\r\nabc\r\n" + END, 2, "IncompleteBody"),
        (b"3\r\nabc\r\n0\r\n\r\n", 3, "InvalidRequest"),  # no trailer
        (b"3\r\nabc\r\n0\r\nx-amz-checksum-sha1:AAAA\r\n\r\n", 3, "InvalidRequest"),
        (b"3\r\nabc\r\n0\r\nno colon\r\n\r\n", 3, "InvalidRequest"),
        (b"3\r\nabd\r\n" + END, 3, "BadDigest"),
        (b"3\r\nabcd\r\n" + END, 3, "InvalidRequest"),
        (b"-3\r\nabc\r\n" + END, 3, "InvalidRequest"),
    ],
)
def test_a_chunked_upload_that_is_not_whole_is_refused(
    cluster, s3, stored, frames, declared, code, transfer
):
    path = f"/{stored}/k"
    answer = raw.put_framed(cluster.s3, path, frames, declared, transfer=transfer)
    assert (answer.status, answer.code) == (400, code), answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"
    answer = raw.put_framed(cluster.s3, path, b"3\r\nabc\r\n" + END, 3, transfer=transfer)
    assert answer.status == 200, answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"abc"


def test_a_chunk_without_its_signature_is_refused(cluster, s3, stored):
    frames = b"3\r\nabc\r\n0\r\n\r\n"
    answer = raw.put_framed(cluster.s3, f"/{stored}/k", frames, 3, signed=True, trailer=None)
    assert 400 <= answer.status < 500, answer
    size = 9 << 20  # more than one signed chunk may have: it would have to be held in memory
    frame = b"%x;chunk-signature=%b\r\n" % (size, b"0" * 64)
    answer = raw.put_framed(cluster.s3, f"/{stored}/k", frame, size, signed=True, trailer=None)
    assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


@pytest.mark.parametrize("trailer", ["x-amz-checksum-sha512", "x-amz-meta-color"])
def test_a_trailer_that_we_cannot_check_is_refused(cluster, s3, stored, trailer):
    frames = b"3\r\nabc\r\n0\r\n" + trailer.encode() + b":AAAA\r\n\r\n"
    answer = raw.put_framed(cluster.s3, f"/{stored}/k", frames, 3, trailer=trailer)
    assert 400 <= answer.status <= 501, answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


# -- what a signature covers ---------------------------------------------------------------


def test_a_presigned_url_does_no_more_than_was_signed(cluster, s3, stored):
    s3.put_object(Bucket=stored, Key="secret", Body=b"secret")
    path = raw.presign(cluster.s3, "PUT", f"/{stored}/k")
    for name, value in (
        ("x-amz-copy-source", f"/{stored}/secret"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-meta-color", "red"),
        ("x-amz-website-redirect-location", "https://evil.example"),
    ):
        answer = raw.send(cluster.s3, "PUT", path, {name: value}, b"x")
        assert (answer.status, answer.code) == (403, "AccessDenied"), (name, answer)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"
    assert raw.send(cluster.s3, "PUT", path, {"Content-Type": "text/plain"}, b"x").status == 200


def test_parameters_of_a_presigned_url_count_as_headers(cluster, s3, stored):
    query = [("x-amz-meta-color", "dark red"), ("x-amz-tagging", "a=b")]
    path = raw.presign(cluster.s3, "PUT", f"/{stored}/k", query=query)
    assert raw.send(cluster.s3, "PUT", path, body=b"x").status == 200
    assert s3.head_object(Bucket=stored, Key="k")["Metadata"] == {"color": "dark red"}
    assert s3.get_object_tagging(Bucket=stored, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    for promise in (("x-amz-acl", "public-read"), ("x-amz-server-side-encryption", "AES256")):
        path = raw.presign(cluster.s3, "PUT", f"/{stored}/k", query=[promise])
        answer = raw.send(cluster.s3, "PUT", path, body=b"y")
        assert (answer.status, answer.code) == (501, "NotImplemented"), answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"x"


def signed_v2(bucket, moment):
    date = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
    text = f"GET\n\n\n{date}\n/{bucket}/k"
    digest = hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()
    signature = base64.b64encode(digest).decode()
    return {"Date": date, "Authorization": f"AWS {ACCESS_KEY}:{signature}"}


def test_a_signature_of_version_2_is_good_for_a_quarter_of_an_hour(cluster, stored):
    now = raw.now()
    answer = raw.send(cluster.s3, "GET", f"/{stored}/k", signed_v2(stored, now))
    assert (answer.status, answer.body) == (200, b"data"), answer
    for minutes in (-20, 20):
        moment = now + datetime.timedelta(minutes=minutes)
        answer = raw.send(cluster.s3, "GET", f"/{stored}/k", signed_v2(stored, moment))
        assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed"), answer


# -- requests that nearly mean something else ----------------------------------------------


def test_a_parameter_in_the_wrong_place_never_changes_anything(cluster, s3, stored):
    upload = s3.create_multipart_upload(Bucket=stored, Key="k")["UploadId"]
    for method, path, query in (
        ("PUT", "/k", [("uploadId", upload)]),  # the part number was forgotten
        ("PUT", "/k", [("partNumber", "1")]),
        ("PUT", "/k", [("append", "")]),
        ("PUT", "/k", [("versions", "")]),
        ("DELETE", "/k", [("uploads", "")]),
        ("DELETE", "/k", [("versionId", "")]),
        ("DELETE", "/k", [("retention", "")]),
        ("DELETE", "/k", [("unheard-of", "")]),
        ("DELETE", "", [("uploads", "")]),
        ("DELETE", "", [("versions", "")]),
        ("DELETE", "", [("unheard-of", "")]),
        ("PUT", "", [("unheard-of", "")]),
        ("GET", "/k", [("uploads", "")]),
        ("GET", "/k", [("unheard-of", "")]),
        ("GET", "", [("unheard-of", "")]),
    ):
        data = b"changed" if method == "PUT" and path else None
        answer = raw.request(cluster.s3, method, f"/{stored}{path}", query=query, body=data)
        assert answer.status in (400, 501), (method, path, query, answer)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"
    s3.abort_multipart_upload(Bucket=stored, Key="k", UploadId=upload)


def test_headers_of_a_copy_without_its_source_are_refused(cluster, s3, stored):
    for headers in (
        {"x-amz-copy-source-range": "bytes=0-1"},
        {"x-amz-copy-source-if-match": "x"},
        {"x-amz-copy-source-range": "bytes=0-1", "x-amz-copy-source": f"/{stored}/k"},
    ):
        answer = raw.request(cluster.s3, "PUT", f"/{stored}/new", headers=headers, body=b"")
        assert answer.status in (400, 501), (headers, answer)
    with refused("404"):
        s3.head_object(Bucket=stored, Key="new")


def test_a_redirect_location_that_is_none_is_refused(s3, stored):
    with refused("InvalidRedirectLocation", 400):
        s3.put_object(Bucket=stored, Key="k", Body=b"x", WebsiteRedirectLocation="elsewhere")


def test_who_is_refused_before_the_body_is_told_to_hang_up(cluster, stored):
    """The body stays with the client: what follows on the connection would be taken for it."""
    signer, host = raw.Signer(), cluster.s3.removeprefix("http://")
    path, kind = f"/{stored}/k", "UNSIGNED-PAYLOAD"
    headers = {
        "Host": host,
        "X-Amz-Date": signer.date,
        "X-Amz-Content-Sha256": kind,
        "X-Amz-Acl": "public-read",
    }
    signature, names = signer.signature("PUT", path, (), headers, kind)
    headers["Authorization"] = (
        f"{raw.ALGORITHM} Credential={signer.access_key}/{signer.scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest("PUT", path, skip_host=True, skip_accept_encoding=True)
    for name, value in {**headers, "Expect": "100-continue", "Content-Length": "7"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = raw.Answer(connection.getresponse())
    connection.close()
    assert (answer.status, answer.code) == (501, "NotImplemented"), answer
    assert answer.headers["connection"] == "close", answer


def test_who_is_refused_in_the_middle_of_the_body_still_hears_why(cluster, stored):
    """Most clients send everything before they listen: the rest of the body is read away."""
    data = b"x" * (8 << 20)
    for headers, code in (
        ({"X-Amz-Acl": "public-read"}, "NotImplemented"),
        ({"Content-MD5": "AAAA"}, "InvalidDigest"),
    ):
        answer = raw.request(cluster.s3, "PUT", f"/{stored}/k", headers=headers, body=data)
        assert answer.code == code, answer
    assert raw.request(cluster.s3, "PUT", f"/{stored}/k", body=data, tamper=True).status == 403
    # on one connection: the next request is understood
    connection = http.client.HTTPConnection(cluster.s3.removeprefix("http://"), timeout=10)
    connection.request("PUT", f"/{stored}/k", body=data)
    assert raw.Answer(connection.getresponse()).code == "AccessDenied"
    connection.request("GET", raw.presign(cluster.s3, "GET", f"/{stored}/k"))
    assert raw.Answer(connection.getresponse()).body == b"data"
    connection.close()


# -- switches ------------------------------------------------------------------------------


def test_with_the_switch_on_unsigned_requests_act_as_the_first_user(own_cluster):
    users = '\n[[s3.users]]\nname = "bob"\naccess_key = "bob-key"\nsecret_key = "bob-secret-01"\n'
    cluster = own_cluster(config="[s3]\nanonymous = true\n" + users, scale={"storage": 1})
    first, bob = client(cluster.s3), client(cluster.s3, "bob-key", "bob-secret-01")
    open_bucket, closed = unique(), unique()
    first.create_bucket(Bucket=open_bucket)
    bob.create_bucket(Bucket=closed)
    bob.put_object(Bucket=closed, Key="k", Body=b"bob's")
    path = f"/{open_bucket}/k"
    assert raw.send(cluster.s3, "PUT", path, body=b"anyone").status == 200
    assert raw.send(cluster.s3, "GET", path).body == b"anyone"
    assert b"<Key>k</Key>" in raw.send(cluster.s3, "GET", f"/{open_bucket}").body
    for method, where in (("GET", f"/{closed}/k"), ("GET", f"/{closed}"), ("DELETE", f"/{closed}/k")):
        answer = raw.send(cluster.s3, method, where)
        assert (answer.status, answer.code) == (403, "AccessDenied"), answer
    framed = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "3",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    answer = raw.send(cluster.s3, "PUT", path, framed, b"3\r\nabc\r\n" + END)
    assert answer.status == 501, answer  # rather than stored with its framing
    assert raw.send(cluster.s3, "GET", path).body == b"anyone"


def test_a_busy_edge_says_so_in_xml(own_cluster):
    cluster = own_cluster(config="[http]\nmax_in_flight = 1\n", scale={"storage": 1})
    s3, name = client(cluster.s3), unique()
    s3.create_bucket(Bucket=name)
    holder = http.client.HTTPConnection(cluster.s3.removeprefix("http://"), timeout=30)
    holder.putrequest("PUT", raw.presign(cluster.s3, "PUT", f"/{name}/k"))
    holder.putheader("Content-Length", "10")
    holder.putheader("Expect", "100-continue")
    holder.endheaders()
    assert holder.sock.recv(100).startswith(b"HTTP/1.1 100 "), "it is in work"
    answer = raw.request(cluster.s3, "GET", f"/{name}")
    assert (answer.status, answer.code) == (503, "SlowDown"), answer
    assert answer.headers["retry-after"] == "1"
    holder.send(b"1234567890")
    assert holder.getresponse().status == 200
    holder.close()


# -- metrics -------------------------------------------------------------------------------


def test_requests_are_counted_by_operation(cluster, s3, stored):
    def count(operation, status):
        text = raw.send(cluster.s3, "GET", "/metrics").body.decode()
        series = re.compile(
            r"^http_requests_total\{(?=[^}]*edge=\"s3\")"
            rf"(?=[^}}]*operation=\"{operation}\")(?=[^}}]*status=\"{status}\")[^}}]*\}} (\d+)$",
            re.MULTILINE,
        )
        return sum(int(value) for value in series.findall(text))

    before = {name: count(name, 200) for name in ("GetObject", "ListObjectsV2", "PutObject")}
    s3.get_object(Bucket=stored, Key="k")["Body"].read()
    s3.list_objects_v2(Bucket=stored)
    s3.put_object(Bucket=stored, Key="k", Body=b"data")
    for name, value in before.items():
        assert count(name, 200) == value + 1, name
    unknown = count("Unknown", 403)
    raw.request(cluster.s3, "GET", f"/{stored}/k", tamper=True)
    assert count("Unknown", 403) == unknown + 1
    raw.request(cluster.s3, "BREW", f"/{stored}/k")
    assert b"BREW" not in raw.send(cluster.s3, "GET", "/metrics").body

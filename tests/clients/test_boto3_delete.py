"""Step b. Multi-delete."""

from support import raw
from support.data import md5_base64
from support.s3 import keys, refused


def test_many_objects_are_deleted_by_one_request(s3, bucket):
    names = [f"k-{n:04}" for n in range(60)]
    for key in names:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in names[:50]]}
    )
    assert sorted(entry["Key"] for entry in done["Deleted"]) == names[:50]
    assert "Errors" not in done
    assert keys(s3.list_objects_v2(Bucket=bucket)) == names[50:]


def test_a_thousand_keys_fit_and_missing_ones_count_as_deleted(s3, bucket):
    names = [{"Key": f"missing-{n}"} for n in range(1000)]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": names})
    assert len(done["Deleted"]) == 1000 and "Errors" not in done


def test_more_than_a_thousand_keys_are_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k-0", Body=b"x")
    with refused("MalformedXML", 400):
        s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": f"k-{n}"} for n in range(1001)]}
        )
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k-0"]


def test_quiet_mode_names_only_errors(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}], "Quiet": True})
    assert not done.get("Deleted") and not done.get("Errors")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_keys_with_xml_characters_are_deleted(s3, bucket):
    names = ["<a>&amp;\"'", "a b", "日本", "😀", "100%", "a//b/../c"]
    for key in names:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in names]})
    assert sorted(entry["Key"] for entry in done["Deleted"]) == sorted(names)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_body_that_is_not_the_right_xml_is_refused(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for body in (b"", b"not xml", b"<Delete><Object><Key>k</Key>", b"<Other/>"):
        headers = {"Content-MD5": md5_base64(body)}
        answer = raw.request(
            cluster.s3, "POST", f"/{bucket}", query=[("delete", "")], headers=headers, body=body
        )
        assert answer.status == 400, (body, answer)
        assert answer.code in ("MalformedXML", "MissingRequestBodyError", "InvalidRequest"), answer
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k"]


def test_a_wrong_content_md5_deletes_nothing(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    headers = {"Content-MD5": md5_base64(b"other")}
    answer = raw.request(
        cluster.s3, "POST", f"/{bucket}", query=[("delete", "")], headers=headers, body=body
    )
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k"]

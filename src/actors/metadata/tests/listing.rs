//! Listings against a naive model, page by page (LIST-2, LIST-3).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What a listing must give: keys and common prefixes in order.
fn naive(keys: &BTreeSet<String>, prefix: &str, delimiter: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let rest = &key[prefix.len()..];
        let line = match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => format!("{prefix}{}", &rest[..at + delimiter.len()]),
            None => key.clone(),
        };
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}

fn name(entry: &ListEntry) -> String {
    match entry {
        ListEntry::Object { key, .. } => key.clone(),
        ListEntry::CommonPrefix { prefix } => prefix.clone(),
    }
}

fn list(
    bench: &Bench,
    prefix: &str,
    delimiter: &str,
    start: ListStart,
    max: u32,
) -> (Vec<ListEntry>, Option<String>) {
    let query = Query::ListObjects {
        bucket: "b".to_owned(),
        prefix: prefix.to_owned(),
        delimiter: delimiter.to_owned(),
        start,
        max,
    };
    match bench.query(query).unwrap() {
        QueryReply::Listing { entries, next, .. } => (entries, next),
        other => panic!("{other:?}"),
    }
}

fn all_pages(bench: &Bench, prefix: &str, delimiter: &str, max: u32) -> Vec<String> {
    let (mut lines, mut start) = (Vec::new(), ListStart::First);
    loop {
        let (entries, next) = list(bench, prefix, delimiter, start, max);
        lines.extend(entries.iter().map(name));
        match next {
            Some(entry) => {
                assert_eq!(entries.len(), max as usize, "LIST-3");
                start = ListStart::AfterEntry { entry };
            }
            None => return lines,
        }
    }
}

/// (key, version id, newest) lines of all versions, over pages of `max`.
fn all_versions(
    bench: &Bench,
    prefix: &str,
    delimiter: &str,
    max: u32,
) -> Vec<(String, String, bool)> {
    let (mut lines, mut key_marker, mut version_marker) = (Vec::new(), None, None);
    loop {
        let query = Query::ListVersions {
            bucket: "b".to_owned(),
            prefix: prefix.to_owned(),
            delimiter: delimiter.to_owned(),
            key_marker,
            version_marker,
            max,
        };
        let QueryReply::Versions { entries, next_key, next_version, .. } =
            bench.query(query).unwrap()
        else {
            panic!()
        };
        lines.extend(entries.into_iter().map(|entry| match entry {
            VersionEntry::Version { key, version_id, latest, .. }
            | VersionEntry::DeleteMarker { key, version_id, latest, .. } => {
                (key, version_id, latest)
            }
            VersionEntry::CommonPrefix { prefix } => (prefix, String::new(), false),
        }));
        if next_key.is_none() {
            return lines;
        }
        (key_marker, version_marker) = (next_key, next_version);
    }
}

fn key() -> impl Strategy<Value = String> {
    "[ab/\u{0}é–]{1,6}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn listings_of_objects_and_versions_agree_with_the_model(
        writes in prop::collection::vec((key(), any::<bool>()), 1..40),
        prefix in prop_oneof![Just(String::new()), "[ab/é]{0,2}"],
        delimiter in prop::sample::select(vec!["", "/", "//", "é", "–", "a", "ab"]),
        start in key(),
        max in 1..5u32,
    ) {
        let mut bench = Bench::new();
        bench.versioning(Versioning::Enabled);
        let mut keys = BTreeSet::new();
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (n, (key, is_put)) in writes.iter().enumerate() {
            let vid = format!("v{n}");
            versions.entry(key.clone()).or_default().insert(0, vid.clone());
            if *is_put {
                bench.put(key, &vid);
                keys.insert(key.clone());
            } else {
                bench.delete(key, None, &vid);
                keys.remove(key);
            }
        }
        let wanted = naive(&keys, &prefix, delimiter);
        prop_assert_eq!(&all_pages(&bench, &prefix, delimiter, max), &wanted);
        prop_assert_eq!(&all_pages(&bench, &prefix, delimiter, 1000), &wanted);

        let after: Vec<_> = wanted.iter().filter(|line| **line > start).cloned().collect();
        let later: BTreeSet<_> = keys.iter().filter(|key| **key > start).cloned().collect();
        let after_key = ListStart::AfterKey { key: start.clone() };
        let (entries, _) = list(&bench, &prefix, delimiter, after_key, 1000);
        let got: Vec<_> = entries.iter().map(name).collect();
        prop_assert_eq!(got, naive(&later, &prefix, delimiter));
        let after_entry = ListStart::AfterEntry { entry: start.clone() };
        let (entries, _) = list(&bench, &prefix, delimiter, after_entry, 1000);
        let got: Vec<_> = entries.iter().map(name).collect();
        prop_assert_eq!(got, after);

        let every: BTreeSet<String> = versions.keys().cloned().collect();
        let mut lines = Vec::new();
        for line in naive(&every, &prefix, delimiter) {
            match versions.get(&line).filter(|_| !(line.len() > prefix.len()
                && !delimiter.is_empty() && line[prefix.len()..].contains(delimiter))) {
                Some(ids) => lines.extend(ids.iter().enumerate().map(|(i, id)| {
                    (line.clone(), id.clone(), i == 0)
                })),
                None => lines.push((line, String::new(), false)),
            }
        }
        prop_assert_eq!(&all_versions(&bench, &prefix, delimiter, max), &lines);
        prop_assert_eq!(&all_versions(&bench, &prefix, delimiter, 1000), &lines);
    }
}

#[test]
fn a_page_is_cut_by_bytes_and_goes_on_without_a_gap() {
    let mut bench = Bench::new();
    let keys: Vec<String> = (0..300).map(|n| format!("{n:04}{}", "x".repeat(1000))).collect();
    for key in &keys {
        bench.put(key, "");
    }
    let (first, next) = list(&bench, "", "", ListStart::First, 1000);
    assert!(first.len() < 300 && next.is_some());
    let (second, _) = list(&bench, "", "", ListStart::AfterEntry { entry: next.unwrap() }, 1000);
    let got: Vec<String> = first.iter().chain(&second).map(name).collect();
    assert_eq!(got[..], keys[..got.len()]);
}

#[test]
fn uploads_are_listed_by_key_and_id_over_pages() {
    let mut bench = Bench::new();
    let uploads =
        [("a/1", "u1"), ("a/2", "u2"), ("b", "u3"), ("b", "u4"), ("b", "u5"), ("c", "u6")];
    for (key, id) in uploads {
        bench.ok(Command::CreateUpload {
            bucket: "b".to_owned(),
            key: key.to_owned(),
            upload_id: id.to_owned(),
            object: NewObject::default(),
            checksum: None,
            now_ms: 1,
        });
    }
    for max in 1..7 {
        let (mut lines, mut key_marker, mut upload_marker) = (Vec::new(), None, None);
        loop {
            let query = Query::ListUploads {
                bucket: "b".to_owned(),
                prefix: String::new(),
                delimiter: "/".to_owned(),
                key_marker,
                upload_marker,
                max,
            };
            let QueryReply::Uploads { entries, next_key, next_upload } =
                bench.query(query).unwrap()
            else {
                panic!()
            };
            lines.extend(entries.into_iter().map(|entry| match entry {
                UploadEntry::Upload { upload_id, .. } => upload_id,
                UploadEntry::CommonPrefix { prefix } => prefix,
            }));
            if next_key.is_none() {
                break;
            }
            (key_marker, upload_marker) = (next_key, next_upload);
        }
        assert_eq!(lines, ["a/", "u3", "u4", "u5", "u6"], "pages of {max}");
    }
}

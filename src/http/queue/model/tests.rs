//! Both generations' bodies of the queue's API, and what is refused.

use serde_json::json;

use super::*;
use crate::http::json::input::parse;

fn refused<T: Input>(body: Value) -> (u16, String) {
    match parse::<T>(body.to_string().as_bytes()) {
        Ok(_) => (0, String::new()),
        Err(error) => (error.code, error.field.unwrap_or_default()),
    }
}

#[test]
fn an_object_key_is_a_bucket_and_a_key_with_slashes() {
    let path = split_object_key("photos/2026//a/").unwrap();
    assert_eq!((path.bucket.as_str(), path.key.as_str()), ("photos", "2026//a/"));
    for bad in ["", "photos", "photos/", "/key", "Photos/key"] {
        let error = split_object_key(bad).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (422, Some("object_key")), "{bad}");
    }
}

#[test]
fn refused_tasks_name_the_field() {
    let invalid = |field: &str| (422, field.to_owned());
    assert_eq!(refused::<NewDeleteTask>(json!({})), invalid("object_key"));
    let done = json!({ "object_key": "photos/a", "status": "completed" });
    assert_eq!(refused::<NewDeleteTask>(done), invalid("status"));
    let save = |object: Value| json!({ "object_key": "photos/a", "object": object });
    let rows = [
        (json!({ "bucket": "other" }), invalid("object.bucket")),
        (json!({ "key": "b" }), invalid("object.key")),
        (json!({ "size": 4, "data": "aGVsbG8=" }), invalid("object.size")),
        (json!({ "data": "?" }), invalid("object.data")),
        (json!({ "size": 5, "data": "aGVsbG8=" }), (0, String::new())),
        (json!({ "size": 5, "data": null }), (0, String::new())),
        (json!({ "bucket": "photos", "key": "a" }), (0, String::new())),
    ];
    for (object, expected) in rows {
        let text = object.to_string();
        assert_eq!(refused::<NewSaveTask>(save(object)), expected, "{text}");
    }
    assert_eq!(refused::<StatusRequest>(json!({ "status": "running" })), invalid("status"));
    assert_eq!(refused::<StatusRequest>(json!({ "status": "odd" })), invalid("status"));
    let task = |more: Value| {
        let mut body = json!({ "type": "delete_file", "object_key": "photos/a" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused::<NewTaskRequest>(body)
    };
    assert_eq!(task(json!({ "scheduled_at": "tomorrow" })), invalid("scheduled_at"));
    assert_eq!(task(json!({ "priority": 256 })), invalid("priority"));
    assert_eq!(task(json!({ "max_retries": 1001 })), invalid("max_retries"));
}

#[test]
fn a_given_id_is_kept_and_an_odd_one_refused() {
    assert_eq!(task_id(&Some("del_1".into()), "del"), Ok("del_1".into()));
    assert!(task_id(&None, "save").unwrap().starts_with("save_"));
    for bad in ["a/b", "a b", "ä", &"x".repeat(129)] {
        assert_eq!(task_id(&Some(bad.to_owned()), "del").unwrap_err().code, 422, "{bad}");
    }
}

#[test]
fn examples_are_accepted_by_their_own_checks() {
    assert_eq!(refused::<NewDeleteTask>(NewDeleteTask::example()).0, 0);
    assert_eq!(refused::<NewSaveTask>(NewSaveTask::example()).0, 0);
    assert_eq!(refused::<StatusRequest>(StatusRequest::example()).0, 0);
    assert_eq!(refused::<NewTaskRequest>(NewTaskRequest::example()).0, 0);
}

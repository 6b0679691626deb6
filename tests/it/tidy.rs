//! The rules of the house that a program can check (ARCHITECTURE.md, CONTRIBUTING.md).

use std::path::Path;

/// Which room may use which; what is not listed may use nothing of ours. ARCHITECTURE.md draws it.
const ROOMS: [(&str, &[&str]); 14] = [
    ("types", &[]),
    ("points", &[]),
    ("faults", &[]),
    ("config", &["types"]),
    ("events", &["types"]),
    ("metrics", &["types"]),
    ("cluster", &["types", "metrics"]),
    ("data", &["types", "metrics", "cluster"]),
    ("replica", &["types", "points", "events", "metrics", "cluster", "data"]),
    ("actors", &["types", "points", "config", "events", "metrics", "cluster", "data", "replica"]),
    ("objects", &["types", "points", "config", "events", "metrics", "cluster", "data", "actors"]),
    ("http", &["types", "config", "events", "metrics", "cluster", "replica", "actors", "objects"]),
    (
        "node",
        &[
            "types", "points", "config", "events", "metrics", "cluster", "data", "replica",
            "actors", "objects", "http",
        ],
    ),
    ("cli", &["types", "config", "events", "cluster", "actors", "http", "node"]),
];
/// A file has fewer lines.
const LINES: usize = 500;

/// One Rust file.
pub struct Source {
    /// Relative to the repository.
    pub path: String,
    pub text: String,
}

impl Source {
    /// The lines that are compiled outside tests, without comments; empty for a file of tests.
    pub fn code(&self) -> String {
        let of_tests = |part: &str| matches!(part, "tests" | "tests.rs" | "fake.rs");
        if self.path.split('/').any(of_tests) {
            return String::new();
        }
        let mut code = String::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                skip_item(&mut lines);
            } else if !line.trim_start().starts_with("//") {
                code += line;
                code.push('\n');
            }
        }
        code
    }

    fn room(&self) -> Option<&str> {
        Some(self.path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs"))
    }
}

/// Skips what an attribute belongs to: up to a `;` or to the brace that closes it, as rustfmt
/// indents it.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let Some(first) = lines.find(|line| !line.trim_start().starts_with("#[")) else { return };
    let indent = first.len() - first.trim_start().len();
    if first.ends_with(';') || first.ends_with('}') {
        return;
    }
    let closes = |line: &&str| line.starts_with(&format!("{}}}", " ".repeat(indent)));
    let _ = lines.find(closes);
}

/// The Rust files below a folder of the repository.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "no Rust files below {folder}");
    found
}

fn all() -> Vec<Source> {
    let mut all = sources("src");
    all.extend(sources("tests"));
    all
}

/// Fails with all findings at once.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn files_are_short_and_say_at_their_head_what_they_are() {
    let mut findings = Vec::new();
    for Source { path, text } in all() {
        let lines = text.lines().count();
        if lines >= LINES {
            findings.push(format!("{path} has {lines} lines: {LINES} and more are too many"));
        }
        if !text.starts_with("//! ") {
            findings.push(format!("{path} does not begin with `//! ` and what it is"));
        }
        if path.ends_with("/mod.rs") {
            findings.push(format!("{path}: foo.rs and foo/, never mod.rs"));
        }
    }
    none(findings);
}

/// The names that follow `crate::` in a line, groups included.
fn rooms_used(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue; // some_crate::
        }
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split(';').next().unwrap_or_default(),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap(),
        };
        let mut depth = 0;
        for name in names.split_inclusive(['{', '}', ',']) {
            let word =
                name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            if depth == 0 && !word.is_empty() {
                used.push(word.to_owned());
            }
            depth += name.matches('{').count() as i32 - name.matches('}').count() as i32;
        }
    }
    used
}

#[test]
fn rooms_use_only_what_lies_below_them() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let Some(room) = source.room().filter(|r| !["lib", "main"].contains(r)) else { continue };
        let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            findings.push(format!("{}: the room {room} stands in no rule", source.path));
            continue;
        };
        for used in rooms_used(&source.code()) {
            let is_room = ROOMS.iter().any(|(name, _)| *name == used);
            if is_room && used != room && !may.contains(&used.as_str()) {
                findings.push(format!("{}: {room} must not use {used}", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn nothing_is_left_to_do_and_nothing_unwraps_outside_tests() {
    let banned = ["todo!", "unimplemented!", ".unwrap()", ".unwrap_err()", "dbg!(", "FIXME", "XXX"];
    let mut findings = Vec::new();
    for source in sources("src") {
        for line in source.code().lines() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}: {word} in {:?}", source.path, line.trim()));
            }
        }
    }
    none(findings);
}

#[test]
fn the_checks_see_what_they_should() {
    let text = "//! A file.\nuse crate::{config::Config, cluster::{Wire, To}, http};\n\
        fn a() { crate::node::x().unwrap() }\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\n\
        mod more {\n    fn b() { crate::cli::y() }\n}\nfn c() { my_crate::types::z() }\n";
    let source = Source { path: "src/data/a.rs".into(), text: text.into() };
    assert_eq!(source.room(), Some("data"));
    let code = source.code();
    assert!(code.contains(".unwrap()") && code.contains("my_crate") && !code.contains("cli"));
    assert_eq!(rooms_used(&code), ["config", "cluster", "http", "node"]);
    let tests = Source { path: "src/data/tests/a.rs".into(), text: text.into() };
    assert_eq!(tests.code(), "");
}

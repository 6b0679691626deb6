//! Tests of the catalog as a whole; here the bench that they share: a catalog in a scratch folder
//! with three storage nodes, shorthands for commands, and a dump of all tables.

mod crash;
mod images;
mod intents;
mod listing;
mod multipart;
mod random;
mod rebalance;
mod semantics;

use rusqlite::types::Value;

use super::command::*;
use super::digest::ROWS;
use super::model::*;
use super::outbox::*;
use super::query::*;
use super::reader::CatalogReader;
use super::store::{Catalog, Fatal};
use crate::replica::Keyed;
use crate::types::DataId;

/// A catalog, a reader on it, and a clock that moves by one second a command.
struct Bench {
    catalog: Catalog,
    reader: CatalogReader,
    dir: tempfile::TempDir,
    now: u64,
    ids: u128,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        let catalog = Catalog::open(&path).unwrap();
        let reader = CatalogReader::open(&path).unwrap();
        let mut bench = Bench { catalog, reader, dir, now: 1_000_000, ids: 0 };
        for command in setup() {
            bench.ok(command);
        }
        bench
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.now += 1_000;
        let index = self.catalog.applied_index() + 1;
        apply(&mut self.catalog, index, &[command]).unwrap().remove(0)
    }

    fn ok(&mut self, command: Command) -> Applied {
        self.apply(command).unwrap()
    }

    fn query(&self, query: Query) -> Answer {
        let answer = self.reader.query(&query).unwrap();
        assert!(bincode::serialize(&answer).unwrap().len() <= 192 * 1024, "QUERY-1");
        answer
    }

    fn versioning(&mut self, state: Versioning) {
        let change = BucketChange::Versioning { state };
        self.ok(Command::ConfigureBucket { name: "b".to_owned(), change });
    }

    /// A commit of fresh data under `key`; `vid` counts where the bucket is versioned.
    fn put_command(&mut self, key: &str, vid: &str) -> Command {
        self.ids += 1;
        put(self.ids, key, vid, self.now)
    }

    fn put(&mut self, key: &str, vid: &str) -> Applied {
        let command = self.put_command(key, vid);
        self.ok(command)
    }

    fn put_if(&mut self, key: &str, condition: Precondition) -> Outcome {
        let mut command = self.put_command(key, "v");
        if let Command::Commit { precondition, .. } = &mut command {
            *precondition = condition;
        }
        self.apply(command)
    }

    fn delete(&mut self, key: &str, vid: Option<&str>, marker: &str) -> DeletedItem {
        let command = delete(key, vid, marker, self.now);
        let Applied::Deleted { mut items } = self.ok(command) else { panic!("not a delete") };
        items.remove(0).unwrap()
    }

    fn found(&self, key: &str, vid: Option<&str>) -> Found {
        let version_id = vid.map(str::to_owned);
        let (bucket, key) = ("b".to_owned(), key.to_owned());
        match self.query(Query::Lookup { bucket, key, version_id }).unwrap() {
            QueryReply::Object { found, .. } => found,
            other => panic!("{other:?}"),
        }
    }

    /// The ETag of what a key holds, or a word for what it holds instead.
    fn shows(&self, key: &str, vid: Option<&str>) -> String {
        match self.found(key, vid) {
            Found::Object { info, .. } => info.etag,
            Found::DeleteMarker { .. } => "marker".to_owned(),
            Found::Deleted => "deleted".to_owned(),
            Found::Absent => "absent".to_owned(),
            Found::NoSuchVersion => "no version".to_owned(),
        }
    }

    fn object(&self, key: &str) -> (ObjectInfo, Vec<PartRow>) {
        match self.found(key, None) {
            Found::Object { info, parts, .. } => (*info, parts),
            other => panic!("{other:?}"),
        }
    }

    fn outbox(&self) -> Vec<OutboxRow> {
        match self.query(Query::Outbox { after: None, max: 1000 }).unwrap() {
            QueryReply::Outbox { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }
}

/// Applies commands without keys.
fn apply(catalog: &mut Catalog, first: u64, commands: &[Command]) -> Result<Vec<Outcome>, Fatal> {
    let keyed = |command: &Command| Keyed { key: 0, command: command.clone() };
    let commands: Vec<_> = commands.iter().map(keyed).collect();
    catalog.apply_batch(first, &commands, b"mark")
}

fn node(n: usize) -> String {
    format!("storage-service-{n}")
}

fn setup() -> Vec<Command> {
    let nodes =
        (1..=3).map(|n| Command::RegisterStorageNode { instance: node(n), catalog: 7, now_ms: 1 });
    let bucket = Command::CreateBucket { name: "b".to_owned(), owner: "me".to_owned(), now_ms: 1 };
    nodes.chain([bucket]).collect()
}

fn data(id: u128, len: u64) -> NewData {
    NewData {
        data_id: DataId(id),
        len,
        md5: md5::compute(id.to_be_bytes()).0,
        crc64: u64::MAX - id as u64,
        locations: vec![node(1), node(2)],
        missing: vec![node(3)],
        quorum: 2,
    }
}

/// A commit whose ETag is `e{id}`.
fn put(id: u128, key: &str, vid: &str, now_ms: u64) -> Command {
    let head = ObjectHead { content_type: Some("text/plain".to_owned()), ..Default::default() };
    let object = NewObject {
        version_id: vid.to_owned(),
        owner: "me".to_owned(),
        storage_class: "STANDARD".to_owned(),
        head,
        ..Default::default()
    };
    Command::Commit {
        bucket: "b".to_owned(),
        key: key.to_owned(),
        data: Some(data(id, 10)),
        size: 10,
        etag: format!("e{id}"),
        object,
        precondition: Precondition::Always,
        now_ms,
        grace_ms: 60_000,
    }
}

fn delete(key: &str, vid: Option<&str>, marker: &str, now_ms: u64) -> Command {
    let item = DeleteItem {
        key: key.to_owned(),
        version_id: vid.map(str::to_owned),
        marker_id: marker.to_owned(),
        if_match: None,
    };
    let items = vec![item];
    Command::Delete { bucket: "b".to_owned(), items, request: 0, now_ms, grace_ms: 60_000 }
}

/// All rows of all tables, in order; and the rows that the search index knows.
fn dump(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    for sql in ROWS.into_iter().chain(["SELECT id FROM search_docsize ORDER BY id"]) {
        let mut statement = catalog.db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|i| row.get(i).unwrap()).collect();
            lines.push(format!("{sql}: {values:?}"));
        }
    }
    lines
}

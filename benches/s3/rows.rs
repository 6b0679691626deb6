//! The loads: PUT and GET of four sizes, two listings.
//!
//! A PUT always makes a new key. Each size has a bucket, written by its PUT row, read by its GET
//! row and emptied after the rows of this size.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Method;

use crate::Args;
use crate::client::{Expect, Op};
use crate::data::Data;
use crate::load::{Limit, Script, Window, drive, measure};
use crate::subject::Subject;

const SIZES: [(&str, u64); 4] =
    [("4KiB", 4 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20), ("64MiB", 64 << 20)];
/// Keys of a page.
const PAGE: u64 = 1000;
/// Common prefixes of the bucket that is listed with a delimiter.
const FOLDERS: u64 = 100;
/// Connections with which buckets are filled and emptied.
const HANDS: usize = 16;
/// No limit in time.
const PATIENT: Duration = Duration::from_secs(3600);

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// PUT of a size.
    Put(&'static str, u64),
    /// GET of a size.
    Get(&'static str, u64),
    /// A page of 1,000 keys out of all.
    ListPage,
    /// The 100 common prefixes of a bucket.
    ListFolders,
}

impl Row {
    /// All, in their order: a GET follows the PUT that fills its bucket.
    pub fn all() -> [Row; 10] {
        let [a, b, c, d] = SIZES.map(|(name, size)| [Row::Put(name, size), Row::Get(name, size)]);
        let lists = [Row::ListPage, Row::ListFolders];
        [a, b, c, d, lists].as_flattened().try_into().expect("five pairs make ten")
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Row::Put(size, _) => format!("put-{size}"),
            Row::Get(size, _) => format!("get-{size}"),
            Row::ListPage => "list-page".into(),
            Row::ListFolders => "list-folders".into(),
        }
    }

    /// The row of a name.
    pub fn named(name: &str) -> anyhow::Result<Row> {
        let found = Row::all().into_iter().find(|row| row.name() == name);
        found.with_context(|| format!("no row {name}"))
    }

    /// Bytes that one operation moves as its purpose.
    pub fn bytes(&self) -> u64 {
        match self {
            Row::Put(_, size) | Row::Get(_, size) => *size,
            Row::ListPage | Row::ListFolders => 0,
        }
    }

    fn bucket(&self) -> String {
        match self {
            Row::Put(size, _) | Row::Get(size, _) => format!("bench-{}", size.to_lowercase()),
            Row::ListPage => "bench-flat".into(),
            Row::ListFolders => "bench-tree".into(),
        }
    }

    /// Objects that one window of PUTs makes at most, which is what GETs find.
    fn objects(&self, args: &Args) -> u64 {
        Limit::new(args, self.bytes()).ops.min(1024)
    }

    /// Makes what the row reads.
    pub async fn prepare(
        &self,
        args: &Args,
        data: &Arc<Data>,
        subjects: &[Subject],
    ) -> anyhow::Result<()> {
        for subject in subjects {
            let bucket = self.bucket();
            subject.make_bucket(&bucket).await?;
            let count = match self {
                Row::Put(..) => 0,
                Row::Get(..) => self.objects(args),
                Row::ListPage | Row::ListFolders => args.list_keys,
            };
            let (row, data) = (*self, data.clone());
            let fill: Script = Arc::new(move |n| row.put(&row.key("got", n), n, &data));
            let limit = Limit { time: PATIENT, ops: count };
            drive(&subject.target, HANDS, limit, fill).await?;
        }
        Ok(())
    }

    /// One window of load.
    pub async fn run(
        &self,
        args: &Args,
        data: &Arc<Data>,
        subject: &Subject,
        round: usize,
        limit: Limit,
    ) -> anyhow::Result<Window> {
        let (row, data, args_) = (*self, data.clone(), args.clone());
        let script: Script = match self {
            Row::Put(..) => {
                Arc::new(move |n| row.put(&row.key(&format!("put-{round}"), n), n, &data))
            }
            Row::Get(..) => {
                let objects = self.objects(args);
                Arc::new(move |n| row.get(n % objects, &data))
            }
            Row::ListPage | Row::ListFolders => Arc::new(move |n| row.list(n, args_.list_keys)),
        };
        measure(subject, args.connections, limit, script).await
    }

    /// Empties the bucket of a size once both of its rows are done.
    pub async fn clean_up(&self, args: &Args, subjects: &[Subject]) -> anyhow::Result<()> {
        if let Row::Put(name, size) = self
            && args.rows.contains(&Row::Get(name, *size).name())
        {
            return Ok(());
        }
        for subject in subjects {
            subject.empty_bucket(&self.bucket()).await?;
        }
        Ok(())
    }

    fn key(&self, group: &str, n: u64) -> String {
        match self {
            Row::Put(..) | Row::Get(..) => format!("{group}/{n:08}"),
            Row::ListPage => format!("key-{n:08}"),
            Row::ListFolders => format!("folder-{:04}/key-{n:08}", n % FOLDERS),
        }
    }

    fn put(&self, key: &str, n: u64, data: &Data) -> Op {
        let body = data.object(n, self.bytes().max(1));
        Op::new(Method::PUT, format!("/{}/{key}", self.bucket()), body)
    }

    fn get(&self, n: u64, data: &Data) -> Op {
        let path = format!("/{}/{}", self.bucket(), self.key("got", n));
        let expect = Expect::Body(data.object(n, self.bytes()));
        Op { expect, ..Op::new(Method::GET, path, Bytes::new()) }
    }

    fn list(&self, n: u64, keys: u64) -> Op {
        let (query, expect) = match self {
            Row::ListFolders => {
                let prefixes = FOLDERS.min(keys) as usize;
                let expect = Expect::Entries("<CommonPrefixes>", prefixes);
                ("delimiter=%2F&list-type=2".to_owned(), expect)
            }
            _ => {
                let page = PAGE.min(keys);
                let after = match n % (keys / page) {
                    0 => String::new(),
                    n => self.key("", n * page - 1),
                };
                let expect = Expect::Entries("<Key>", page as usize);
                (format!("list-type=2&max-keys={page}&start-after={after}"), expect)
            }
        };
        let path = format!("/{}", self.bucket());
        Op { query, expect, ..Op::new(Method::GET, path, Bytes::new()) }
    }
}

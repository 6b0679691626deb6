//! `make bench`: listing and search in a catalog of a million objects, beside a plain point query
//! of SQLite on the same file in the same run. The query is the measure: where the machine is
//! slow, it is slow too.
//!
//! The bounds printed are those of the project's plan; the exit code says nothing about them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use mocks3::actors::metadata::command::{Command, NewData, NewObject, Precondition};
use mocks3::actors::metadata::model::{ObjectHead, Tag};
use mocks3::actors::metadata::query::{ListStart, Query, QueryReply};
use mocks3::actors::metadata::reader::CatalogReader;
use mocks3::actors::metadata::store::Catalog;
use mocks3::replica::Keyed;
use mocks3::types::DataId;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;

/// Commands in one transaction while the catalog is filled.
const BATCH: u64 = 512;
/// Distinct values of the tag that is searched for.
const CITIES: u64 = 50_000;
const BUCKET: &str = "bench";

/// Arguments of the bench.
#[derive(Parser)]
struct Args {
    /// Where the catalog is made (and removed).
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Objects.
    #[arg(long, default_value_t = 1_000_000)]
    objects: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 200)]
    times: usize,
    /// Seed.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`; means nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out)?;
    let dir = tempfile::Builder::new().prefix("catalog-").tempdir_in(&args.out)?;
    let path = dir.path().join("meta.db");
    let begun = Instant::now();
    let mut catalog = Catalog::open(&path)?;
    fill(&mut catalog, args.objects)?;
    catalog.checkpoint()?;
    let took = begun.elapsed();
    let each = took / args.objects.max(1) as u32;
    let bytes = std::fs::metadata(&path)?.len() / args.objects.max(1);
    println!("{} objects in {took:.1?}: {each:.1?} and {bytes} bytes each", args.objects);
    println!(
        "\n{:<36} {:>7} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "question", "entries", "mean us", "p50 us", "p99 us", "x point", "bound"
    );
    let reader = CatalogReader::open(&path)?;
    let mut random = SmallRng::seed_from_u64(args.seed);
    let sqlite = Connection::open(&path)?;
    let mut point = sqlite.prepare("SELECT size, etag FROM current WHERE bucket=?1 AND key=?2")?;
    let bucket: i64 = sqlite.query_row("SELECT no FROM bucket", [], |r| r.get(0))?;
    let base = measure(args.times * 50, || {
        let key = key(random.random_range(0..args.objects));
        let found = point.query_row((bucket, key.as_bytes()), |r| r.get::<_, i64>(0))?;
        ensure!(found == 1, "size {found}");
        Ok(())
    })?;
    base.show("point query, plain SQLite", 1, &base, None);
    for (name, query, expected, bound) in questions(args.objects) {
        let mut found = 0;
        let times = measure(args.times, || {
            found = entries_of(reader.query(&query)??).context("an answer of another kind")?;
            ensure!(expected.contains(&found), "{name}: {found} entries, not {expected:?}");
            Ok(())
        })?;
        times.show(name, found, &base, bound);
    }
    Ok(())
}

/// Name, question, how many entries it finds, how long it may take.
type Question = (&'static str, Query, RangeInclusive<usize>, Option<Duration>);

fn questions(objects: u64) -> Vec<Question> {
    let list = |prefix: &str, delimiter: &str, start| Query::ListObjects {
        bucket: BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        delimiter: delimiter.to_owned(),
        start,
        max: 1000,
    };
    let search = |text: &str, after| Query::Search {
        bucket: Some(BUCKET.to_owned()),
        text: text.to_owned(),
        after,
        max: 1000,
    };
    // A page ends at 1,000 entries or at a number of bytes.
    let all = objects.min(1000) as usize;
    let (page, ms) = (all.div_ceil(4)..=all, Duration::from_millis);
    let middle = ListStart::AfterKey { key: key(objects / 2) };
    let rare = objects / CITIES..=objects.div_ceil(CITIES);
    let rare = *rare.start() as usize..=*rare.end() as usize;
    let lookup = Query::Lookup { bucket: BUCKET.into(), key: key(7), version_id: None };
    vec![
        ("lookup", lookup, 1..=1, None),
        ("root, delimiter, one prefix of all", list("", "/", ListStart::First), 1..=1, Some(ms(1))),
        ("page in the middle", list("", "", middle), page.clone(), None),
        ("search, a rare word and a common one", search("city7 jpg", None), rare, Some(ms(50))),
        ("search, a word of all", search("jpg", None), page.clone(), Some(ms(50))),
        (
            "the same, page in the middle",
            search("jpg", Some(objects / 2)),
            page.clone(),
            Some(ms(50)),
        ),
        ("search, a word and a beginning", search("jpg pho", None), page, Some(ms(50))),
    ]
}

fn entries_of(reply: QueryReply) -> Option<usize> {
    match reply {
        QueryReply::Listing { entries, .. } => Some(entries.len()),
        QueryReply::Found { hits, .. } => Some(hits.len()),
        QueryReply::Object { .. } => Some(1),
        _ => None,
    }
}

fn key(n: u64) -> String {
    format!("photos/{:04}/{n:08}.jpg", n % 1000)
}

fn fill(catalog: &mut Catalog, objects: u64) -> anyhow::Result<()> {
    let mut index = 0;
    let mut apply = |commands: Vec<Command>| {
        let keyed = |(index, command)| Keyed { key: index, command };
        let commands: Vec<_> = (u128::from(index) + 1..).zip(commands).map(keyed).collect();
        let outcomes = catalog.apply_batch(index + 1, &commands, b"mark")?;
        index += commands.len() as u64;
        for outcome in outcomes {
            outcome?;
        }
        anyhow::Ok(())
    };
    apply(vec![
        Command::RegisterStorageNode { instance: "node".into(), catalog: 7, now_ms: 1 },
        Command::CreateBucket { name: BUCKET.into(), owner: "me".into(), now_ms: 1 },
    ])?;
    for first in (0..objects).step_by(BATCH as usize) {
        let batch = (first..objects.min(first + BATCH)).map(commit);
        apply(batch.collect())?;
    }
    Ok(())
}

fn commit(n: u64) -> Command {
    let tags = vec![Tag { key: "place".into(), value: format!("city{}", n % CITIES) }];
    let head = ObjectHead { content_type: Some("image/jpeg".into()), ..ObjectHead::default() };
    let data = NewData {
        data_id: DataId(u128::from(n + 1)),
        len: 1,
        md5: [0; 16],
        crc64: 0,
        locations: vec!["node".into()],
        missing: Vec::new(),
        quorum: 1,
    };
    Command::Commit {
        bucket: BUCKET.into(),
        key: key(n),
        data: Some(data),
        size: 1,
        etag: format!("{n:032x}"),
        object: NewObject {
            owner: "me".into(),
            storage_class: "STANDARD".into(),
            head,
            tags,
            ..NewObject::default()
        },
        precondition: Precondition::default(),
        now_ms: 1_800_000_000_000 + n,
        grace_ms: 0,
    }
}

/// How long one question took, each time.
struct Times(Vec<Duration>);

fn measure(times: usize, mut ask: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Times> {
    ask()?; // statements prepared, pages in memory
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        ask()?;
        taken.push(begun.elapsed());
    }
    taken.sort();
    Ok(Times(taken))
}

impl Times {
    fn quantile(&self, q: f64) -> f64 {
        let at = (self.0.len() as f64 * q) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    }

    fn show(&self, name: &str, entries: usize, base: &Times, bound: Option<Duration>) {
        let mean = self.0.iter().sum::<Duration>().as_secs_f64() * 1e6 / self.0.len().max(1) as f64;
        let (p50, p99) = (self.quantile(0.5), self.quantile(0.99));
        let ratio = p50 / base.quantile(0.5);
        let bound = bound.map_or("-".to_owned(), |bound| {
            let kept = p50 <= bound.as_secs_f64() * 1e6;
            format!("{bound:?} {}", if kept { "kept" } else { "OVER" })
        });
        println!(
            "{name:<36} {entries:>7} {mean:>10.1} {p50:>10.1} {p99:>10.1} {ratio:>9.1} {bound:>9}"
        );
    }
}

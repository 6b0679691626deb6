//! Opening a directory: lock, format, then every segment from its hint or by reading it.
//!
//! - OPEN-1: nothing is changed in a directory that is locked or of another format.
//! - OPEN-2: what was read from an unsealed segment is synced before it is served: it may have
//!   been in the page cache only, and an upload repeated now is answered without writing it again.
//! - OPEN-3: bytes behind the last intact record are cut, unless some of the segment was
//!   unreadable.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};

use uuid::Uuid;

use super::append::{Active, make_reserve};
use super::error::{Error, is_full};
use super::options::Options;
use super::record::ALIGN;
use super::recovery::Rebuild;
use super::report::Recovery;
use super::scan::{Checked, scan};
use super::segment::{Segment, id_of, sync_dir};
use super::{Shared, State, compact, hint, locked, sync};

/// The name of the format file.
const FORMAT: &str = "FORMAT";
/// Its first line.
const FORMAT_LINE: &str = "mocks3 segment store 1";
/// Positions are kept in 32 bits.
const LARGEST_SEGMENT: u64 = 2 << 30;

/// Opens or creates the store in `dir`.
pub fn open(dir: &Path, mut options: Options) -> Result<Shared, Error> {
    options.segment_bytes = options.segment_bytes.min(LARGEST_SEGMENT);
    fs::create_dir_all(dir).map_err(Error::io("cannot create", dir))?;
    let lock = lock(dir)?;
    let salt = salt(dir)?;
    let ids = segment_ids(dir).map_err(Error::io("cannot list", dir))?;

    let mut recovery = Recovery { segments: ids.len() as u64, ..Recovery::default() };
    let mut rebuild = Rebuild::default();
    let mut segments = BTreeMap::new();
    for id in ids {
        let segment = Segment::open(dir, id, salt, options.hook.clone(), false)
            .map_err(Error::io("cannot open a segment in", dir))?;
        let segment = Arc::new(segment);
        load(&segment, &mut rebuild, &mut recovery)?;
        segments.insert(id, segment);
    }
    let (index, highest) = rebuild.finish(&mut recovery);
    let reserve_spent = match make_reserve(dir, options.reserve_bytes) {
        Ok(()) => false,
        Err(error) if is_full(&error) => true,
        Err(error) => return Err(Error::io("cannot make the reserve in", dir)(error)),
    };
    let shared = Shared {
        dir: dir.to_owned(),
        append: Mutex::new(active(&segments, &options)?),
        options,
        salt,
        _lock: lock,
        sync: sync::GroupSync::default(),
        state: Mutex::new(State { index, segments, busy: HashSet::new() }),
        released: Condvar::new(),
        job: Mutex::new(compact::Job::default()),
        sequence: AtomicU64::new(highest + 1),
        settled: AtomicU64::new(0),
        reserve_spent: AtomicBool::new(reserve_spent),
        recovery,
    };
    // A segment's name may not be durable yet where its maker was killed.
    sync_dir(dir).map_err(Error::io("cannot sync", dir))?;
    shared.recount(&locked(&shared.append));
    Ok(shared)
}

/// Appending goes on in the newest segment, if it is not sealed and has room.
fn active(segments: &BTreeMap<u32, Arc<Segment>>, options: &Options) -> Result<Active, Error> {
    let newest = segments.last_key_value();
    let mut active = Active {
        segment: None,
        tail: 0,
        allocated: 0,
        next_id: newest.map_or(1, |(id, _)| id + 1),
    };
    if let Some((_, segment)) = newest
        && !segment.is_sealed()
        && segment.end() < options.segment_bytes
    {
        active.tail = segment.end();
        active.allocated = segment.file_len().map_err(Error::io("cannot open", segment.path()))?;
        active.segment = Some(segment.clone());
    }
    Ok(active)
}

/// Takes the records of one segment.
fn load(
    segment: &Arc<Segment>,
    rebuild: &mut Rebuild,
    recovery: &mut Recovery,
) -> Result<(), Error> {
    if let Some(records) = hint::read(segment) {
        for (pos, header) in records {
            rebuild.add(segment.id, &Checked { pos, header, intact: true });
        }
        segment.set_sealed();
        recovery.from_hints += 1;
        return Ok(());
    }
    let failed = |error| Error::io("cannot recover", segment.path())(error);
    let scan = scan(segment).map_err(failed)?;
    for record in &scan.records {
        rebuild.add(segment.id, record);
    }
    recovery.skipped_bytes += scan.skipped;
    let len = segment.file_len().map_err(failed)?;
    if scan.unreadable {
        segment.set_end(len.next_multiple_of(ALIGN));
        return Ok(());
    }
    if len > scan.end {
        recovery.cut_bytes += len - scan.end;
        segment.cut(scan.end).map_err(failed)?;
    }
    segment.sync().map_err(failed)?;
    segment.set_end(scan.end);
    segment.refresh();
    Ok(())
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::io("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(Error::io("cannot lock", &path)(error)),
    }
}

/// The store's salt from the format file, which is made in a new directory.
fn salt(dir: &Path) -> Result<u64, Error> {
    let path = dir.join(FORMAT);
    let format = |reason: String| Error::Format { path: path.clone(), reason };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !segment_ids(dir).map_err(Error::io("cannot list", dir))?.is_empty() {
                return Err(format("there are segments, but the format file is missing".into()));
            }
            return new_salt(dir).map_err(Error::io("cannot write", &path));
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(format("it is damaged".into()));
        }
        Err(error) => return Err(Error::io("cannot read", &path)(error)),
    };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if first != FORMAT_LINE {
        return Err(format(format!("expected {FORMAT_LINE:?}, found {first:?}")));
    }
    let salts: Vec<u64> =
        lines.filter_map(|l| u64::from_str_radix(l.strip_prefix("salt ")?, 16).ok()).collect();
    // Written three times, so that one damaged line does not make all records unreadable.
    match salts.as_slice() {
        [a, b, ..] if a == b => Ok(*a),
        [_, b, c] if b == c => Ok(*b),
        [a, _, c] if a == c => Ok(*a),
        _ => Err(format("its salt is damaged".into())),
    }
}

fn new_salt(dir: &Path) -> io::Result<u64> {
    let salt = Uuid::new_v4().as_u64_pair().1;
    let line = format!("salt {salt:016x}\n");
    let draft = dir.join("FORMAT.tmp");
    let mut file = File::create(&draft)?;
    write!(file, "{FORMAT_LINE}\n{line}{line}{line}")?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(FORMAT))?;
    sync_dir(dir)?;
    Ok(salt)
}

/// The segments in `dir` in order; removes drafts and hints that belong to none.
fn segment_ids(dir: &Path) -> io::Result<Vec<u32>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    let mut ids: Vec<u32> = names.iter().filter_map(|name| id_of(name)).collect();
    ids.sort_unstable();
    for name in &names {
        let hinted = name.strip_suffix(".hint").map(|stem| id_of(&format!("{stem}.dat")));
        let orphan = hinted.is_some_and(|id| id.is_none_or(|id| !ids.contains(&id)));
        if orphan || name.ends_with(".hint.tmp") {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(ids)
}

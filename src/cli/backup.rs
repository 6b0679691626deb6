//! `mocks3 backup`: the state of metadata, queue and fault injector of a running cluster, in a folder.
//!
//! - `BACKUP-4` a folder of the asked name is a whole backup: it gets the name when all is in it,
//!   was checked, and is on disk;
//! - `BACKUP-5` metadata goes first: a task that metadata no longer holds for the queue is in the
//!   queue by then, so that none is lost between the two.

pub mod manifest;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::io::AsyncWriteExt;

use super::{Failure, status};
use crate::http::admin::{ClusterView, rfc3339};
use crate::http::backup::{CLUSTER, CRC};
use crate::http::groups::GroupView;
use crate::node::restore::take;
use crate::types::{Service, now_ms};
use manifest::{Manifest, Row, checksum, image};

/// How long it is tried to get an image.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(300);
/// A node that sends nothing for so long is given up: a large image takes its time.
const SILENCE: Duration = Duration::from_secs(600);
/// How often is told how much has come.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Arguments of `mocks3 backup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mocks3 backup ./backups/monday
  mocks3 backup /mnt/b1 --url http://127.0.0.1:9081
  jq '.services[] | {service, applied, bytes}' ./backups/monday/backup.json

The cluster runs on meanwhile. The backup holds all that was acknowledged before it began: buckets,
rows of objects, uploads, tasks. It does NOT hold the bytes of objects: those stay on the storage nodes,
and an object that is deleted after the backup has no bytes any more when they were dropped there
(storage.delete_grace). `mocks3 restore` puts a backup in place.

The folder holds one image a service and backup.json: {format, version, cluster_id, taken_at,
services: [{service, group, applied, bytes, crc64nvme, digest}]}.")]
pub struct BackupArgs {
    /// The folder for the backup: new, or empty.
    dir: PathBuf,
    /// A node's HTTP address [default: the first of 127.0.0.1:8081-8085 that answers].
    #[arg(long, env = "MOCKS3_URL")]
    url: Option<String>,
    /// The `http.token` of the cluster, needed from elsewhere than its own machine.
    #[arg(long, env = "MOCKS3_HTTP__TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Runs the command.
pub fn run(args: &BackupArgs) -> Result<(), Failure> {
    let draft = Draft::begin(&args.dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let rows = runtime.map_err(Failure::run)?.block_on(async {
        let stop = super::stop_signal();
        tokio::select! {
            done = back_up(args, &draft.dir) => done,
            () = stop => Err(Failure::run("interrupted: there is no backup")),
        }
    })?;
    draft.finish()?;
    println!("backup of {rows} services in {}", args.dir.display());
    Ok(())
}

/// A backup that is not whole yet; gone when it is dropped.
struct Draft {
    dir: PathBuf,
    to: PathBuf,
    whole: bool,
}

impl Draft {
    fn begin(to: &Path) -> Result<Draft, Failure> {
        let show = to.display();
        match std::fs::read_dir(to).map(|mut files| files.next().is_some()) {
            Ok(true) => return Err(Failure::usage(format!("{show} is not empty"))),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::usage(format!("cannot use {show}: {error}")));
            }
            _ => {}
        }
        let name = to.file_name().ok_or_else(|| Failure::usage(format!("{show} has no name")))?;
        let dir = to.with_file_name(format!("{}.partial", name.to_string_lossy()));
        std::fs::create_dir(&dir).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    " (left by a backup that was killed, unless one runs now: then remove it)"
                }
                _ => "",
            };
            Failure::usage(format!("cannot make {}: {error}{hint}", dir.display()))
        })?;
        Ok(Draft { dir, to: to.to_owned(), whole: false })
    }

    /// BACKUP-4.
    fn finish(mut self) -> Result<(), Failure> {
        let sync = |dir: &Path| std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        let above = self.to.parent().filter(|dir| !dir.as_os_str().is_empty());
        let finish = || -> std::io::Result<()> {
            sync(&self.dir)?;
            std::fs::rename(&self.dir, &self.to)?;
            sync(above.unwrap_or(Path::new(".")))
        };
        finish().map_err(Failure::run)?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.whole {
            let _ = std::fs::remove_dir_all(&self.dir); // what stays is not taken for a backup
        }
    }
}

/// Fetches and checks all images; says how many.
async fn back_up(args: &BackupArgs, dir: &Path) -> Result<usize, Failure> {
    let asks = client(args, Some(Duration::from_secs(5)))?;
    let view = status::fetch(&asks, args.url.as_deref()).await?;
    let client = client(args, None)?;
    let mut manifest = Manifest::new(rfc3339(now_ms()));
    let mut groups: Vec<&GroupView> = view.groups.iter().collect();
    groups.sort_by_key(|group| group.service); // BACKUP-5: metadata is the first of all
    if groups.first().is_none_or(|group| group.service != Service::Metadata) {
        return Err(Failure::run("no instance of metadata answers"));
    }
    for group in groups {
        let service = group.service;
        let id = group.group.clone();
        let id = id.ok_or_else(|| Failure::run(format!("{service} has no group yet")))?;
        let fetched = fetch_image(&client, &view, group, dir).await.map_err(Failure::run)?;
        let (path, scratch) = (image(dir, service), dir.join("check"));
        let read = move || {
            let digest = take(service, &path, &scratch, None);
            std::fs::remove_dir_all(&scratch).map_err(|e| e.to_string())?;
            digest
        };
        let digest = tokio::task::spawn_blocking(read).await.map_err(Failure::run)?;
        let digest = digest.map_err(|e| Failure::run(format!("image of {service}: {e}")))?;
        println!("{:<10} checked: {} commands, digest {digest}", service.short(), digest.applied);
        manifest.cluster_id = fetched.cluster_id;
        manifest.services.push(Row {
            service,
            group: id,
            applied: digest.applied,
            bytes: fetched.bytes,
            crc64nvme: fetched.crc64nvme,
            digest: digest.to_string(),
        });
    }
    manifest.write(dir)?;
    Ok(manifest.services.len())
}

fn client(args: &BackupArgs, limit: Option<Duration>) -> Result<reqwest::Client, Failure> {
    let mut headers = reqwest::header::HeaderMap::new();
    if let Some(token) = &args.token {
        let value = format!("Bearer {token}").parse();
        let value = value.map_err(|_| Failure::usage("--token has characters it cannot have"))?;
        headers.insert(reqwest::header::AUTHORIZATION, value);
    }
    let builder = reqwest::Client::builder().no_proxy().default_headers(headers);
    let builder = builder.connect_timeout(Duration::from_secs(1)).read_timeout(SILENCE);
    let builder = match limit {
        Some(limit) => builder.timeout(limit),
        None => builder,
    };
    builder.build().map_err(Failure::run)
}

/// What came.
struct Fetched {
    bytes: u64,
    crc64nvme: String,
    cluster_id: String,
}

/// Fetches the image of a group from any of its replicas, the leader first.
async fn fetch_image(
    client: &reqwest::Client,
    view: &ClusterView,
    group: &GroupView,
    dir: &Path,
) -> Result<Fetched, String> {
    let service = group.service;
    let mut members: Vec<_> = view.members.iter().filter(|m| m.service == service).collect();
    members.sort_by_key(|m| Some(&m.instance) != group.leader.as_ref());
    let deadline = Instant::now() + LIMIT;
    let mut why = "no instance is known".to_owned();
    for member in members.iter().cycle() {
        println!("{:<10} from {}", service.short(), member.instance);
        let url = format!("{}/api/v1/replica/image?service={}", member.http_url, service.short());
        match download(client, &url, &image(dir, service)).await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => why = format!("{}: {error}", member.instance),
        }
        if Instant::now() > deadline {
            break;
        }
        println!("{:<10} {why}; trying again", service.short());
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("no image of {service}: {why}"))
}

async fn download(client: &reqwest::Client, url: &str, to: &Path) -> Result<Fetched, String> {
    let text = |e: reqwest::Error| crate::node::restore::full_text(&e);
    let answer = client.get(url).send().await.map_err(text)?;
    if !answer.status().is_success() {
        let status = answer.status();
        return Err(format!("{status}: {}", answer.text().await.unwrap_or_default()));
    }
    let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    let no = |what: &str| format!("the answer has no {what}");
    let crc64nvme = header(CRC).ok_or_else(|| no(CRC.as_str()))?;
    let cluster_id = header(CLUSTER).ok_or_else(|| no(CLUSTER.as_str()))?;
    let len = answer.content_length().ok_or_else(|| no("length"))?;
    let mut file = tokio::fs::File::create(to).await.map_err(|e| e.to_string())?;
    let (mut pieces, mut crc, mut bytes) = (answer.bytes_stream(), checksum(), 0);
    let mut told = Instant::now();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(text)?;
        crc.update(&piece);
        bytes += piece.len() as u64;
        file.write_all(&piece).await.map_err(|e| e.to_string())?;
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            println!("{:<10} {} of {} MiB", "", bytes >> 20, len >> 20);
        }
    }
    file.sync_all().await.map_err(|e| e.to_string())?;
    match (bytes, format!("{:016x}", crc.finalize())) == (len, crc64nvme.clone()) {
        true => Ok(Fetched { bytes, crc64nvme, cluster_id }),
        false => Err("the image came with other bytes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("monday");
        let left = || std::fs::read_dir(dir.path()).unwrap().count();
        let draft = Draft::begin(&to).unwrap();
        let second = Draft::begin(&to).map(|_| ()).unwrap_err().text;
        assert!(second.contains("one runs now"), "{second}");
        std::fs::write(draft.dir.join("a"), "a").unwrap();
        drop(draft);
        assert_eq!(left(), 0, "a half backup stays");
        std::fs::create_dir(&to).unwrap();
        let draft = Draft::begin(&to).unwrap();
        std::fs::write(draft.dir.join("a"), "a").unwrap();
        draft.finish().unwrap();
        assert_eq!((left(), std::fs::read(to.join("a")).unwrap()), (1, b"a".to_vec()));
        let again = Draft::begin(&to).map(|_| ()).unwrap_err().text;
        assert!(again.contains("is not empty"), "{again}");
    }
}

//! What the node settles with metadata, here an actor that writes down what it is told.

use std::sync::Mutex;

use super::*;
use crate::actors::metadata::command::{AbortAnswer, Applied, Command};
use crate::actors::metadata::query::{BlobInfo, DataStatus, Query, QueryReply};
use crate::actors::metadata::{self, MetadataReply};
use crate::cluster::{ActorError, Call, Context, Service as Actors};
use crate::types::now_ms;

const REFERENCED: DataId = DataId(1);
const ORPHAN: DataId = DataId(2);
const JUST_COMMITTED: DataId = DataId(3);
const ABORTED: DataId = DataId(4);
const FREED: DataId = DataId(5);
const LOST: DataId = DataId(6);
const COMING: DataId = DataId(7);
const RELEASED: DataId = DataId(8);

#[derive(Clone, Default)]
struct Catalog(Arc<Mutex<Vec<Command>>>, String);

fn blob(data_id: DataId, has: &str, lacks: &str) -> BlobInfo {
    BlobInfo {
        data_id,
        locations: vec![has.to_owned()],
        len: 500,
        md5: [0; 16],
        crc64: 0,
        references: 1,
        lacking: vec![lacks.to_owned()],
    }
}

impl Catalog {
    /// What it says of data that are moved.
    fn moved(&self, data_id: DataId) -> Option<BlobInfo> {
        match data_id {
            REFERENCED => Some(blob(data_id, &self.1, "another")),
            COMING => Some(blob(data_id, "another", &self.1)),
            RELEASED => Some(blob(data_id, "another", "a third")),
            _ => None,
        }
    }
}

impl Actors for Catalog {
    type Req = metadata::Message;
    type State = ();

    async fn start(&self, _: &mut Context) -> Result<(), ActorError> {
        Ok(())
    }

    async fn handle(
        &self,
        _: &mut Context,
        call: Call<metadata::Message>,
        (): &mut (),
    ) -> Result<(), ActorError> {
        let status = |id: &DataId| match *id {
            REFERENCED | COMING | RELEASED => DataStatus::Referenced,
            ABORTED => DataStatus::Aborted,
            FREED => DataStatus::Freed { since_ms: now_ms() },
            _ => DataStatus::Unknown,
        };
        let answer = |id: &DataId| match *id {
            JUST_COMMITTED => AbortAnswer::Referenced,
            _ => AbortAnswer::Aborted,
        };
        call.reply.send(match call.request {
            metadata::Message::Read(Query::DataStatus { data_ids }) => {
                let statuses = data_ids.iter().map(status).collect();
                MetadataReply::Read(Ok(QueryReply::DataStatus { statuses }))
            }
            metadata::Message::Read(Query::Blobs { data_ids }) => {
                let blobs = data_ids.into_iter().filter_map(|id| self.moved(id)).collect();
                MetadataReply::Read(Ok(QueryReply::Blobs { blobs }))
            }
            metadata::Message::Read(Query::BlobsAfter { after: None, .. }) => {
                let blob = |data_id| blob(data_id, &self.1, "");
                let blobs = vec![blob(REFERENCED), blob(LOST)];
                MetadataReply::Read(Ok(QueryReply::Blobs { blobs }))
            }
            metadata::Message::Apply(command) => {
                self.0.lock().unwrap().push(command.clone());
                MetadataReply::Applied(Ok(match command {
                    Command::Abort { data_ids, .. } => {
                        Applied::AbortedData { answers: data_ids.iter().map(answer).collect() }
                    }
                    Command::DropLocation { .. } => Applied::Location { live: true },
                    Command::RegisterStorageNode { .. } => Applied::Registered { catalog: 7 },
                    _ => Applied::Done,
                }))
            }
            _ => MetadataReply::Failed("not asked for".into()),
        });
        Ok(())
    }
}

/// One test, so that there is one metadata actor in this process at a time.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_registers_drops_orphans_and_reports_what_the_scrubber_finds() {
    let node = Node::start_with(|s| {
        s.orphan_check = Duration::from_millis(100);
        s.orphan_grace = Duration::from_millis(1500);
        s.scrub_rest = Duration::from_millis(100);
    })
    .await;
    let catalog = Catalog(Arc::default(), node.instance());
    let all = [REFERENCED, ORPHAN, JUST_COMMITTED, ABORTED, FREED];
    for data_id in all {
        node.write(data_id, &pattern(data_id.0 as usize, 500)).await.unwrap();
    }
    // Metadata comes late: nothing is dropped before it has spoken.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(node.stats().await.items, 5);
    let shell = Shell::new(catalog.clone(), cluster());
    let (metadata, _) = Actor::spawn(None, shell, ()).await.unwrap();
    let told = |what: &dyn Fn(&Command) -> bool| catalog.0.lock().unwrap().iter().any(what);

    let own = node.instance();
    let registered = |c: &Command| matches!(c, Command::RegisterStorageNode { instance, .. } if *instance == own);
    eventually("it registers", || async { told(&registered) }).await;
    eventually("orphans go", || async { node.stats().await.items == 3 }).await;
    for data_id in all {
        let gone = [ORPHAN, ABORTED].contains(&data_id);
        assert_eq!(node.info(data_id).await.is_none(), gone, "{data_id}");
    }
    let aborted = |c: &Command| {
        matches!(c, Command::Abort { data_ids, .. }
            if data_ids.contains(&ORPHAN) && !data_ids.contains(&ABORTED))
    };
    assert!(told(&aborted), "an orphan was dropped without being aborted first");

    let missed = |c: &Command| {
        matches!(c, Command::DropLocation { data_id, instance, .. }
            if *data_id == LOST && *instance == own)
    };
    eventually("a copy that is not here is reported", || async { told(&missed) }).await;

    discards(&node).await;

    damage(&node.dir, &pattern(REFERENCED.0 as usize, 500));
    let reported = |c: &Command| {
        matches!(c, Command::DropLocation { data_id, instance, .. }
            if *data_id == REFERENCED && *instance == own)
    };
    eventually("the scrubber finds the bad item", || async { told(&reported) }).await;
    metadata.stop(None);
}

/// What is asked to be discarded goes only where metadata does not want it (UPKEEP-3).
async fn discards(node: &Node) {
    for data_id in [COMING, RELEASED] {
        node.write(data_id, &pattern(data_id.0 as usize, 500)).await.unwrap();
    }
    let done = Ok(Reply::Done);
    for data_id in [REFERENCED, COMING, RELEASED, FREED, JUST_COMMITTED, ORPHAN] {
        assert_eq!(node.ask(Message::Discard { data_id }).await, done, "{data_id}");
        let gone = [RELEASED, FREED, ORPHAN].contains(&data_id);
        assert_eq!(node.info(data_id).await.is_none(), gone, "{data_id}");
    }
}

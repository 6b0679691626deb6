//! Openraft's own tests of what it stands on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mocks3::replica::types::{Entry, ImageMeta, ImageOf, LogId, Membership, StorageError, Types};
use mocks3::replica::{Exec, Host, Image, LogStore};
use openraft::storage::RaftStateMachine;
use openraft::testing::{StoreBuilder, Suite};
use openraft::{AnyError, OptionalSend, StorageIOError};

use crate::disk::Disk;
use crate::invariants::Observer;
use crate::machine::{Files, RegisterMachine, Shelf};

/// Hands images over as files, as the network does: openraft's tests hand them from one machine to
/// another without a network.
struct Shipping(Host<RegisterMachine>, Arc<AtomicU64>);

impl RaftStateMachine<Types> for Shipping {
    type SnapshotBuilder = Host<RegisterMachine>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        self.0.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Host<RegisterMachine> {
        self.0.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError> {
        self.0.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &ImageMeta,
        image: Box<Image>,
    ) -> Result<(), StorageError> {
        self.0.install_snapshot(meta, image).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<ImageOf>, StorageError> {
        if self.0.get_current_snapshot().await?.is_none() {
            return Ok(None);
        }
        let file = format!("/sim/image-{}", self.1.fetch_add(1, Ordering::Relaxed));
        let meta = self.0.export_to(file.clone().into()).await;
        let meta = meta.map_err(|e| StorageIOError::read_snapshot(None, AnyError::error(e)))?;
        Ok(Some(ImageOf { meta, snapshot: Box::new(Image::File(file.into())) }))
    }
}

/// Where all machines of these tests find each other's images.
#[derive(Default)]
struct Build(Files, Arc<AtomicU64>);

impl StoreBuilder<Types, LogStore, Shipping> for Build {
    async fn build(&self) -> Result<((), LogStore, Shipping), StorageError> {
        let database = redb::Builder::new().create_with_backend(Disk::default().open()).unwrap();
        let log = LogStore::open(database, Exec::Inline, Arc::new(())).unwrap();
        let machine = RegisterMachine::open(0, &Shelf::default(), &self.0, &Observer::default());
        let host = Host::new(machine, "/sim".into(), Exec::Inline, Arc::new(())).await.unwrap();
        Ok(((), log, Shipping(host, self.1.clone())))
    }
}

#[test]
fn log_and_machine_do_what_openraft_expects_of_them() {
    Suite::test_all(Build::default()).unwrap();
}

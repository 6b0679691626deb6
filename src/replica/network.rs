//! How openraft reaches the other replicas: over whatever carries our messages.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use openraft::AnyError;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetwork, RaftNetworkFactory};

use super::machine::Image;
use super::message::{Rpc, RpcReply};
use super::types::{ImageMeta, ImageOf, Peer, ReplicaId, Types, Vote};
use crate::points::{self, Point};

/// After a failure that came at once, so long nothing is asked.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an image may take to be made, moved and taken.
const IMAGE_LIMIT: Duration = Duration::from_secs(600);

/// Why a message did not come back with an answer. Whether it arrived is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CarrierError(pub String);

/// Carries messages between the replicas of one group.
pub trait Carrier: Clone + Send + Sync + 'static {
    /// Asks a replica and waits for its answer, at most so long.
    fn call(
        &self,
        to: &Peer,
        rpc: Rpc,
        limit: Duration,
    ) -> impl Future<Output = Result<RpcReply, CarrierError>> + Send;

    /// Moves a file with an image to a replica, and waits until that has taken it or refused it
    /// because it knows of a later leader; gives the vote that it knows of.
    fn image(
        &self,
        to: &Peer,
        vote: Vote,
        meta: ImageMeta,
        file: PathBuf,
        limit: Duration,
    ) -> impl Future<Output = Result<Vote, CarrierError>> + Send;
}

/// Makes a file with an image of the own machine.
pub trait Exporter: Clone + Send + Sync + 'static {
    /// Writes it, and says what it holds. The caller deletes it.
    fn export(&self) -> impl Future<Output = Result<(ImageMeta, PathBuf), String>> + Send;
}

/// The network as openraft sees it.
pub struct Network<C, X> {
    pub carrier: C,
    pub exporter: X,
}

impl<C: Carrier, X: Exporter> RaftNetworkFactory<Types> for Network<C, X> {
    type Network = Link<C, X>;

    async fn new_client(&mut self, _target: ReplicaId, node: &Peer) -> Link<C, X> {
        let (carrier, exporter) = (self.carrier.clone(), self.exporter.clone());
        Link { carrier, exporter, to: node.clone() }
    }
}

/// The way to one replica.
pub struct Link<C, X> {
    carrier: C,
    exporter: X,
    to: Peer,
}

type RpcError = RPCError<ReplicaId, Peer, RaftError<ReplicaId>>;

impl<C: Carrier, X: Exporter> Link<C, X> {
    /// Openraft retries a failed call at once, and would wait half a second for a node that is said
    /// to be unreachable: the pause between is made here.
    async fn call(&self, rpc: Rpc, option: &RPCOption) -> Result<RpcReply, RpcError> {
        let answer = self.carrier.call(&self.to, rpc, option.hard_ttl()).await;
        let failed = match answer {
            Ok(RpcReply::Failed(why)) => CarrierError(why),
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        tokio::time::sleep(PAUSE).await;
        Err(NetworkError::new(&failed).into())
    }
}

fn unexpected() -> RpcError {
    NetworkError::new(&CarrierError("an answer to another question".into())).into()
}

impl<C: Carrier, X: Exporter> RaftNetwork<Types> for Link<C, X> {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<ReplicaId>, RpcError> {
        match self.call(Rpc::Append(request), &option).await? {
            RpcReply::Append(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<ReplicaId>,
        option: RPCOption,
    ) -> Result<VoteResponse<ReplicaId>, RpcError> {
        match self.call(Rpc::Vote(request), &option).await? {
            RpcReply::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    /// Makes the image now: what it holds may be newer than what openraft thinks it sends, never
    /// older.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: ImageOf,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<ReplicaId>, StreamingError<Types, Fatal<ReplicaId>>> {
        let send = async {
            let (meta, file) = match *snapshot.snapshot {
                Image::File(file) => (snapshot.meta, file),
                Image::Live => self.exporter.export().await.map_err(CarrierError)?,
            };
            points::at(Point::ImageMade);
            let sent = self.carrier.image(&self.to, vote, meta, file.clone(), IMAGE_LIMIT).await;
            let _ = std::fs::remove_file(&file); // a leftover is overwritten by the next one
            sent
        };
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = send => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    tokio::time::sleep(PAUSE).await;
                    Err(NetworkError::new(&AnyError::error(error)).into())
                }
            },
        }
    }
}

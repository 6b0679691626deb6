//! What carries bytes between nodes: TCP, or TLS over it where `[cluster.tls]` is set.
//!
//! Sessions (`cluster/sessions.rs`) and the data plane (`data/stream.rs`) make their connections
//! here and nowhere else. TLS 1.3 with rustls and ring; both sides show a certificate that the
//! cluster's own CA has signed. A certificate names the cluster ([`NAME`]), not an address: nodes
//! move, and who may take part is the CA's decision. The proof of the cluster secret
//! (`handshake.rs`) goes on inside. The heartbeat's datagrams do not pass here: they carry no data
//! and are authenticated by the secret.
//!
//! - `TLS-1` a node with TLS neither takes nor makes a connection without it, nor the other way
//!   round;
//! - `TLS-2` a peer is believed only with a certificate that leads to the CA, at each connection
//!   anew (no session is resumed);
//! - `TLS-3` a TLS handshake takes at most [`HANDSHAKE_LIMIT`];
//! - `TLS-4` files that cannot work are refused at the start, not at the first connection.

mod complaint;
mod files;
mod trouble;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig, crypto::CryptoProvider};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::either::Either;

use complaint::Complaints;
pub use files::{FilesError, TlsFiles};
pub use trouble::{TlsTrouble, looks_like_tls};

/// The DNS name that every certificate of a cluster carries.
pub const NAME: &str = "mocks3";
/// How long a TLS handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// One connection between two nodes.
pub type Carrier = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How the connections of this node are made. Cheap to clone.
#[derive(Clone, Default)]
pub struct Transport {
    tls: Option<Tls>,
    complaints: Arc<Complaints>,
}

#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Transport {
    /// TCP alone.
    pub fn plain() -> Self {
        Transport::default()
    }

    /// TLS with these files; without any, TCP alone.
    ///
    /// # Errors
    /// When a file cannot be read, or the three do not belong together (TLS-4).
    pub fn load(files: Option<&TlsFiles>) -> Result<Self, FilesError> {
        let Some(files) = files else { return Ok(Transport::plain()) };
        let (server, client) = files.load()?;
        let tls = Tls { acceptor: server.into(), connector: client.into() };
        Ok(Transport { tls: Some(tls), complaints: Arc::default() })
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Makes the carrier of a connection that came in.
    ///
    /// # Errors
    /// See [`TlsTrouble`].
    pub async fn accept(&self, stream: TcpStream) -> Result<Carrier, TlsTrouble> {
        stream.set_nodelay(true).map_err(TlsTrouble::Io)?;
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some(tls) => in_time(async { Ok(tls.acceptor.accept(stream).await?.into()) }).await,
        }
    }

    /// Makes the carrier of a connection that we opened.
    ///
    /// # Errors
    /// See [`TlsTrouble`].
    pub async fn open(&self, stream: TcpStream) -> Result<Carrier, TlsTrouble> {
        stream.set_nodelay(true).map_err(TlsTrouble::Io)?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(stream)) };
        let name = ServerName::try_from(NAME).expect("the name is a DNS name");
        in_time(async { Ok(tls.connector.connect(name, stream).await?.into()) }).await
    }

    /// Tells the operator that a peer was refused, but not each time: strangers must not fill the
    /// log. `kind` groups the lines.
    pub fn complain(&self, kind: &'static str, peer: &str, why: &dyn std::fmt::Display) {
        self.complaints.complain(kind, peer, why);
    }
}

async fn in_time(
    handshake: impl Future<Output = io::Result<TlsStream<TcpStream>>>,
) -> Result<Carrier, TlsTrouble> {
    match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
        Ok(Ok(stream)) => Ok(Either::Right(Box::new(stream))),
        Ok(Err(error)) => Err(TlsTrouble::from_io(error)),
        Err(_) => Err(TlsTrouble::Timeout), // TLS-3
    }
}

/// The provider of all our TLS. Named at each use: `ractor_cluster` compiles aws-lc-rs in as well,
/// and rustls does not choose between two.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An acceptor that refuses everybody, for a door that must be there and must not open.
pub(crate) fn nobody() -> TlsAcceptor {
    #[derive(Debug)]
    struct NoCertificate;
    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has the cipher suites of TLS 1.3");
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(NoCertificate));
    Arc::new(config).into()
}

#[cfg(test)]
pub(crate) mod tests;

//! Why a TLS handshake failed, in words for an operator.

use std::io;

use tokio_rustls::rustls::Error;

use super::HANDSHAKE_LIMIT;

/// Why a connection did not become a carrier.
#[derive(Debug, thiserror::Error)]
pub enum TlsTrouble {
    /// The other side sent something that is no TLS.
    #[error("the peer does not speak TLS, and this node has [cluster.tls]")]
    NotTls,
    /// The other side showed no certificate, or one that does not lead to our CA.
    #[error("the peer's certificate is not good here: {0}")]
    Certificate(String),
    /// The other side refused us, most often for our certificate.
    #[error("the peer refused our side of the TLS handshake: {0} (has it another CA?)")]
    Refused(String),
    /// The other side closed the connection in the middle.
    #[error("the peer hung up during the TLS handshake (has it no [cluster.tls]?)")]
    HungUp,
    /// The other side took too long.
    #[error("the TLS handshake took longer than {HANDSHAKE_LIMIT:?}")]
    Timeout,
    /// Another breach of TLS.
    #[error("TLS handshake failed: {0}")]
    Other(String),
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(io::Error),
}

impl TlsTrouble {
    /// What `tokio_rustls` said.
    pub(super) fn from_io(error: io::Error) -> Self {
        match Self::said(&error) {
            Some(Error::InvalidMessage(_)) => TlsTrouble::NotTls,
            Some(why @ (Error::InvalidCertificate(_) | Error::NoCertificatesPresented)) => {
                TlsTrouble::Certificate(why.to_string())
            }
            Some(Error::AlertReceived(alert)) => TlsTrouble::Refused(format!("{alert:?}")),
            Some(other) => TlsTrouble::Other(other.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsTrouble::HungUp,
            None => TlsTrouble::Io(error),
        }
    }

    /// Under what an operator is to hear of it; `None` where it is all in a day's work.
    pub fn complaint(&self) -> Option<&'static str> {
        match self {
            TlsTrouble::Io(_) | TlsTrouble::Timeout => None,
            trouble => Some(trouble.name()),
        }
    }

    /// The breach of TLS behind an error of a carrier, where there is one: a certificate that the
    /// acceptor does not like shows only at the dialler's first read.
    pub fn said(error: &io::Error) -> Option<&Error> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// A short name, to group log lines.
    fn name(&self) -> &'static str {
        match self {
            TlsTrouble::NotTls => "not_tls",
            TlsTrouble::Certificate(_) => "certificate",
            TlsTrouble::Refused(_) => "refused",
            TlsTrouble::HungUp => "hung_up",
            TlsTrouble::Timeout => "timeout",
            TlsTrouble::Other(_) => "other",
            TlsTrouble::Io(_) => "io",
        }
    }
}

/// Whether what a plain connection received is the beginning of a TLS record: a handshake or an
/// alert, of any version.
pub fn looks_like_tls(first: [u8; 2]) -> bool {
    matches!(first, [0x15 | 0x16, 0x03])
}

//! The three files of `[cluster.tls]`, read and checked against each other before anything starts.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};

use super::{NAME, provider};

/// Where the files are; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CAs whose word counts.
    pub ca: PathBuf,
    /// The node's own certificate, then those between it and the CA.
    pub cert: PathBuf,
    /// The private key of the first certificate in `cert`.
    pub key: PathBuf,
}

/// Why the files cannot be used; one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file is missing, unreadable or holds something else.
    #[error("cluster.tls.{key}: cannot use {path}: {why}")]
    File {
        /// Which of the three.
        key: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key, or certificate and CA, do not belong together.
    #[error("cluster.tls: {0}")]
    Mismatch(String),
}

impl TlsFiles {
    /// The settings of both sides, checked by judging our own certificate as a peer would (TLS-4).
    pub(super) fn load(&self) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), FilesError> {
        let roots = Arc::new(self.roots()?);
        let chain = certificates("cert", &self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| refused("key", &self.key, describe(error, "private key")))?;
        let as_client = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| refused("ca", &self.ca, error))?;
        let as_server = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| refused("ca", &self.ca, error))?;
        self.judge(&chain, &*as_client, &*as_server)?;

        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring has the cipher suites of TLS 1.3")
            .with_client_cert_verifier(as_client)
            .with_single_cert(chain.clone(), key.clone_key());
        let mut server = server.map_err(|error| self.pair(error))?;
        server.send_tls13_tickets = 0; // TLS-2
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring has the cipher suites of TLS 1.3")
            .with_webpki_verifier(as_server)
            .with_client_auth_cert(chain, key);
        let mut client = client.map_err(|error| self.pair(error))?;
        client.resumption = Resumption::disabled(); // TLS-2
        Ok((Arc::new(server), Arc::new(client)))
    }

    fn roots(&self) -> Result<RootCertStore, FilesError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca", &self.ca)? {
            roots.add(certificate).map_err(|error| refused("ca", &self.ca, error))?;
        }
        Ok(roots)
    }

    /// What a peer with these very files would say of our certificate, in both roles.
    fn judge(
        &self,
        chain: &[CertificateDer<'static>],
        as_client: &dyn ClientCertVerifier,
        as_server: &dyn ServerCertVerifier,
    ) -> Result<(), FilesError> {
        let now = UnixTime::now();
        let name = ServerName::try_from(NAME).expect("the name is a DNS name");
        let (own, between) = chain.split_first().expect("a file without certificates was refused");
        let served = as_server.verify_server_cert(own, between, &name, &[], now).map(|_| ());
        let used = as_client.verify_client_cert(own, between, now).map(|_| ());
        served.and(used).map_err(|error| {
            let (cert, ca) = (self.cert.display(), self.ca.display());
            let hint = match &error {
                Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                ) => format!("; it must carry subjectAltName DNS:{NAME}"),
                _ => String::new(),
            };
            FilesError::Mismatch(format!("{cert} does not stand up to {ca}: {error}{hint}"))
        })
    }

    fn pair(&self, error: Error) -> FilesError {
        let (cert, key) = (self.cert.display(), self.key.display());
        FilesError::Mismatch(format!("{cert} and {key} do not belong together: {error}"))
    }
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| refused(key, path, describe(error, "certificate")))?;
    match found.is_empty() {
        true => Err(refused(key, path, "there is no PEM certificate in it")),
        false => Ok(found),
    }
}

fn describe(error: pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no PEM {what} in it"),
        pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn refused(key: &'static str, path: &Path, why: impl Display) -> FilesError {
    FilesError::File { key, path: path.to_owned(), why: why.to_string() }
}

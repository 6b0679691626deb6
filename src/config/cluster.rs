//! How nodes talk to each other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::units::Span;

/// The cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// How long a replica may be away before another one takes its place.
    pub remove_after: Span,
    /// TLS between nodes.
    pub tls: Tls,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster { remove_after: Span::secs(600), tls: Tls::default() }
    }
}

/// TLS between nodes: all three files, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificates of the cluster's own CA (PEM).
    pub ca: PathBuf,
    /// This node's certificate, then those between it and the CA (PEM).
    pub cert: PathBuf,
    /// The private key of the certificate (PEM).
    pub key: PathBuf,
}

impl Tls {
    /// Whether the nodes talk TLS.
    pub fn is_on(&self) -> bool {
        !self.ca.as_os_str().is_empty()
    }

    /// All three or none.
    pub(super) fn check(&self) -> Result<(), String> {
        let rows = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        let missing: Vec<&str> =
            rows.iter().filter(|(_, p)| p.as_os_str().is_empty()).map(|(name, _)| *name).collect();
        match missing.len() {
            0 | 3 => Ok(()),
            _ => Err(format!(
                "cluster.tls: {} missing: set ca, cert and key, or none of them",
                missing.join(" and ")
            )),
        }
    }

    /// Relative paths count from the folder of the configuration file.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.cert, &mut self.key] {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        }
    }
}

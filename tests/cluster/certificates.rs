//! Certificates of the tests; also used by the unit tests of `cluster::transport` and `data`.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A CA with its folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

/// Paths of the three files of `[cluster.tls]`.
#[derive(Clone)]
pub struct Papers {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new CA that keeps everything in `dir`.
    pub fn new(dir: &Path) -> Authority {
        std::fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = dir.display().to_string(); // a CA is known by its name
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir: dir.to_owned() }
    }

    /// A certificate for this DNS name, as `{stem}.pem` and `{stem}.key`.
    pub fn issue(&self, stem: &str, dns_name: &str) -> Papers {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![dns_name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.dir.join(format!("{stem}.{end}"));
        let papers = Papers { ca: self.dir.join("ca.pem"), cert: path("pem"), key: path("key") };
        std::fs::write(&papers.cert, certificate.pem()).unwrap();
        std::fs::write(&papers.key, key.serialize_pem()).unwrap();
        papers
    }
}

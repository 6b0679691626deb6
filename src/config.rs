//! The configuration: one tree, read once, then only read.
//!
//! Sources in rising order: defaults, the TOML file, environment variables
//! (`MOCKS3_STORAGE__REPLICAS=2`: section, two underscores, key). Unknown keys are refused in both.
//! Every key is documented in `config/mocks3.toml`, which a test keeps equal to the defaults.

mod cluster;
mod environment;
mod network;
mod third_party;
mod units;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use cluster::{Cluster, Tls};
pub use network::Network;
pub use third_party::{MAX_SOURCES, Source, SourceKind, ThirdParty};
pub use units::{Bytes, Span};

/// Variables with our prefix that are not config keys.
const RESERVED: [&str; 5] =
    ["MOCKS3_URL", "MOCKS3_CONFIG", "MOCKS3_LOG", "MOCKS3_SECRET", "MOCKS3_ADVERTISE"];

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read config file {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// A key or value is wrong; the text says which, where and what would be right.
    #[error("{0}: {1}")]
    Invalid(String, String),
}

/// The whole tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How nodes talk to each other.
    pub cluster: Cluster,
    /// The S3 edge.
    pub s3: S3,
    /// The HTTP edges of all services.
    pub http: Http,
    /// Object data.
    pub storage: Storage,
    /// Object metadata.
    pub metadata: Metadata,
    /// Tasks.
    pub queue: Queue,
    /// Sources outside the cluster.
    pub third_party: ThirdParty,
}

/// The S3 edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// Whether the built-in user `mocks3` / `mocks3-dev-secret` exists (loopback only).
    pub default_user: bool,
    /// Whether unsigned requests are served, as the default user.
    pub anonymous: bool,
    /// The region that `GetBucketLocation` and error texts name.
    pub region: String,
    /// Domains under which a host name `bucket.domain` addresses a bucket.
    pub domains: Vec<String>,
    /// The least size of every part of a multipart upload but the last.
    pub min_part_size: Bytes,
    /// Further users; each owns the buckets that it makes.
    pub users: Vec<User>,
}

/// One S3 user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name, the owner of its buckets.
    pub name: String,
    /// Its access key.
    pub access_key: String,
    /// Its secret key.
    pub secret_key: String,
}

/// The access key of the built-in user.
pub const DEFAULT_ACCESS_KEY: &str = "mocks3";
/// The secret key of the built-in user.
pub const DEFAULT_SECRET_KEY: &str = "mocks3-dev-secret";

impl Default for S3 {
    fn default() -> Self {
        S3 {
            default_user: true,
            anonymous: false,
            region: "us-east-1".into(),
            domains: vec!["localhost".into()],
            min_part_size: Bytes(5 << 20),
            users: Vec::new(),
        }
    }
}

impl S3 {
    /// All users, the built-in one first where it exists.
    pub fn all_users(&self) -> Vec<User> {
        let built_in = User {
            name: DEFAULT_ACCESS_KEY.into(),
            access_key: DEFAULT_ACCESS_KEY.into(),
            secret_key: DEFAULT_SECRET_KEY.into(),
        };
        let first = self.default_user.then_some(built_in);
        first.into_iter().chain(self.users.iter().cloned()).collect()
    }
}

/// The HTTP edges of all services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// The user as whom unsigned JSON writes act; empty = the first user.
    pub json_owner: String,
    /// Whether a JSON upload to a bucket that does not exist makes the bucket; otherwise it is 404.
    pub create_buckets: bool,
    /// What JSON clients that are not on loopback must send as `Authorization: Bearer`; empty = they
    /// are refused.
    pub token: String,
    /// Networks whose clients need no token.
    pub trusted_networks: Vec<Network>,
    /// How many requests one edge serves at once; more get 503 SlowDown.
    pub max_in_flight: usize,
    /// How long a client may take to send its request head.
    pub header_timeout: Span,
    /// How long a client may take none of its answer before its connection is closed.
    pub write_stall: Span,
    /// How long requests in work may go on after a stop was asked for.
    pub drain_timeout: Span,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            json_owner: String::new(),
            create_buckets: false,
            token: String::new(),
            trusted_networks: Vec::new(),
            max_in_flight: 1024,
            header_timeout: Span::secs(30),
            write_stall: Span::secs(30),
            drain_timeout: Span::secs(5),
        }
    }
}

/// How many replicas must hold data before an upload is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "QuorumText", into = "QuorumText")]
pub enum Quorum {
    /// More than half of the replicas.
    Majority,
    /// All of them.
    All,
    /// A fixed number.
    Count(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum QuorumText {
    Name(String),
    Count(usize),
}

impl TryFrom<QuorumText> for Quorum {
    type Error = String;
    fn try_from(text: QuorumText) -> Result<Self, String> {
        match text {
            QuorumText::Name(name) if name == "majority" => Ok(Quorum::Majority),
            QuorumText::Name(name) if name == "all" => Ok(Quorum::All),
            QuorumText::Count(count) if count > 0 => Ok(Quorum::Count(count)),
            _ => Err("expected \"majority\", \"all\" or a number from 1".into()),
        }
    }
}

impl From<Quorum> for QuorumText {
    fn from(quorum: Quorum) -> Self {
        match quorum {
            Quorum::Majority => QuorumText::Name("majority".into()),
            Quorum::All => QuorumText::Name("all".into()),
            Quorum::Count(count) => QuorumText::Count(count),
        }
    }
}

/// When data count as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When they are on disk (fdatasync).
    Fsync,
    /// When the operating system has them; a power loss may take them.
    Os,
}

/// Object data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// How many storage nodes hold each object, at most.
    pub replicas: usize,
    /// How many of them must have it before it is acknowledged.
    pub write_quorum: Quorum,
    /// When data count as written.
    pub durability: Durability,
    /// Size of one segment file.
    pub segment_size: Bytes,
    /// What one node may occupy; "0B" = the whole disk.
    pub quota: Bytes,
    /// How long data of a deleted or overwritten object stay for reads that run.
    pub delete_grace: Span,
    /// How long data that nobody refers to may be young (an upload in progress).
    pub orphan_grace: Span,
    /// How often a node looks for such data.
    pub orphan_check: Span,
    /// How fast the scrubber reads, per second; "0B" = it does not.
    pub scrub_rate: Bytes,
    /// How much is copied per second to bring data to the nodes that are to have them; "0B" =
    /// nothing.
    pub rebalance_rate: Bytes,
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            replicas: 3,
            write_quorum: Quorum::Majority,
            durability: Durability::Fsync,
            segment_size: Bytes::mib(256),
            quota: Bytes(0),
            delete_grace: Span::secs(60),
            orphan_grace: Span::secs(600),
            orphan_check: Span::secs(60),
            scrub_rate: Bytes::mib(20),
            rebalance_rate: Bytes::mib(20),
        }
    }
}

/// Object metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    /// How long an edge waits for an answer before the client gets 503 SlowDown.
    pub timeout: Span,
    /// When a change counts as made.
    pub durability: Durability,
}

impl Default for Metadata {
    fn default() -> Self {
        Metadata { timeout: Span::millis(1800), durability: Durability::Fsync }
    }
}

/// Tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Workers per queue instance.
    pub workers: usize,
    /// How long a worker holds a task before it must renew the lease.
    pub lease: Span,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { workers: 4, lease: Span::secs(8) }
    }
}

impl Config {
    /// Reads the file, if one is given, and the environment.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?
            }
            None => String::new(),
        };
        let name = file.map_or("environment".into(), |p| p.display().to_string());
        let ours = std::env::vars().filter(|(k, _)| k.starts_with("MOCKS3_"));
        let mut config = Self::parse(&name, &text, ours)?;
        config.cluster.tls.resolve(file.and_then(Path::parent).unwrap_or(Path::new("")));
        Ok(config)
    }

    fn parse(
        name: &str,
        text: &str,
        vars: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let invalid = |e: String| ConfigError::Invalid(name.to_owned(), e);
        let from_file: Config = toml::from_str(text).map_err(|e| invalid(e.to_string()))?;
        let mut tree = toml::Table::try_from(&from_file).map_err(|e| invalid(e.to_string()))?;
        for (key, value) in vars.filter(|(k, _)| !RESERVED.contains(&k.as_str())) {
            environment::override_key(&mut tree, &key, &value)?;
        }
        let config: Config =
            tree.try_into().map_err(|e: toml::de::Error| invalid(e.to_string()))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// What types alone cannot say.
    fn check(&self) -> Result<(), String> {
        let users = self.s3.all_users();
        if users.is_empty() && !self.s3.anonymous {
            return Err("s3: no user at all: set default_user = true, add [[s3.users]], or set \
                        anonymous = true"
                .into());
        }
        for (i, user) in users.iter().enumerate() {
            if user.name.is_empty() || user.access_key.is_empty() || user.secret_key.len() < 8 {
                return Err(format!(
                    "s3.users: user {:?} needs a name, an access_key and a secret_key of at \
                     least 8 characters",
                    user.name
                ));
            }
            if users[..i].iter().any(|u| u.access_key == user.access_key || u.name == user.name) {
                return Err(format!("s3.users: {:?} is there twice", user.name));
            }
        }
        if !self.http.json_owner.is_empty() && !users.iter().any(|u| u.name == self.http.json_owner)
        {
            return Err(format!("http.json_owner: no user is named {:?}", self.http.json_owner));
        }
        if (1..16).contains(&self.http.token.len()) {
            return Err("http.token: expected at least 16 characters".into());
        }
        if self.storage.replicas == 0 {
            return Err("storage.replicas: expected at least 1".into());
        }
        if let Quorum::Count(count) = self.storage.write_quorum
            && count > self.storage.replicas
        {
            return Err(format!(
                "storage.write_quorum: {count} is more than storage.replicas = {}",
                self.storage.replicas
            ));
        }
        if self.storage.segment_size < Bytes::mib(4) {
            return Err("storage.segment_size: expected at least \"4MiB\"".into());
        }
        self.cluster.tls.check()?;
        self.third_party.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, vars: &[(&str, &str)]) -> Result<Config, String> {
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::parse("test.toml", text, vars).map_err(|e| e.to_string())
    }

    #[test]
    fn the_documented_file_holds_every_key_with_its_default() {
        let text = include_str!("../config/mocks3.toml");
        assert_eq!(parse(text, &[]).unwrap(), Config::default());
        let documented: toml::Table = text.parse().unwrap();
        let all = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in &all {
            for key in keys.as_table().unwrap().keys() {
                let there = documented.get(section).and_then(|s| s.get(key)).is_some();
                let list = ["users", "sources"].contains(&key.as_str());
                assert!(there || list, "{section}.{key} is not documented");
            }
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let vars = [
            ("MOCKS3_STORAGE__REPLICAS", "2"),
            ("MOCKS3_STORAGE__DURABILITY", "os"),
            ("MOCKS3_STORAGE__WRITE_QUORUM", "all"),
            ("MOCKS3_URL", "http://x"),
        ];
        let config = parse("[storage]\nreplicas = 1\n", &vars).unwrap();
        assert_eq!(config.storage.replicas, 2);
        assert_eq!(config.storage.durability, Durability::Os);
        assert_eq!(config.storage.write_quorum, Quorum::All);
    }

    #[test]
    fn text_keys_take_variables_as_text_whatever_they_look_like() {
        let token = |value| parse("", &[("MOCKS3_HTTP__TOKEN", value)]).map(|c| c.http.token);
        for text in ["1234567890123456", "1234567890.123456", "2026-01-01T00:00:00Z"] {
            assert_eq!(token(text).unwrap(), text);
        }
        assert_eq!(token("\"1234567890123456\"").unwrap(), "1234567890123456", "TOML's quotes");
        assert!(token("true").unwrap_err().contains("at least 16"), "it is text, but too short");
        let region = |value| parse("", &[("MOCKS3_S3__REGION", value)]).unwrap().s3.region;
        assert_eq!((region("true"), region("7")), ("true".to_owned(), "7".to_owned()));
        let quorum = |file: &str, value| {
            parse(file, &[("MOCKS3_STORAGE__WRITE_QUORUM", value)]).map(|c| c.storage.write_quorum)
        };
        assert_eq!(quorum("", "2"), Ok(Quorum::Count(2)));
        assert_eq!(quorum("[storage]\nwrite_quorum = 2", "all"), Ok(Quorum::All));
        let grace = parse("", &[("MOCKS3_STORAGE__DELETE_GRACE", "5")]).unwrap_err();
        assert!(grace.contains("such as"), "{grace}");
    }

    #[test]
    fn files_of_tls_count_from_the_folder_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.toml");
        let text = "[cluster.tls]\nca = \"ca.pem\"\ncert = \"/abs/n.pem\"\nkey = \"k/n.key\"\n";
        std::fs::write(&file, text).unwrap();
        let tls = Config::load(Some(&file)).unwrap().cluster.tls;
        assert!(tls.is_on() && !Tls::default().is_on());
        assert_eq!(tls.ca, dir.path().join("ca.pem"));
        assert_eq!(tls.cert, Path::new("/abs/n.pem"));
        assert_eq!(tls.key, dir.path().join("k/n.key"));
        let vars = ["CA", "CERT", "KEY"].map(|k| (format!("MOCKS3_CLUSTER__TLS__{k}"), "x".into()));
        let from_env = Config::parse("env", "", vars.into_iter()).unwrap();
        assert_eq!(from_env.cluster.tls.key, Path::new("x"));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let rows: [Row; 13] = [
            ("[storage]\nreplica = 1", &[], "replica"),
            ("[stor]\nreplicas = 1", &[], "stor"),
            ("[storage]\nreplicas = 0", &[], "at least 1"),
            ("[storage]\nwrite_quorum = 4", &[], "more than storage.replicas"),
            ("[storage]\nwrite_quorum = \"most\"", &[], "majority"),
            ("[storage]\ndelete_grace = 5", &[], "such as"),
            ("[s3]\ndefault_user = false", &[], "no user at all"),
            ("[http]\ntoken = \"short\"", &[], "16 characters"),
            ("[http]\ntrusted_networks = [\"10.0.0.0/40\"]", &[], "10.0.0.0/8"),
            ("[cluster.tls]\nca = \"x\"", &[], "cert and key missing"),
            ("", &[("MOCKS3_CLUSTER__TLS__CAT", "x")], "expected one of ca, cert, key"),
            ("", &[("MOCKS3_STORAGE__REPLICA", "1")], "expected one of"),
            ("", &[("MOCKS3_STORAGE__REPLICAS", "x")], "MOCKS3_STORAGE__REPLICAS"),
        ];
        for (text, vars, expected) in rows {
            let error = parse(text, vars).unwrap_err();
            assert!(error.contains(expected), "{error:?} does not name {expected:?}");
        }
    }
}

//! The handshake in front of every connection to the cluster port.
//!
//! Both sides prove that they hold the cluster secret before either says or believes anything, and
//! before the stream reaches `ractor_cluster`, which would buffer 16 MiB for anybody. Mutual
//! challenge-response with HMAC-SHA256 (RFC 2104) over both nonces:
//!
//! ```text
//! dialler  -> acceptor   Hello   magic, version, nonce_d
//! acceptor -> dialler    Prove   nonce_a, HMAC("acceptor", nonce_d, nonce_a)
//! dialler  -> acceptor   Intro   HMAC("dialler", nonce_d, nonce_a, body), body = cluster id, who I am
//! acceptor -> dialler    Welcome HMAC("welcome", nonce_d, nonce_a, body), body = who I am, whom I know | refusal
//! ```
//!
//! - `HS-1` nothing larger than [`FRAME_LIMIT`] is read, and the buffer grows only as bytes arrive;
//! - `HS-2` the whole takes at most [`HANDSHAKE_LIMIT`];
//! - `HS-3` a node of another cluster is refused, and says so to the operator.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::codec;
use super::members::MemberInfo;
use super::transport::{self, TlsTrouble};

/// The version of this handshake and of everything that follows it.
const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"MS3C";
/// The largest frame of the handshake in bytes.
pub const FRAME_LIMIT: usize = 64 * 1024;
/// How long a handshake may take in all.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// What the members of a cluster share.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret from its text form.
    pub fn new(text: &str) -> Self {
        Secret(text.trim().as_bytes().to_vec())
    }

    /// HMAC-SHA256 over the parts, each preceded by its length.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` (or its first bytes) is the signature of the parts; constant time.
    pub fn verify(&self, tag: &[u8], parts: &[&[u8]]) -> bool {
        let right = self.sign(parts);
        let differ = tag.iter().zip(right).fold(0u8, |d, (a, b)| d | (a ^ b));
        (16..=right.len()).contains(&tag.len()) && differ == 0
    }
}

/// What the dialler says once the acceptor has proved itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intro {
    /// The cluster that it belongs to; 0 = it does not know yet.
    pub cluster_id: u128,
    /// Who it is.
    pub member: MemberInfo,
}

/// What the acceptor answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The cluster that it belongs to; 0 = it does not know yet.
    pub cluster_id: u128,
    /// Who it is.
    pub member: MemberInfo,
    /// Cluster addresses of the members that it knows.
    pub known: Vec<String>,
    /// Why a join is not taken, where it is not.
    pub refused: Option<Refused>,
}

/// Why an authenticated node was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// It belongs to another cluster.
    #[error("the peer belongs to cluster {0:032x}")]
    OtherCluster(u128),
    /// A session with this very incarnation is up already.
    #[error("a session is up already")]
    AlreadyJoined,
    /// Only the node with the smaller name dials.
    #[error("the other side dials")]
    YouWait,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed or took too long.
    #[error("connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// TLS was asked for and did not come about.
    #[error(transparent)]
    Tls(#[from] TlsTrouble),
    /// The peer took longer than [`HANDSHAKE_LIMIT`].
    #[error("handshake took longer than {HANDSHAKE_LIMIT:?}")]
    Timeout,
    /// The peer does not speak this protocol or version.
    #[error("peer speaks another protocol: {0}")]
    Protocol(&'static str),
    /// The peer does not hold the cluster secret.
    #[error("peer does not hold the cluster secret")]
    Secret,
    /// The peer said no.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl HandshakeError {
    /// Under what an operator is to hear of it; `None` where it is all in a day's work.
    pub fn complaint(&self) -> Option<&'static str> {
        match self {
            HandshakeError::Tls(trouble) => trouble.complaint(),
            HandshakeError::Io(error) => TlsTrouble::said(error).map(|_| "tls"),
            HandshakeError::Protocol(_) => Some("protocol"),
            HandshakeError::Secret => Some("secret"),
            HandshakeError::Refused(Refused::OtherCluster(_)) => Some("other_cluster"),
            HandshakeError::Refused(_) | HandshakeError::Timeout => None,
        }
    }
}

type Tag = [u8; 32];

#[derive(Serialize, Deserialize)]
struct Hello {
    magic: [u8; 4],
    version: u16,
    nonce: Tag,
}

#[derive(Serialize, Deserialize)]
struct Prove {
    nonce: Tag,
    tag: Tag,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    tag: Tag,
    body: Vec<u8>,
}

/// The dialler's side. The answer may carry a refusal; it still tells who is there.
///
/// # Errors
/// See [`HandshakeError`].
pub async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secret: &Secret,
    intro: &Intro,
) -> Result<Welcome, HandshakeError> {
    let talk = async {
        let nonce: Tag = rand::random();
        write(stream, &Hello { magic: MAGIC, version: VERSION, nonce }).await?;
        let prove: Prove = read(stream).await?;
        if !secret.verify(&prove.tag, &[b"acceptor", &nonce, &prove.nonce]) {
            return Err(HandshakeError::Secret);
        }
        let body = codec::encode(intro).map_err(|_| HandshakeError::Protocol("intro too large"))?;
        let tag = secret.sign(&[b"dialler", &nonce, &prove.nonce, &body]);
        write(stream, &Signed { tag, body }).await?;
        let answer: Signed = read(stream).await?;
        open(secret, b"welcome", &nonce, &prove.nonce, &answer)
    };
    tokio::time::timeout(HANDSHAKE_LIMIT, talk).await.map_err(|_| HandshakeError::Timeout)?
}

/// The acceptor's side: `decide` sees who called and gives the answer.
///
/// # Errors
/// See [`HandshakeError`]; a refusal that `decide` gave is an error here, too.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secret: &Secret,
    decide: impl FnOnce(&Intro) -> Welcome,
) -> Result<Intro, HandshakeError> {
    let talk = async {
        let hello: Hello = read(stream).await?;
        if hello.magic != MAGIC || hello.version != VERSION {
            return Err(HandshakeError::Protocol("magic or version"));
        }
        let nonce: Tag = rand::random();
        let tag = secret.sign(&[b"acceptor", &hello.nonce, &nonce]);
        write(stream, &Prove { nonce, tag }).await?;
        let signed: Signed = read(stream).await?;
        let intro: Intro = open(secret, b"dialler", &hello.nonce, &nonce, &signed)?;
        let welcome = decide(&intro);
        let body =
            codec::encode(&welcome).map_err(|_| HandshakeError::Protocol("welcome too large"))?;
        let tag = secret.sign(&[b"welcome", &hello.nonce, &nonce, &body]);
        write(stream, &Signed { tag, body }).await?;
        welcome.refused.map_or(Ok(intro), |why| Err(why.into()))
    };
    tokio::time::timeout(HANDSHAKE_LIMIT, talk).await.map_err(|_| HandshakeError::Timeout)?
}

fn open<T: DeserializeOwned>(
    secret: &Secret,
    side: &[u8],
    nonce_d: &Tag,
    nonce_a: &Tag,
    signed: &Signed,
) -> Result<T, HandshakeError> {
    if !secret.verify(&signed.tag, &[side, nonce_d, nonce_a, &signed.body]) {
        return Err(HandshakeError::Secret);
    }
    codec::decode(&signed.body).map_err(|_| HandshakeError::Protocol("malformed body"))
}

async fn write<S, T>(stream: &mut S, value: &T) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    let bytes = codec::encode(value).map_err(|_| HandshakeError::Protocol("frame too large"))?;
    if bytes.len() > FRAME_LIMIT {
        return Err(HandshakeError::Protocol("frame too large"));
    }
    let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
    frame.extend(bytes);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

async fn read<S, T>(stream: &mut S) -> Result<T, HandshakeError>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let [a, b, c, d] = stream.read_u32().await?.to_be_bytes();
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if transport::looks_like_tls([a, b]) {
        return Err(HandshakeError::Protocol("it speaks TLS, and this node has no [cluster.tls]"));
    }
    if len > FRAME_LIMIT {
        return Err(HandshakeError::Protocol("frame too large"));
    }
    let mut bytes = Vec::new(); // HS-1: grows as bytes arrive
    stream.take(len as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    codec::decode(&bytes).map_err(|_| HandshakeError::Protocol("malformed frame"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Service;

    fn member(name: &str) -> MemberInfo {
        MemberInfo {
            instance: name.to_owned(),
            incarnation: 7,
            services: vec![Service::Queue],
            pid: 1,
            http_url: "http://127.0.0.1:1".to_owned(),
            s3_url: None,
            data_address: None,
            cluster_address: "127.0.0.1:2".to_owned(),
        }
    }

    fn welcome(refused: Option<Refused>) -> Welcome {
        Welcome { cluster_id: 5, member: member("b"), known: vec!["127.0.0.1:3".into()], refused }
    }

    async fn talk(
        ours: &str,
        theirs: &str,
        refused: Option<Refused>,
    ) -> (Result<Welcome, HandshakeError>, Result<Intro, HandshakeError>) {
        let (mut near, mut far) = tokio::io::duplex(256);
        let (ours, theirs) = (Secret::new(ours), Secret::new(theirs));
        let intro = Intro { cluster_id: 5, member: member("a") };
        let dialler = async {
            let r = dial(&mut near, &ours, &intro).await;
            drop(near);
            r
        };
        let acceptor = async {
            let r = accept(&mut far, &theirs, |_| welcome(refused)).await;
            drop(far);
            r
        };
        tokio::join!(dialler, acceptor)
    }

    #[tokio::test]
    async fn two_nodes_with_one_secret_learn_of_each_other() {
        let (dialled, accepted) = talk("s", "s", None).await;
        assert_eq!(dialled.unwrap(), welcome(None));
        assert_eq!(accepted.unwrap().member, member("a"));
    }

    #[tokio::test]
    async fn a_wrong_secret_is_refused_before_anything_is_said() {
        let (dialled, accepted) = talk("s", "t", None).await;
        assert!(matches!(dialled, Err(HandshakeError::Secret)));
        assert!(matches!(accepted, Err(HandshakeError::Io(_))));
    }

    #[tokio::test]
    async fn a_refusal_reaches_both_sides() {
        let (dialled, accepted) = talk("s", "s", Some(Refused::OtherCluster(9))).await;
        assert_eq!(dialled.unwrap().refused, Some(Refused::OtherCluster(9)));
        assert!(matches!(accepted, Err(HandshakeError::Refused(Refused::OtherCluster(9)))));
    }

    #[tokio::test]
    async fn garbage_is_refused_and_an_announced_giant_is_not_read() {
        let inputs = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 64], vec![0; 64]];
        for bytes in inputs {
            let (mut near, mut far) = tokio::io::duplex(256);
            near.write_all(&bytes).await.unwrap();
            let result = accept(&mut far, &Secret::new("s"), |_| welcome(None)).await;
            assert!(matches!(result, Err(HandshakeError::Protocol(_))), "{result:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up_in_time() {
        let (_near, mut far) = tokio::io::duplex(256);
        let result = accept(&mut far, &Secret::new("s"), |_| welcome(None)).await;
        assert!(matches!(result, Err(HandshakeError::Timeout)));
    }

    #[test]
    fn short_or_changed_tags_do_not_verify() {
        let secret = Secret::new("s");
        let tag = secret.sign(&[b"a", b"b"]);
        assert!(secret.verify(&tag, &[b"a", b"b"]) && secret.verify(&tag[..16], &[b"a", b"b"]));
        assert!(!secret.verify(&tag[..15], &[b"a", b"b"]));
        assert!(!secret.verify(&tag, &[b"ab", b""]));
        let mut other = tag;
        other[31] ^= 1;
        assert!(!secret.verify(&other, &[b"a", b"b"]));
    }
}

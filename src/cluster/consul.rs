//! Bootstrap from Consul: registers this node, reads its peers.
//!
//! Consul only tells addresses. Losing it changes nothing for a running cluster; when it is back, also
//! wiped, nodes register again (<https://developer.hashicorp.com/consul/api-docs/agent/service>).
//!
//! - `CONSUL-1` a node that ended without a word leaves the catalogue by its TTL check;
//! - `CONSUL-2` every loop here waits after an error and ends with the node;
//! - `CONSUL-4` of two that would found a group the first in Consul's key-value store may; members
//!   write their group there at each registration, so that one that finds nothing waits for
//!   [`SILENCE`], in which all that Consul has forgotten have registered again;
//! - `CONSUL-3` every request is in the metrics of calls, callee `consul`. A `watch` takes as long as
//!   nothing changes, up to [`QUERY_WAIT`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::members::MemberInfo;
use super::sessions::Sessions;
use crate::metrics::CallTimer;
use crate::types::Service;

/// How long a check lives without being renewed, and how often it is renewed.
const TTL: &str = "10s";
const RENEW: Duration = Duration::from_secs(3);
/// The wait after an error.
const RETRY: Duration = Duration::from_secs(1);
/// How long a registered node waits for the word of others before it may found.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a blocking query may hang.
const QUERY_WAIT: Duration = Duration::from_secs(30);
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The agent that this node talks to.
#[derive(Clone)]
pub struct Consul {
    client: reqwest::Client,
    url: String,
    own: MemberInfo,
    known: Arc<dyn Groups>,
    /// Since when this node is registered without a break.
    registered: Arc<Mutex<Option<Instant>>>,
}

/// One row of `/v1/health/service/{name}`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    service: Registered,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registered {
    #[serde(default)]
    meta: std::collections::HashMap<String, String>,
}

impl Consul {
    /// An agent at `host:port`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(
        address: &str,
        own: MemberInfo,
        known: Arc<dyn Groups>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CALL_LIMIT).build()?;
        let url = format!("http://{address}");
        Ok(Consul { client, url, own, known, registered: Arc::default() })
    }

    /// Registers, keeps the registration alive and feeds peers into the dialler until `stop`; then
    /// deregisters.
    pub async fn run(self, sessions: Arc<Sessions>, stop: CancellationToken) {
        let watches = Service::ALL.map(|service| self.watch(service, &sessions));
        let work =
            futures::future::join(self.stay_registered(), futures::future::join_all(watches));
        stop.run_until_cancelled(work).await;
        for id in self.ids() {
            let path = format!("/v1/agent/service/deregister/{id}");
            if let Err(error) = self.put("deregister", &path, None).await {
                tracing::warn!(%error, id, "cannot deregister from Consul");
            }
        }
    }

    /// One registration per service of the node, under `{service}-{uuid}`.
    fn ids(&self) -> Vec<String> {
        let uuid = &self.own.instance[self.own.instance.len().saturating_sub(36)..];
        self.own.services.iter().map(|service| format!("{service}-{uuid}")).collect()
    }

    async fn stay_registered(&self) {
        let mut known = false;
        loop {
            let result = if known { self.renew().await } else { self.register().await };
            match &result {
                Ok(()) if !known => tracing::info!(url = self.url, "registered with Consul"),
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "Consul does not answer as expected"),
            }
            known = result.is_ok();
            self.note(known);
            tokio::time::sleep(if known { RENEW } else { RETRY }).await;
        }
    }

    async fn register(&self) -> Result<(), reqwest::Error> {
        for (service, id) in self.own.services.iter().zip(self.ids()) {
            let url = match (service, &self.own.s3_url) {
                (Service::Storage, Some(url)) => url,
                _ => &self.own.http_url,
            };
            let (host, port) = host_and_port(url);
            let body = json!({
                "ID": id,
                "Name": service.name(),
                "Tags": ["api", "http"],
                "Address": host,
                "Port": port,
                "Meta": {
                    "version": env!("CARGO_PKG_VERSION"),
                    "environment": "mocks3",
                    "instance": self.own.instance,
                    "cluster_address": self.own.cluster_address,
                },
                "Check": {
                    "TTL": TTL,
                    "Status": "passing",
                    "DeregisterCriticalServiceAfter": "1m",
                },
            });
            self.put("register", "/v1/agent/service/register", Some(body)).await?;
        }
        self.assert_groups().await
    }

    /// Writes down the groups that this node knows of, where nothing is written (CONSUL-4).
    async fn assert_groups(&self) -> Result<(), reqwest::Error> {
        for (service, group) in self.known.all() {
            self.claim(service, &format!("{group:032x}")).await?;
        }
        Ok(())
    }

    fn note(&self, registered: bool) {
        let mut since = self.registered.lock().expect("no panic while it is held");
        *since = registered.then(|| since.unwrap_or_else(Instant::now));
    }

    /// Whether a replica of this id may found the group of a service, as far as Consul knows
    /// (CONSUL-4).
    ///
    /// # Errors
    /// The text says why not.
    pub async fn may_found(&self, service: Service, founder: u128) -> Result<(), String> {
        let since = *self.registered.lock().expect("no panic while it is held");
        if since.is_none_or(|since| since.elapsed() < SILENCE) {
            return Err("members that Consul has forgotten may still register".into());
        }
        let mine = format!("{founder:032x}");
        self.claim(service, &mine).await.map_err(|e| e.to_string())?;
        let found = self.claimed(service).await.map_err(|e| e.to_string())?;
        match found == mine {
            true => Ok(()),
            false => Err(format!("Consul knows of a group or its founder: {found}")),
        }
    }

    /// Writes a key that is not there yet: compare-and-set against nothing.
    async fn claim(&self, service: Service, value: &str) -> Result<(), reqwest::Error> {
        let url = format!("{}{}?cas=0", self.url, key(service));
        let request = self.client.put(url).timeout(CALL_LIMIT).body(value.to_owned());
        timed("claim", async { request.send().await?.error_for_status().map(drop) }).await
    }

    async fn claimed(&self, service: Service) -> Result<String, reqwest::Error> {
        let url = format!("{}{}?raw=true", self.url, key(service));
        let request = self.client.get(url).timeout(CALL_LIMIT);
        timed("claimed", async { request.send().await?.error_for_status()?.text().await }).await
    }

    /// Fails when Consul has forgotten us: then we register again.
    async fn renew(&self) -> Result<(), reqwest::Error> {
        for id in self.ids() {
            self.put("renew", &format!("/v1/agent/check/pass/service:{id}"), None).await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        kind: &'static str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<(), reqwest::Error> {
        let request = self.client.put(format!("{}{path}", self.url)).timeout(CALL_LIMIT);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        timed(kind, async { request.send().await?.error_for_status().map(drop) }).await
    }

    /// Follows the healthy instances of one service by blocking queries.
    async fn watch(&self, service: Service, sessions: &Sessions) {
        let mut index = 0;
        loop {
            match timed("watch", self.query(service, index)).await {
                Ok((next, addresses)) => {
                    sessions.add_addresses(addresses);
                    index = if next < index { 0 } else { next }; // it was reset: start over
                }
                Err(error) => {
                    tracing::debug!(%error, %service, "query to Consul failed");
                    index = 0;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn query(
        &self,
        service: Service,
        index: u64,
    ) -> Result<(u64, Vec<String>), reqwest::Error> {
        let url = format!(
            "{}/v1/health/service/{}?passing=true&index={index}&wait={}s",
            self.url,
            service.name(),
            QUERY_WAIT.as_secs()
        );
        let request = self.client.get(url).timeout(QUERY_WAIT + CALL_LIMIT);
        let answer = request.send().await?.error_for_status()?;
        let next = answer.headers().get("x-consul-index");
        let next = next.and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
        let entries: Vec<Entry> = answer.json().await?;
        let address = |e: Entry| e.service.meta.get("cluster_address").cloned();
        let addresses = entries.into_iter().filter_map(address).collect();
        if next == 0 {
            tokio::time::sleep(RETRY).await; // no index: do not spin
        }
        Ok((next, addresses))
    }
}

/// The key under which the group of a service is written down.
fn key(service: Service) -> String {
    format!("/v1/kv/mocks3/groups/{}", service.short())
}

/// The groups of replicas that a node has heard of.
pub trait Groups: Send + Sync {
    /// Their ids, one a service.
    fn all(&self) -> BTreeMap<Service, u128>;
}

/// Counts a request (CONSUL-3).
async fn timed<T>(
    kind: &'static str,
    request: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, reqwest::Error> {
    let timer = CallTimer::begin("consul", kind);
    let result = request.await;
    timer.end(match &result {
        Ok(_) => "ok",
        Err(error) if error.is_connect() => "connect",
        Err(error) if error.is_timeout() => "deadline",
        Err(error) if error.is_status() => "refused",
        Err(_) => "broken",
    });
    result
}

/// Host and port of `http://host:port`.
fn host_and_port(url: &str) -> (&str, u16) {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    (host.trim_matches(['[', ']']), port.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        assert_eq!(host_and_port("http://127.0.0.1:8081"), ("127.0.0.1", 8081));
        assert_eq!(host_and_port("http://[::1]:8081"), ("::1", 8081));
    }
}

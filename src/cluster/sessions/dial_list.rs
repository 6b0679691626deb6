//! Which addresses the dialler calls and when; plain decisions for `sessions.rs`.
//!
//! - `DIAL-1` an address is called once at a time, and after a failure only after its backoff;
//! - `DIAL-2` at most [`ADDRESS_LIMIT`] addresses are remembered.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// How many addresses are remembered for dialling.
const ADDRESS_LIMIT: usize = 1024;

/// Which addresses to call and when: the dialler's decisions.
pub(super) struct DialList {
    own: BTreeSet<String>,
    rows: HashMap<String, DialRow>,
}

#[derive(Clone)]
struct DialRow {
    connected: bool,
    dialling: bool,
    failures: u32,
    next: Option<Instant>,
}

impl DialList {
    pub fn new(seeds: &[String], own: &str) -> Self {
        let mut list = DialList { own: BTreeSet::from([own.to_owned()]), rows: HashMap::new() };
        list.add(seeds.iter().cloned());
        list
    }

    pub fn add(&mut self, addresses: impl IntoIterator<Item = String>) {
        for address in addresses {
            if self.rows.len() < ADDRESS_LIMIT && !self.own.contains(&address) {
                let new = DialRow { connected: false, dialling: false, failures: 0, next: None };
                self.rows.entry(address).or_insert(new);
            }
        }
    }

    pub fn own_address(&mut self, address: &str) {
        self.own.insert(address.to_owned());
        self.rows.remove(address);
    }

    pub fn known(&self) -> Vec<String> {
        self.rows.iter().filter(|(_, r)| r.failures < 8).map(|(a, _)| a.clone()).take(256).collect()
    }

    pub fn settled(&self) -> bool {
        self.rows.values().all(|row| row.connected || row.failures > 0)
    }

    pub fn due(&mut self, now: Instant) -> Vec<String> {
        let idle = |r: &DialRow| !r.connected && !r.dialling && r.next.is_none_or(|at| at <= now);
        let due = self.rows.iter_mut().filter(|(_, r)| idle(r));
        due.map(|(address, row)| {
            row.dialling = true;
            address.clone()
        })
        .collect()
    }

    /// `jitter` in 0.5..1.0.
    pub fn finished(&mut self, address: &str, ok: bool, jitter: f64) {
        let Some(row) = self.rows.get_mut(address) else { return };
        row.dialling = false;
        row.failures = if ok { 0 } else { row.failures.saturating_add(1) };
        let base = Duration::from_millis(200) * 2u32.pow(row.failures.min(5));
        row.next = Some(Instant::now() + base.mul_f64(jitter));
    }

    pub fn hurry(&mut self, address: &str) {
        if let Some(row) = self.rows.get_mut(address) {
            row.next = None;
        }
    }

    pub fn connected(&mut self, address: &str) {
        self.add([address.to_owned()]);
        if let Some(row) = self.rows.get_mut(address) {
            row.connected = true;
            row.failures = 0;
        }
    }

    pub fn lost(&mut self, address: &str) {
        if let Some(row) = self.rows.get_mut(address) {
            row.connected = false;
            row.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_dialled_once_at_a_time_and_again_after_its_backoff() {
        let mut list = DialList::new(&["a:1".into(), "me:1".into()], "me:1");
        assert_eq!(list.due(Instant::now()), ["a:1"]);
        assert!(list.due(Instant::now()).is_empty(), "already dialling");
        list.finished("a:1", false, 1.0);
        assert!(list.due(Instant::now()).is_empty(), "backing off");
        tokio::time::advance(Duration::from_millis(401)).await;
        assert_eq!(list.due(Instant::now()), ["a:1"]);
        list.finished("a:1", true, 1.0);
        list.connected("a:1");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(list.due(Instant::now()).is_empty(), "in session");
        list.lost("a:1");
        assert_eq!(list.due(Instant::now()), ["a:1"], "a lost peer is called at once");
    }

    #[test]
    fn the_backoff_is_bounded_and_so_is_the_list() {
        let mut list = DialList::new(&[], "me:1");
        assert!(list.settled(), "nobody to wait for");
        list.add((0..2 * ADDRESS_LIMIT).map(|i| format!("a:{i}")));
        assert_eq!(list.rows.len(), ADDRESS_LIMIT);
        assert!(!list.settled());
        for _ in 0..100 {
            list.finished("a:1", false, 1.0);
        }
        let wait = list.rows["a:1"].next.unwrap() - Instant::now();
        assert!(wait < Duration::from_secs(7), "{wait:?}");
    }
}

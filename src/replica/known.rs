//! Which groups there are, as this node has heard: so that nobody founds a second one of a kind.
//!
//! Every node keeps the ids on its disk, also those that have no replica themselves. A replica with a
//! new disk asks all that are in session before it founds (`FOUND-4` in `found.rs`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::types::Service;

/// Keeps a group's id on disk.
type Keep = Box<dyn Fn(Service, u128) + Send + Sync>;

/// The groups that this node knows of, one a service.
pub struct KnownGroups {
    table: Mutex<BTreeMap<Service, u128>>,
    /// Those that a replica of the own node founds; nobody else may have heard of them yet.
    founding: Mutex<BTreeMap<Service, u128>>,
    keep: Keep,
}

impl KnownGroups {
    /// What the disk holds; `keep` writes what is learned.
    pub fn new(known: BTreeMap<Service, u128>, keep: Keep) -> Self {
        KnownGroups { table: Mutex::new(known), founding: Mutex::default(), keep }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Service, u128>> {
        self.table.lock().expect("no panic while the table is held")
    }

    fn founding(&self) -> MutexGuard<'_, BTreeMap<Service, u128>> {
        self.founding.lock().expect("no panic while the table is held")
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<Service, u128> {
        let mut all = self.table().clone();
        all.extend(self.founding().iter());
        all
    }

    /// The group of a service.
    pub fn get(&self, service: Service) -> Option<u128> {
        self.all().get(&service).copied()
    }

    /// A replica of the own node founds this group, or gave it up. It is not kept yet.
    pub fn founds(&self, service: Service, group: Option<u128>) {
        let mut founding = self.founding();
        match group {
            Some(group) => founding.insert(service, group),
            None => founding.remove(&service),
        };
    }

    /// A replica of the own node belongs to this group.
    pub fn is_of(&self, service: Service, group: u128) {
        self.founds(service, None);
        if self.table().insert(service, group) != Some(group) {
            (self.keep)(service, group);
        }
    }

    /// Another node has heard of these; what is known here counts more.
    pub fn heard(&self, groups: &BTreeMap<Service, u128>) {
        for (service, group) in groups {
            if self.get(*service).is_none() {
                self.is_of(*service, *group);
            }
        }
    }
}

impl crate::cluster::consul::Groups for KnownGroups {
    fn all(&self) -> BTreeMap<Service, u128> {
        KnownGroups::all(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_is_learned_is_kept_and_hearsay_overrides_nothing() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = kept.clone();
        let keep = Box::new(move |service, group| into.lock().unwrap().push((service, group)));
        let known = KnownGroups::new(BTreeMap::new(), keep);
        known.heard(&BTreeMap::from([(Service::Queue, 1)]));
        known.heard(&BTreeMap::from([(Service::Queue, 2), (Service::Metadata, 3)]));
        known.is_of(Service::Queue, 4);
        known.is_of(Service::Queue, 4);
        let expected = vec![(Service::Queue, 1), (Service::Metadata, 3), (Service::Queue, 4)];
        assert_eq!(*kept.lock().unwrap(), expected);
        assert_eq!(known.all(), BTreeMap::from([(Service::Metadata, 3), (Service::Queue, 4)]));
    }

    #[test]
    fn a_group_that_is_founded_is_told_but_kept_only_once_it_began() {
        let kept = Arc::new(Mutex::new(0));
        let count = kept.clone();
        let known =
            KnownGroups::new(BTreeMap::new(), Box::new(move |_, _| *count.lock().unwrap() += 1));
        known.founds(Service::Queue, Some(1));
        known.heard(&BTreeMap::from([(Service::Queue, 2)]));
        assert_eq!(known.get(Service::Queue), Some(1), "of two founders each is told of the other");
        known.founds(Service::Queue, None);
        assert_eq!((known.get(Service::Queue), *kept.lock().unwrap()), (None, 0), "given up");
        known.founds(Service::Queue, Some(3));
        known.is_of(Service::Queue, 3);
        assert_eq!((known.get(Service::Queue), *kept.lock().unwrap()), (Some(3), 1));
    }
}

//! The fault injector.

use crate::replica::talk;

/// The group of the fault injector's replicas.
#[derive(Clone, Debug)]
pub struct Group;

impl talk::Group for Group {
    const NAME: &'static str = "mock-error";
    const ROLE: &'static str = "fault_injector_replica";
}

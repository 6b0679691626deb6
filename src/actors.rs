//! The actors of the services: each a pure core and a thin shell, under a supervisor.

pub mod census;
pub mod fault_injector;
pub mod figures;
pub mod member;
pub mod metadata;
pub mod pace;
pub mod queue_worker;
pub mod redb_state;
pub mod replicated;
pub mod storage_node;
pub mod supervisor;
pub mod task;
pub mod third_party;
pub mod watch;

//! Restored replicas, as nodes find them: the state of the image, in a group of its own, that others
//! can join only by taking the image.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::actors::queue_worker::command::Command;
use crate::actors::queue_worker::task::{NewTask, TaskKind};
use crate::replica::images::ImagePlane;

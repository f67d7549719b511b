//! Jobs that plugins register: work outside the frame, called from inside by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::fault::{Fault, FaultKind};

/// A job's work: bytes in, bytes or a fault out, on a thread of the doors. It may block.
pub type JobWork = Arc<dyn Fn(Bytes) -> Result<Bytes, Fault> + std::marker::Send + Sync>;

/// The jobs that were registered, by name.
#[derive(Resource, Clone, Default)]
pub struct Jobs(pub(crate) BTreeMap<String, JobWork>);

impl Jobs {
    /// Does a job.
    ///
    /// # Errors
    /// The job's own, or [`FaultKind::Unimplemented`] for a name that nobody registered.
    pub fn run(&self, name: &str, body: Bytes) -> Result<Bytes, Fault> {
        let work = self.0.get(name).ok_or_else(|| {
            Fault::new(
                FaultKind::Unimplemented,
                format!("no job `{name}` was registered: add `app.job(\"{name}\", …)`"),
            )
        })?;
        work(body)
    }
}

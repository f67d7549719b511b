//! The kicks, broadcasts and events that systems requested, until the stage that carries them out.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;

use super::broadcast::Broadcast;
use super::push::QueuedPush;
use crate::ids::SessionId;

/// The requests of systems. Kicks are sorted by session and the rest by the name of its source, so that the order in
/// which systems ran does not show.
#[derive(Resource, Default)]
pub(crate) struct Asked {
    /// The sessions to close, each with its reason.
    pub(crate) kicks: BTreeMap<SessionId, String>,
    /// Room data to send.
    pub(crate) broadcasts: BySource<Broadcast>,
    /// Events to send.
    pub(crate) pushes: BySource<QueuedPush>,
}

impl Asked {
    /// Whether nothing is requested.
    pub(crate) fn is_empty(&self) -> bool {
        self.kicks.is_empty() && self.broadcasts.is_empty() && self.pushes.is_empty()
    }
}

/// Requests of one kind, each with the name of its source.
pub(crate) struct BySource<T>(Vec<(String, T)>);

impl<T> Default for BySource<T> {
    fn default() -> Self {
        BySource(Vec::new())
    }
}

impl<T> BySource<T> {
    /// Whether nothing is requested.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the requests of one source.
    pub(crate) fn add(&mut self, source: &str, requests: impl IntoIterator<Item = T>) {
        self.0.extend(requests.into_iter().map(|request| (source.to_owned(), request)));
    }

    /// Takes all requests, sorted by the names of their sources. Those of one source stay in the order in which they
    /// were made.
    pub(crate) fn take(&mut self) -> Vec<(String, T)> {
        let mut all = std::mem::take(&mut self.0);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

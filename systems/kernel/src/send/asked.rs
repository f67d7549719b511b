//! What systems and scripts want sent or done, until its place in the frame comes.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;

use super::broadcast::Broadcast;
use super::push::Waiting;
use crate::ids::SessionId;

/// What was asked for, by session and room, so that the order of asking systems does not show.
#[derive(Resource, Default)]
pub(crate) struct Asked {
    pub(crate) kicks: BTreeMap<SessionId, String>,
    pub(crate) broadcasts: BySource<Broadcast>,
    pub(crate) pushes: BySource<Waiting>,
}

impl Asked {
    pub(crate) fn is_empty(&self) -> bool {
        self.kicks.is_empty() && self.broadcasts.is_empty() && self.pushes.is_empty()
    }
}

/// What systems and scripts asked for, each with the name of who asked.
pub(crate) struct BySource<T>(Vec<(String, T)>);

impl<T> Default for BySource<T> {
    fn default() -> Self {
        BySource(Vec::new())
    }
}

impl<T> BySource<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what one source asked for.
    pub(crate) fn add(&mut self, source: &str, asked: impl IntoIterator<Item = T>) {
        self.0.extend(asked.into_iter().map(|one| (source.to_owned(), one)));
    }

    /// Takes all of it: in the order of the sources' names, and within one source in the order in which it asked. The
    /// order in which systems happen to run does not show.
    pub(crate) fn take(&mut self) -> Vec<(String, T)> {
        let mut all = std::mem::take(&mut self.0);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

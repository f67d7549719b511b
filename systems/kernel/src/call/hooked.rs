//! Which operations have hooks.

use std::collections::BTreeSet;

use bevy_ecs::prelude::*;

use crate::op::OpId;

/// Operations with a before-hook.
#[derive(Resource, Default)]
pub(crate) struct BeforeHooks(pub(crate) BTreeSet<OpId>);

/// Operations with an after-hook.
#[derive(Resource, Default)]
pub(crate) struct AfterHooks(pub(crate) BTreeSet<OpId>);

//! A request or a reply on its way: typed for its handler, plain for everyone between.

use std::any::{Any, type_name};
use std::fmt;

use bevy_ecs::prelude::*;
use serde::Serialize;

use crate::fault::Fault;

/// A request or a reply on its way between a door and a handler.
pub trait Payload: Any + erased_serde::Serialize {
    /// For taking the value out.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    /// For looking at the value.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Any + Serialize> Payload for T {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

erased_serde::serialize_trait_object!(Payload);

impl fmt::Debug for dyn Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_else(|error| format!("<{error}>")))
    }
}

impl dyn Payload {
    /// The value, by its type: for what a row was registered with, such as its binary form.
    ///
    /// # Errors
    /// `internal`: it is of another type, so that two rows were mixed up.
    pub fn as_type<T: 'static>(&self) -> Result<&T, Fault> {
        self.as_any().downcast_ref().ok_or_else(|| {
            Fault::internal(format!("a payload of another type came where a `{}` was due", type_name::<T>()))
        })
    }
}

/// A request of the wrong type can only come from a codec or hook that mixed up two rows.
pub(crate) fn unpack<Req: 'static>(request: Box<dyn Payload>) -> Result<Req, Fault> {
    let request = request.into_any().downcast::<Req>();
    request.map(|request| *request).map_err(|_| Fault::internal("a request reached the wrong handler"))
}

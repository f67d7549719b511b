//! A request or reply on its way: typed for its handler, opaque for the code in between.

use std::any::{Any, type_name};
use std::fmt;

use bevy_ecs::prelude::*;
use serde::Serialize;

use crate::fault::Fault;

/// A request or a reply on its way between a door and a handler.
pub trait Payload: Any + erased_serde::Serialize {
    /// The value as [`Any`], to take it out by its type.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    /// The value as [`Any`], to read it by its type.
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
    /// The value as a `T`: for functions of a row, such as its binary form.
    ///
    /// # Errors
    /// `internal`: the value has the wrong type, because two rows were mixed up.
    pub fn as_type<T: 'static>(&self) -> Result<&T, Fault> {
        self.as_any().downcast_ref().ok_or_else(|| {
            Fault::internal(format!("a payload has the wrong type: expected `{}`", type_name::<T>()))
        })
    }
}

/// Takes a request out by its type.
///
/// # Errors
/// `internal`: the request has the wrong type, which only a codec or hook that mixed up two rows can cause.
pub(crate) fn unpack<Req: 'static>(request: Box<dyn Payload>) -> Result<Req, Fault> {
    let request = request.into_any().downcast::<Req>();
    request.map(|request| *request).map_err(|_| Fault::internal("a request reached the wrong handler"))
}

//! The doors: UDP, WebSocket and HTTP, where outside things come in and go out.
